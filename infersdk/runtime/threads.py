"""How many threads a run may use.

ONNX Runtime counts the host's cores; a container's quota and a process's affinity it does not see, and
with several workers on a host each would take all cores. So the budget is computed here: the smaller of
the affinity mask and the cgroup quota, and one thread inside a web or task worker, where the server has
already decided how many processes share the machine.
"""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path

__all__ = ["default_threads", "thread_budget"]

# Modules that a server's process has loaded by the time its app loads a model. A process that imported
# one without serving gets one thread too, which costs it speed at most; Execution(threads=...) decides.
_WORKER_MODULES = (
    "celery.worker",
    "daphne.server",
    "granian.server",
    "gunicorn.arbiter",
    "huey.consumer",
    "hypercorn.run",
    "mod_wsgi",
    "rq.worker",
    "uvicorn.server",
    "uwsgi",
    "waitress.server",
)


def default_threads() -> int:
    """Threads of one run when the user has not said: 1 inside a worker, otherwise the budget."""
    if any(name in sys.modules for name in _WORKER_MODULES):
        return 1
    return thread_budget()


def thread_budget(root: Path = Path("/")) -> int:
    """Whole cores that this process may use, at least 1.

    Parameters
    ----------
    root : pathlib.Path
        Where ``proc`` and ``sys`` are mounted.

    Notes
    -----
    The smallest of the CPU affinity and the cgroup quotas (v2 ``cpu.max`` or v1 ``cpu.cfs_quota_us``) of
    the process's group and of every group above it. A quota of 1.5 cores is a budget of 2, since a
    thread that waits for another costs more than one that is throttled now and then.
    """
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    quota = _cgroup_quota(root)
    if quota is not None:
        cores = min(cores, math.ceil(quota))
    return max(cores, 1)


def _cgroup_quota(root: Path) -> float | None:
    """The tightest CPU quota in cores, or None where there is none."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    quotas = []
    mount = root / "sys/fs/cgroup"
    for line in lines:
        if line.count(":") < 2:
            continue
        _, controllers, group = line.split(":", 2)
        if controllers == "":
            folder, read = mount, _quota_v2
        elif "cpu" in controllers.split(","):
            folder, read = mount / controllers, _quota_v1
            if not folder.exists():
                folder = mount / "cpu"
        else:
            continue
        parts = [part for part in group.split("/") if part not in ("", "..")]
        for depth in range(len(parts) + 1):
            quota = read(folder.joinpath(*parts[:depth]))
            if quota is not None:
                quotas.append(quota)
    return min(quotas, default=None)


def _quota_v2(folder: Path) -> float | None:
    try:
        quota, period = (folder / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _quota_v1(folder: Path) -> float | None:
    try:
        quota = int((folder / "cpu.cfs_quota_us").read_text())
        period = int((folder / "cpu.cfs_period_us").read_text())
        return quota / period if quota > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None
