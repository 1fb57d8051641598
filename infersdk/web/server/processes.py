"""The server's first process: it opens the port, starts Granian's workers, and looks after them.

Granian does most of that. What is added: models are tried before workers are replaced, a second stop ends the
workers at once, and as the first process of a container it buries what nobody else does.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from granian.constants import HTTPModes, Interfaces, SSLProtocols
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server import MPServer

from infersdk.web.server.logs import configuration
from infersdk.web.server.options import ServerOptions, StartError
from infersdk.web.server.preparation import Prepared, prepare
from infersdk.web.server.worker import WorkerLoader

__all__ = ["Server"]

logger = logging.getLogger("infersdk")

_REAP_EVERY_S = 1.0


class Server(MPServer):
    """Granian with the models of this server.

    Parameters
    ----------
    options : ServerOptions
        The port is not 0, and the host an address.
    prepared : Prepared
    folder : Path
        For models that have to be converted, and for what workers tell each other.
    """

    def __init__(self, options: ServerOptions, prepared: Prepared, folder: Path) -> None:
        tls = options.tls
        verifies = tls is not None and tls.client_authority is not None
        super().__init__(
            "infersdk",
            address=options.host,
            port=options.port,
            interface=Interfaces.RSGI,
            workers=options.workers,
            http=HTTPModes.http1,
            websockets=False,
            backpressure=options.max_connections,
            http1_settings=HTTP1Settings(
                header_read_timeout=max(1, int(options.idle_timeout_s * 1000)),
                max_buffer_size=options.max_header_bytes,
            ),
            log_level=LogLevels.info if options.log_level == "debug" else LogLevels.warning,
            log_dictconfig=configuration(options.log_level, options.log_format),
            ssl_cert=tls.certificate if tls else None,
            ssl_key=tls.key if tls else None,
            ssl_ca=tls.client_authority if tls else None,
            ssl_client_verify=verifies,
            ssl_protocol_min=SSLProtocols.tls12,
            respawn_failed_workers=True,
            respawn_interval=_overlap_s(prepared),
            workers_kill_timeout=options.graceful_timeout_s,
        )
        self._options = options
        self._folder = folder
        self._loader = WorkerLoader(options, prepared.configs, folder)
        self._reloading = threading.Lock()

    def run(self, on_listening: Callable[[], Any]) -> None:
        """Serve until a signal ends it.

        Parameters
        ----------
        on_listening : callable
            Called when the port is open, before there are workers.

        Raises
        ------
        SystemExit
            With status 1: workers end as soon as they are started.
        """
        self.on_startup(on_listening)
        if os.getpid() == 1:
            threading.Thread(target=self._bury, daemon=True).start()
        loader: Any = self._loader
        self.serve(target_loader=loader, wrap_loader=False)

    # -- signals, as Granian has them handled ----------------------------------------------------

    def signal_handler_interrupt(self, *args: Any, **kwargs: Any) -> None:
        """SIGINT, SIGTERM: end, and at the second one at once."""
        if self.interrupt_signal:
            for worker in list(self.wrks):
                with suppress(Exception):  # it has ended by itself
                    worker.kill()
        super().signal_handler_interrupt(*args, **kwargs)

    def signal_handler_reload(self, *args: Any, **kwargs: Any) -> None:
        """SIGHUP: open the models' files anew, if they can be opened."""
        threading.Thread(target=self._reload_if_sound, daemon=True).start()

    def _reload_if_sound(self) -> None:
        if not self._reloading.acquire(blocking=False):
            return  # what was asked for twice is done once
        try:
            prepared = prepare(self._options, self._folder)
        except StartError as error:
            logger.error("The models stay as they are. %s", error)
            return
        finally:
            self._reloading.release()
        # Old workers go on until the new ones have surely opened their models.
        self.respawn_interval = _overlap_s(prepared)
        self._loader.models = prepared.configs
        logger.info("reloading: %d workers follow each other", self.workers)
        super().signal_handler_reload()

    # -- as the first process of a container -----------------------------------------------------

    def _bury(self) -> None:
        """Take the exit status of processes that others have left behind; Granian knows its own."""
        before: set[int] = set()
        pause = threading.Event()
        while not pause.wait(_REAP_EVERY_S):
            own = {worker.inner.pid for worker in list(self.wrks)}
            dead = _dead_children() - own
            # Twice seen: not one of our own that is just about to be started or awaited.
            for pid in dead & before:
                with suppress(OSError):
                    os.waitpid(pid, os.WNOHANG)
            before = dead


def _overlap_s(prepared: Prepared) -> float:
    """For how long an old worker answers beside a new one: generously as long as that takes to open its models."""
    return max(3.5, 2 * prepared.seconds)


def _dead_children() -> set[int]:
    """Process ids of children that have ended, and that nobody has awaited. Linux only."""
    me = os.getpid()
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError, ValueError, IndexError):
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
                if state == "Z" and int(parent) == me:
                    found.add(int(entry.name))
    return found
