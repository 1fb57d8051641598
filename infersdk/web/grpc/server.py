"""The gRPC server of an app's models: on an event loop that is there, or in a thread for apps that have none."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Self

import grpc

from infersdk.predictors import Predictors
from infersdk.predictors.server_process import after_fork_in_workers, role
from infersdk.web.grpc.gone_clients import pass_over_gone_clients
from infersdk.web.grpc.health import Health
from infersdk.web.grpc.inference import InferenceService
from infersdk.web.grpc.thread import ServerThread
from infersdk.web.guard import Guard
from infersdk.web.request import Request
from infersdk.web.service import Service
from infersdk.web.settings import Settings

__all__ = ["TLS", "GRPCServer"]

logger = logging.getLogger("infersdk.grpc")

_GRACE_S = 10.0


class TLS(NamedTuple):
    """Files with which a server proves who it is.

    Attributes
    ----------
    certificate : path
        PEM: the server's certificate and those between it and the authority's.
    key : path
        PEM: its private key.
    client_authority : path or None
        PEM: clients must have a certificate that one of these has signed.
    """

    certificate: str | os.PathLike[str]
    key: str | os.PathLike[str]
    client_authority: str | os.PathLike[str] | None = None


class GRPCServer:
    """Answers the Open Inference Protocol over gRPC, and gRPC's health protocol.

    It opens no port before it is started, and can be made before a fork; it must be started after it.

    Parameters
    ----------
    models : Predictors or Service
        The models; a host's ``infer.service`` brings its settings along: limits, token, guard, counts.
    address : str
        Where it listens: ``"127.0.0.1:8001"``, ``"[::]:8001"``, ``"unix:/run/models.sock"``. Port 0 takes a
        free one.
    tls : TLS or grpc.ServerCredentials, optional
        By default connections are not encrypted.
    token : str or sequence of str, optional
        Calls other than health ask for the metadata ``authorization: Bearer ...`` with this token, or one of
        these; by default what the Service's settings say.
    guard : callable, optional
        ``guard(request)`` of the app's: False refuses a call other than health. It must not block. By default
        the Service's.
    admin : bool, optional
        Whether there are calls that open and close models; by default what the Service's settings say.
    max_message_bytes : int, optional
        The largest request that is read; by default the Service's ``max_body_bytes``, which it cannot exceed.
    share_port : bool
        Whether other processes may listen on the same port (SO_REUSEPORT): the workers of a server, among which
        the system then spreads connections.
    options : sequence of (str, object)
        gRPC's own, such as ``("grpc.max_connection_age_ms", 60_000)``.

    Attributes
    ----------
    port : int or None
        Where it listens, once it is started.

    Raises
    ------
    TypeError, ValueError
        A value is not one of these.
    """

    def __init__(
        self,
        models: Predictors | Service,
        address: str = "127.0.0.1:8001",
        *,
        tls: TLS | tuple[Any, ...] | grpc.ServerCredentials | None = None,
        token: str | Sequence[str] | None = None,
        guard: Callable[[Request], bool] | None = None,
        admin: bool | None = None,
        max_message_bytes: int | None = None,
        share_port: bool = True,
        options: Sequence[tuple[str, Any]] = (),
    ) -> None:
        if isinstance(models, Predictors):
            given = {} if max_message_bytes is None else {"max_body_bytes": max_message_bytes}
            models = Service(models, Settings(**given))  # type: ignore[arg-type]
        if not isinstance(models, Service):
            raise TypeError(
                f"Expected models to be Predictors or a Service, got {type(models).__name__}; "
                "the adapters of web frameworks have one: infer.service"
            )
        if not isinstance(address, str) or not address:
            raise ValueError(f"Expected address to be a str such as '[::]:8001', got {address!r}")
        self.service = models
        self.address = address
        settings = models.settings
        settings = replace(
            settings,
            token=settings.token if token is None else token,
            guard=guard or settings.guard,
            admin=settings.admin if admin is None else admin,
            max_body_bytes=min(settings.max_body_bytes, max_message_bytes or 2**62),
        )
        self._inference = InferenceService(
            models, Guard(settings.tokens, settings.guard), admin=settings.admin
        )
        self._tls = tls
        self._options = (
            ("grpc.max_receive_message_length", settings.max_body_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", int(share_port)),
            *options,
        )
        self.port: int | None = None
        self._server: grpc.aio.Server | None = None
        self._health: Health | None = None
        self._thread: ServerThread | None = None
        self._grace_s = _GRACE_S

    # -- on an event loop ------------------------------------------------------------------------

    async def start(self) -> None:
        """Open the models, unless they are to be opened at first use, and take connections.

        Raises
        ------
        RuntimeError
            It runs already, or nothing can listen on the address.
        Exception
            What opening a model raised.
        """
        if self._server is not None:
            raise RuntimeError(f"The gRPC server at {self.address} runs already")
        predictors = self.service.predictors
        if predictors.opening != "lazy":
            await predictors.aopen()
        pass_over_gone_clients()
        server = grpc.aio.server(options=self._options)
        health = Health(predictors)
        server.add_generic_rpc_handlers((self._inference.handler(), health.handler()))
        if self._tls is None:
            self.port = server.add_insecure_port(self.address)
        else:
            self.port = server.add_secure_port(self.address, _credentials(self._tls))
        self._server, self._health = server, health
        await server.start()
        logger.info("gRPC at %s, port %d", self.address, self.port)

    async def stop(self, grace_s: float = _GRACE_S) -> None:
        """Take no more calls, and let running ones finish. Does nothing where it does not run.

        The models stay open.

        Parameters
        ----------
        grace_s : float
            Seconds after which calls that still run are cancelled.
        """
        server, self._server = self._server, None
        if server is None:
            return
        if self._health is not None:
            self._health.stop()
        await server.stop(grace_s)
        self.port = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.stop()

    @asynccontextmanager
    async def lifespan(self, app: Any = None) -> AsyncIterator[None]:
        """Serve meanwhile: a lifespan for ASGI apps, ``FastAPI(lifespan=infer.lifespan_with(server.lifespan))``.

        Parameters
        ----------
        app : object
            Not looked at; frameworks pass theirs.

        Raises
        ------
        Exception
            As :meth:`start`.
        """
        async with self:
            yield

    # -- without one -----------------------------------------------------------------------------

    def serve_in_thread(self) -> ServerThread:
        """Start in a thread with an event loop of its own.

        Returns
        -------
        ServerThread
            Stops it: ``with server.serve_in_thread(): ...``, or ``.stop()``. It is stopped at the end of the
            process in any case.

        Raises
        ------
        RuntimeError
            As :meth:`start`; also in a process that is about to fork its workers, where they would share the
            server and none could use it, and in one where gevent has made greenlets of threads.
        Exception
            As :meth:`start`.
        """
        if role() == "master":
            raise RuntimeError(
                "This process is about to fork its workers, which cannot use a gRPC server of before; "
                "call serve_in_workers() instead"
            )
        thread = ServerThread(self, self._grace_s)
        thread.start()
        return thread

    def serve_in_workers(self, grace_s: float = _GRACE_S) -> None:
        """Start in a thread of each process in which a web server's worker runs, and nowhere else.

        For an app's module, which is imported in many processes. In a worker it starts now; in a preloading
        gunicorn's master, in each worker after the fork. In shells, migrations and tests it does nothing.

        Parameters
        ----------
        grace_s : float
            Seconds that running calls have to finish at the end of a worker.

        Raises
        ------
        Exception
            As :meth:`serve_in_thread`: the worker does not start.
        """
        self._grace_s = grace_s
        found = role()
        if found == "worker":
            self._serve_in_this_worker()
        else:
            _waiting_for_workers.append(self)  # hooks forget what nobody holds
            after_fork_in_workers(self._serve_in_this_worker)

    def _serve_in_this_worker(self) -> None:
        self._thread = self.serve_in_thread()

    def __repr__(self) -> str:
        state = "stopped" if self._server is None else f"port {self.port}"
        return f"<GRPCServer {self.address}: {state}>"


_waiting_for_workers: list[GRPCServer] = []


def _credentials(tls: Any) -> grpc.ServerCredentials:
    if isinstance(tls, grpc.ServerCredentials):
        return tls
    files = TLS(*tls)
    authority = None
    if files.client_authority is not None:
        authority = Path(files.client_authority).read_bytes()
    return grpc.ssl_server_credentials(
        [(Path(files.key).read_bytes(), Path(files.certificate).read_bytes())],
        root_certificates=authority,
        require_client_auth=authority is not None,
    )
