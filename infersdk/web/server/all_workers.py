"""``/metrics`` of all workers, whichever of them is asked.

A scrape reaches one worker, of which nobody knows which. So each listens on a Unix socket in the server's own folder,
where only its user can connect, and tells its counts to the one that was asked. Series are told apart by the label
``pid``: sums over them are right, and a worker that is replaced begins new ones.
"""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from infersdk.monitor.aliases import alias_families
from infersdk.monitor.exemplars import Exemplars
from infersdk.monitor.exposition import negotiate, write
from infersdk.monitor.families import Family, families
from infersdk.monitor.snapshot import ModelMetrics, RequestMetrics
from infersdk.web.problems import Reply
from infersdk.web.request import Request
from infersdk.web.service import Service

__all__ = ["AllWorkers", "Counts", "page_of"]

logger = logging.getLogger("infersdk")

_TIMEOUT_S = 1.0
"""For a worker that does not answer; its series are missing then, for once."""


class Counts(NamedTuple):
    """What one worker has counted.

    Attributes
    ----------
    pid : int
    models : list of ModelMetrics
    requests : RequestMetrics or None
    """

    pid: int
    models: list[ModelMetrics]
    requests: RequestMetrics | None


class AllWorkers:
    """Tells this worker's counts to the others, and asks for theirs.

    Parameters
    ----------
    service : Service
    folder : Path
        The same for all workers of a server, and nobody else's.
    """

    def __init__(self, service: Service, folder: Path) -> None:
        self._service = service
        self._folder = folder
        self._path = folder / f"{os.getpid()}.metrics"
        self._server: asyncio.AbstractServer | None = None

    async def start(self) -> None:
        """Listen to the other workers."""
        try:
            self._server = await asyncio.start_unix_server(self._tell, self._path)
        except (OSError, NotImplementedError) as error:
            logger.warning("/metrics tells of one worker at a time: %s", error)

    async def stop(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.close()
            self._path.unlink(missing_ok=True)

    async def page(self, request: Request, own: Reply) -> Reply:
        """Write the page for all workers.

        Parameters
        ----------
        request : Request
        own : Reply
            The page of this worker.
        """
        others = [path for path in self._folder.glob("*.metrics") if path != self._path]
        if not others:
            return own
        answers = await asyncio.gather(*(_ask(path) for path in others))
        told = [self._own(), *(counts for counts in answers if counts is not None)]
        body = page_of(
            told,
            accept=request.header("accept"),
            aliases=self._service.settings.metrics_aliases,
            exemplars=self._service.exemplars,
        )
        return own._replace(body=body)

    def _own(self) -> Counts:
        requests = self._service.requests
        return Counts(
            os.getpid(),
            self._service.predictors.metrics(),
            None if requests is None else requests.snapshot(),
        )

    async def _tell(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            writer.write(pickle.dumps(self._own()))
            await writer.drain()
        writer.close()


async def _ask(path: Path) -> Counts | None:
    """Another worker's counts; None where it is not there any more, or does not answer."""
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            reader, writer = await asyncio.open_unix_connection(path)
            try:
                told: Counts = pickle.loads(await reader.read())
            finally:
                writer.close()
            return told
    except ConnectionRefusedError:
        path.unlink(missing_ok=True)  # of one that was killed
    except (OSError, EOFError, TimeoutError):
        pass
    return None


def page_of(
    told: Sequence[Counts],
    *,
    accept: str | None,
    aliases: Iterable[str],
    exemplars: Exemplars | None,
) -> bytes:
    """Write the counts of several workers as one page.

    Parameters
    ----------
    told : sequence of Counts
        The first are of the worker that was asked.
    accept : str or None
        The scrape's Accept header.
    aliases : iterable of str
        Names of other servers to export besides.
    exemplars : Exemplars, optional
        Of the worker that was asked.
    """
    whole: dict[str, Family] = {}
    for number, counts in enumerate(told):
        of_one = [
            *families(
                counts.models,
                exemplars=None if number else exemplars,
                requests=counts.requests,
            ),
            *alias_families(counts.models, tuple(aliases)),
        ]
        for family in of_one:
            series = whole.setdefault(family.name, family._replace(series=[])).series
            pid = ("pid", str(counts.pid))
            series.extend(((*labels, pid), value) for labels, value in family.series)
    return write(list(whole.values()), (), negotiate(accept))
