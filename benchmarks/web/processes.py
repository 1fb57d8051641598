"""The processes that a server consists of: itself, and what it and its children have started.

A server with a proxy, a controller and queues does most of its work outside the processes that run the model, and
some leave processes behind when they are told to stop.
"""

from __future__ import annotations

import math
import os
import signal
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

__all__ = ["Process", "cpu_s", "kill", "tree"]


class Process(NamedTuple):
    """A process, told apart from a later one with the same number by when it started."""

    pid: int
    started_ticks: int


class _Stat(NamedTuple):
    process: Process
    parent: int
    cpu_ticks: int


def tree(pid: int) -> list[Process]:
    """A process and all that descend from it; none where the system has no ``/proc``."""
    children: defaultdict[int, list[Process]] = defaultdict(list)
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        if stat := _stat(int(path.name)):
            children[stat.parent].append(stat.process)
            if stat.process.pid == pid:
                found.append(stat.process)
    for process in found:  # grows as it goes
        found += children[process.pid]
    return found


def cpu_s(pid: int) -> float:
    """Seconds of processor time that a process and its living descendants have taken; NaN without ``/proc``."""
    stats = [stat for process in tree(pid) if (stat := _stat(process.pid))]
    if not stats:
        return math.nan
    return sum(stat.cpu_ticks for stat in stats) / os.sysconf("SC_CLK_TCK")


def kill(processes: list[Process]) -> None:
    """End those of the processes that are still there."""
    for process in processes:
        stat = _stat(process.pid)
        if stat is not None and stat.process == process:
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)


def _stat(pid: int) -> _Stat | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The second field, a name, may hold blanks; what follows begins with the third, the state.
    fields = stat.rpartition(")")[2].split()
    parent, utime, stime, started = (int(fields[i]) for i in (1, 11, 12, 19))
    return _Stat(Process(pid, started), parent, utime + stime)
