"""A gRPC server in a thread of its own, for processes that have no event loop: Flask, Django, scripts."""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import sys
import threading
from contextlib import suppress
from typing import Protocol, Self

from infersdk.predictors.server_process import before_forked_child_ends

__all__ = ["ServerThread"]

logger = logging.getLogger("infersdk.grpc")


class _Server(Protocol):
    async def start(self) -> None: ...
    async def stop(self, grace_s: float) -> None: ...


class ServerThread:
    """Runs a server until it is stopped, at the latest at the end of the process.

    Parameters
    ----------
    server : GRPCServer
        Not started yet.
    grace_s : float
        Seconds that running calls have to finish at the end of the process.
    """

    def __init__(self, server: _Server, grace_s: float) -> None:
        self._server = server
        self._grace_s = grace_s
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._started = threading.Event()
        self._error: BaseException | None = None
        # The interpreter would wait for an ordinary thread before it calls what atexit knows.
        self._thread = threading.Thread(target=self._run, name="infersdk-grpc", daemon=True)

    def start(self) -> None:
        """Come back when it takes connections.

        Raises
        ------
        RuntimeError
            gevent has made greenlets of threads.
        Exception
            What starting it raised.
        """
        monkey = sys.modules.get("gevent.monkey")
        if monkey is not None and monkey.is_module_patched("threading"):
            raise RuntimeError(
                "gevent has made greenlets of this process's threads, and gRPC's event loop needs a real one; "
                "take gunicorn's gthread workers, or serve gRPC in a process of its own"
            )
        self._thread.start()
        self._started.wait()
        if self._error is not None:
            self._thread.join()
            raise self._error
        atexit.register(self.stop)
        before_forked_child_ends(self.stop)

    def stop(self, grace_s: float | None = None) -> None:
        """Take no more calls, let running ones finish, and end the thread. Again it does nothing.

        Parameters
        ----------
        grace_s : float, optional
            Seconds after which calls that still run are cancelled.
        """
        if os.getpid() != self._pid:
            return  # a fork's child: the thread is its parent's
        if grace_s is not None:
            self._grace_s = grace_s
        if self._thread.is_alive() and self._loop is not None and self._stopping is not None:
            with suppress(RuntimeError):  # the loop is closed: it has ended meanwhile
                self._loop.call_soon_threadsafe(self._stopping.set)
        if threading.current_thread() is not self._thread:
            self._thread.join()
        atexit.unregister(self.stop)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            if self._started.is_set():
                logger.exception("the gRPC server failed")
            self._error = error
            self._started.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        await self._server.start()
        self._started.set()
        await self._stopping.wait()
        await self._server.stop(self._grace_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()
