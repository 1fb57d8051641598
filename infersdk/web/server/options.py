"""What a server is told: everything that its processes need to know, in one value that can be sent to them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from infersdk.errors import InferSDKError
from infersdk.predictors import ModelConfig
from infersdk.runtime.threads import thread_budget
from infersdk.web.guard import is_loopback
from infersdk.web.settings import Settings

__all__ = ["MOST_WORKERS", "ServerOptions", "StartError", "TLSFiles", "default_workers"]

LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["text", "json"]

MOST_WORKERS = 8
"""By default. Each has its own copy of the models, so more are only for who asks for them."""


class StartError(InferSDKError, RuntimeError):
    """The server cannot start; the message says why, and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TLSFiles:
    """Files with which a server proves who it is, all of them PEM.

    Parameters
    ----------
    certificate : Path
        The server's, and those between it and the authority's.
    key : Path
        Its private key, not encrypted.
    client_authority : Path, optional
        Clients must have a certificate that one of these has signed.
    """

    certificate: Path
    key: Path
    client_authority: Path | None = None

    def check(self) -> None:
        """Look whether the files are there and fit each other.

        Raises
        ------
        StartError
            They do not.
        """
        import ssl

        for path in (self.certificate, self.key, self.client_authority):
            if path is not None and not path.is_file():
                raise StartError(f"Expected a PEM file for TLS, got {str(path)!r}, which is none")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            # An empty password, lest it be asked for on the terminal.
            context.load_cert_chain(self.certificate, self.key, password=lambda: b"")
        except (ssl.SSLError, OSError) as error:
            raise StartError(
                f"Expected a certificate in {self.certificate} and its private key, not encrypted, in {self.key}: "
                f"{error}"
            ) from error
        if self.client_authority is not None:
            try:
                context.load_verify_locations(self.client_authority)
            except (ssl.SSLError, OSError) as error:
                raise StartError(
                    f"Expected certificates of authorities in {self.client_authority}: {error}"
                ) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """What is served, where, by how many processes, and within which limits.

    Parameters
    ----------
    settings : Settings
        The models, protocols, tokens and limits of requests.
    host : str
        A name or an address; ``"0.0.0.0"`` or ``"::"`` for all of this machine.
    port : int
        0 takes a free one.
    grpc_port : int, optional
        Where gRPC is spoken; by default nowhere.
    workers : int
        Processes that answer.
    threads : int, optional
        Of one run of a model; by default the cores that there are for each worker.
    tls : TLSFiles, optional
    max_header_bytes : int
        The longest request line and headers, together; from 8,192.
    idle_timeout_s : float
        Seconds that a connection may take to send a request's headers, and stay idle between two requests.
    body_timeout_s : float
        Seconds that a request's body may take to arrive.
    max_connections : int
        Of one worker; further ones wait until one of them ends.
    graceful_timeout_s : int
        Seconds that running calls have to finish at a stop.
    log_level, log_format : str

    Raises
    ------
    ValueError
        A value is not one of these.
    """

    settings: Settings
    host: str = "127.0.0.1"
    port: int = 8080
    grpc_port: int | None = None
    workers: int = field(default_factory=lambda: default_workers())
    threads: int | None = None
    tls: TLSFiles | None = None
    max_header_bytes: int = 64 * 2**10
    idle_timeout_s: float = (
        75.0  # load balancers keep connections for a minute, and are to end them first
    )
    body_timeout_s: float = 30.0
    max_connections: int = 4096
    graceful_timeout_s: int = 25
    log_level: LogLevel = "info"
    log_format: LogFormat = "text"

    def __post_init__(self) -> None:
        if not self.settings.models:
            raise ValueError("Expected a model to serve, got none")
        if not self.settings.protocols:
            raise ValueError("Expected a protocol to speak, got none")
        for name in ("workers", "graceful_timeout_s", "max_connections"):
            if getattr(self, name) < 1:
                raise ValueError(f"Expected {name} to be from 1, got {getattr(self, name)}")
        if self.threads is not None and self.threads < 1:
            raise ValueError(f"Expected threads to be from 1, got {self.threads}")
        if self.max_header_bytes < 8192:
            raise ValueError(
                f"Expected max_header_bytes to be from 8192, got {self.max_header_bytes}"
            )
        for name in ("idle_timeout_s", "body_timeout_s"):
            if not 0 < getattr(self, name) < 86_400:
                raise ValueError(
                    f"Expected {name} to be seconds of less than a day, got {getattr(self, name)}"
                )
        for name, port in (("port", self.port), ("grpc_port", self.grpc_port)):
            if port is not None and not 0 <= port < 2**16:
                raise ValueError(f"Expected {name} to be from 0 to 65535, got {port}")
        if self.grpc_port is not None and self.grpc_port == self.port and self.port:
            raise ValueError(f"Expected gRPC to have a port of its own, got {self.port} for both")
        if self.settings.admin and not self.settings.tokens and not self.is_local:
            raise ValueError(
                f"Admin pages at {self.host} would let anybody open and close models: set a token, or let the "
                "server listen on 127.0.0.1"
            )

    @property
    def is_local(self) -> bool:
        """Whether only this machine can connect."""
        return is_loopback(self.host) if self.host else False

    @property
    def threads_of_a_run(self) -> int:
        """How many threads a run takes in each worker."""
        return self.threads or max(1, thread_budget() // self.workers)

    def with_models(self, models: dict[str, ModelConfig]) -> ServerOptions:
        """The same, with other models.

        Parameters
        ----------
        models : dict of str to ModelConfig
        """
        return replace(self, settings=replace(self.settings, models=models))


def default_workers() -> int:
    """One process for each core that may be used, up to :data:`MOST_WORKERS`."""
    return min(thread_budget(), MOST_WORKERS)
