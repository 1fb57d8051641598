"""A ready server: models over HTTP and gRPC, in workers of Granian's.

The command ``infersdk serve`` asks it; without a command line it is :func:`serve`.

==================  ====================================================================================
options             what the processes are told
preparation         every model is opened once, in a process of its own, before there are workers
processes           the first process: the port, the workers, signals
worker              what runs in each worker
all_workers         the metrics of all of them
logs                text or JSON
==================  ====================================================================================
"""

from __future__ import annotations

import logging.config
import os
import signal
import socket
import tempfile
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Never

from infersdk.errors import MissingDependencyError
from infersdk.web.server.logs import configuration
from infersdk.web.server.options import ServerOptions, StartError, TLSFiles, default_workers
from infersdk.web.server.preparation import ModelSummary, Prepared, prepare

__all__ = [
    "ModelSummary",
    "Prepared",
    "ServerOptions",
    "StartError",
    "TLSFiles",
    "default_workers",
    "serve",
]

_OPEN_FILES = 2**16


def serve(
    options: ServerOptions,
    announce: Callable[[ServerOptions, Prepared], Any] = lambda options, prepared: None,
) -> None:
    """Serve models until SIGINT or SIGTERM; must be called in a process's main thread.

    SIGHUP has the models' files opened anew.

    Parameters
    ----------
    options : ServerOptions
    announce : callable, optional
        Is told what is served, and where, when the port is open.

    Raises
    ------
    StartError
        The port cannot be opened, or a model.
    MissingDependencyError
        Granian is not installed, or what gRPC needs.
    SystemExit
        With status 1: workers that had started ended again and again. With 0: stopped before there were any.
    """
    for package, extra, purpose, is_needed in (
        ("granian", "serve", "serving models", True),
        ("grpc", "grpc", "serving models over gRPC", options.grpc_port is not None),
    ):
        if is_needed and find_spec(package) is None:
            raise MissingDependencyError.for_extra(package, extra, purpose)
    # As the first process of a container it would not hear a signal that it does not ask for.
    signal.signal(signal.SIGTERM, _stop)
    logging.config.dictConfig(configuration(options.log_level, options.log_format))
    if options.tls is not None:
        options.tls.check()
    options = _with_free_ports(options)
    _allow_open_files()
    with tempfile.TemporaryDirectory(prefix="infersdk-", ignore_cleanup_errors=True) as folder:
        prepared = prepare(options, Path(folder))
        from infersdk.web.server.processes import Server

        _probe(options.host, options.port)  # that may have taken long
        Server(options, prepared, Path(folder)).run(lambda: announce(options, prepared))


def _stop(*signal: Any) -> Never:
    raise SystemExit(0)


def _with_free_ports(options: ServerOptions) -> ServerOptions:
    """Look whether the ports can be had, before anything is opened that takes long; choose where they are 0."""
    address, port = _probe(options.host, options.port)
    grpc_port = options.grpc_port
    if grpc_port is not None:
        grpc_port = _probe(options.host, grpc_port)[1]
    return replace(options, host=address, port=port, grpc_port=grpc_port)


def _probe(host: str, port: int) -> tuple[str, int]:
    """The address and port that would be listened on.

    Workers share a port, and would share one with another server that does so; here it is asked for alone.
    """
    try:
        family, _, _, _, wanted = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            if os.name == "posix":
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(wanted)
            name = probe.getsockname()
    except OSError as error:
        raise StartError(
            f"The server cannot listen on {host}, port {port}: {error.strerror or error}"
        ) from error
    return name[0], name[1]


def _allow_open_files() -> None:
    """A connection is an open file, of which many systems allow 1,024 unless more are asked for."""
    try:
        import resource
    except ImportError:  # Windows
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
