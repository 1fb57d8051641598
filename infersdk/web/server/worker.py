"""What runs in each worker: the models over RSGI, gRPC beside them, and an eye on slow clients and on the parent."""

from __future__ import annotations

import asyncio
import gc
import logging
import multiprocessing
import os
import signal
from collections.abc import Coroutine
from dataclasses import fields
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from infersdk.predictors import ModelConfig
from infersdk.web.asgi import InferSDK
from infersdk.web.problems import ProblemError, Reply
from infersdk.web.request import Request
from infersdk.web.rsgi import RSGIApp
from infersdk.web.server.all_workers import AllWorkers
from infersdk.web.server.options import ServerOptions
from infersdk.web.service import Service
from infersdk.web.settings import Settings

if TYPE_CHECKING:
    from infersdk.web.grpc import GRPCServer

__all__ = ["Arrivals", "WorkerApp", "WorkerLoader"]

logger = logging.getLogger("infersdk")


class WorkerLoader:
    """Makes a worker's app, in the worker: what Granian calls there instead of importing a module.

    It is sent to workers as it is when they start, so it may be told of other models between two generations.

    Parameters
    ----------
    options : ServerOptions
    models : dict of str to ModelConfig
        What workers are to open: see :func:`infersdk.web.server.preparation.prepare`.
    folder : Path
        In which workers find each other.
    """

    def __init__(
        self, options: ServerOptions, models: dict[str, ModelConfig], folder: Path
    ) -> None:
        self.options = options
        self.models = models
        self.folder = folder

    def __call__(self) -> WorkerApp:
        """Open the models and warm them up.

        Raises
        ------
        Exception
            What opening a model raised: the worker ends.
        """
        # A fork has its parent's handlers, which do nothing here. Nothing has begun: a signal may simply end it.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        # Ctrl-C goes to every process of a terminal. The parent is the one to stop the workers.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        app = WorkerApp(self.options.with_models(self.models), self.folder)
        app.infer.predictors.open()
        # What is here now stays: the garbage collector need not look at it again and again.
        gc.collect()
        gc.freeze()
        return app


class WorkerApp(RSGIApp):
    """Answers the requests of one worker.

    Parameters
    ----------
    options : ServerOptions
    folder : Path
        As for :class:`WorkerLoader`.
    """

    def __init__(self, options: ServerOptions, folder: Path) -> None:
        settings = options.settings
        given = {item.name: getattr(settings, item.name) for item in fields(Settings)}
        self.infer = InferSDK(**given)
        super().__init__(self.infer)
        self._options = options
        self._all_workers = (
            AllWorkers(self.infer.service, folder)
            if settings.metrics and options.workers > 1
            else None
        )
        self._arrivals = Arrivals(self.infer.service, options.body_timeout_s, self._all_workers)
        self._service = self._arrivals  # type: ignore[assignment]
        self._grpc: GRPCServer | None = None
        self._answer = super().__rsgi__

    def __rsgi_init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin: Granian calls it before the worker takes connections."""
        # uvloop and Granian have just set it again.
        loop.remove_signal_handler(signal.SIGINT)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        super().__rsgi_init__(loop)
        if self._options.grpc_port is not None:
            loop.run_until_complete(self._start_grpc(self._options.grpc_port))
        if self._all_workers is not None:
            loop.run_until_complete(self._all_workers.start())
        self._arrivals.watch(loop)
        _end_with_the_parent(loop, self._options.graceful_timeout_s)
        loop.call_soon(logger.info, "worker is ready")  # when it listens, after this

    def __rsgi_del__(self, loop: asyncio.AbstractEventLoop) -> None:
        """End: every request was answered, and no further one is taken."""
        if self._grpc is not None:
            loop.run_until_complete(self._grpc.stop(self._options.graceful_timeout_s))
        if self._all_workers is not None:
            loop.run_until_complete(self._all_workers.stop())
        super().__rsgi_del__(loop)

    async def __rsgi__(self, scope: Any, protocol: Any) -> None:
        """Answer one request; 408 if its body does not arrive in time."""
        if scope.method != "POST":
            await self._answer(scope, protocol)
            return
        arrivals = self._arrivals
        task: Any = asyncio.current_task()
        arrivals.begun[task] = monotonic()
        try:
            await self._answer(scope, protocol)
        except asyncio.CancelledError:
            if task not in arrivals.late:
                raise
            status, body, headers = arrivals.too_slow()
            protocol.response_bytes(status, [*headers, ("connection", "close")], body)
        finally:
            arrivals.begun.pop(task, None)
            if arrivals.late:
                arrivals.late.discard(task)

    async def _start_grpc(self, port: int) -> None:
        from infersdk.web.grpc import TLS, GRPCServer

        options = self._options
        files = options.tls
        tls = None if files is None else TLS(files.certificate, files.key, files.client_authority)
        host = f"[{options.host}]" if ":" in options.host else options.host
        self._grpc = GRPCServer(self.infer.service, f"{host}:{port}", tls=tls)
        await self._grpc.start()


class Arrivals:
    """Ends requests whose bodies do not arrive in time.

    A timer for each request would cost more than all of them together: so it is noted when a request begins, struck
    out when its body is there, and looked through now and then.

    Parameters
    ----------
    service : Service
        Answers requests whose bodies are there.
    timeout_s : float
    all_workers : AllWorkers, optional
        Writes the page of metrics.

    Attributes
    ----------
    begun : dict of Task to float
        Requests whose bodies are not there yet, and when they began.
    late : set of Task
        Those that were ended.
    """

    def __init__(
        self, service: Service, timeout_s: float, all_workers: AllWorkers | None = None
    ) -> None:
        self._service = service
        self._timeout_s = timeout_s
        self._all_workers = all_workers
        self.begun: dict[asyncio.Task[Any], float] = {}
        self.late: set[asyncio.Task[Any]] = set()
        self.refuse_early = service.refuse_early
        self.refuse = service.refuse

    def ahandle(
        self, request: Request, body: bytes | bytearray = b""
    ) -> Coroutine[Any, Any, Reply]:
        """Answer a request, whose body is there: as long as it takes from now on is the model's affair."""
        if request.method != "POST":
            if self._all_workers is not None and request.path.strip("/") == "metrics":
                return self._metrics(self._all_workers, request)
        else:
            self.begun.pop(asyncio.current_task(), None)  # type: ignore[arg-type]
        return self._service.ahandle(request, body)

    async def _metrics(self, all_workers: AllWorkers, request: Request) -> Reply:
        own = await self._service.ahandle(request)  # who may not ask is refused as ever
        return await all_workers.page(request, own) if own.status == 200 else own

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Look through the requests, again and again.

        Parameters
        ----------
        loop : asyncio.AbstractEventLoop
        """
        self.end_late_ones(monotonic())
        loop.call_later(min(1.0, self._timeout_s / 4), self.watch, loop)

    def end_late_ones(self, now: float) -> None:
        """End the requests whose time is up.

        Parameters
        ----------
        now : float
            Of the monotonic clock, s.
        """
        for task, began in list(self.begun.items()):
            if now - began <= self._timeout_s:
                return  # those that follow began later
            del self.begun[task]
            self.late.add(task)
            task.cancel()

    def too_slow(self) -> Reply:
        """The answer to a request that was ended."""
        return ProblemError(
            408,
            "body-too-slow",
            "The body did not arrive in time",
            f"Expected the whole body within {self._timeout_s:g} s",
        ).reply()


def _end_with_the_parent(loop: asyncio.AbstractEventLoop, graceful_timeout_s: int) -> None:
    """See to it that the worker does not outlive the process that started it."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    sentinel = parent.sentinel

    def gone() -> None:
        loop.remove_reader(sentinel)
        logger.error("the server's first process has gone; the worker ends")
        # Nobody is there to end it by force.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(graceful_timeout_s)
        os.kill(os.getpid(), signal.SIGTERM)

    if hasattr(signal, "SIGALRM"):
        loop.add_reader(sentinel, gone)
