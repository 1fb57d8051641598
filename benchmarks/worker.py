"""The process of one rival: reads one command a line, answers one line of JSON.

``python -m benchmarks.worker CASE VARIANT FOLDER RIVAL``

Nothing is imported before it is needed, so that a rival that measures an import measures all of it.

============================ ====================================================================
``prepare``                  the case writes its models and inputs (RIVAL is ``-``)
``setup``                    the rival loads what it needs
``answers N PATH``           writes ``run(0) ... run(N - 1)`` to an .npz file
``calibrate SECONDS``        gives the number of calls that take about that long, and how long they take
``round CHUNKS CALLS``       gives one round: the median over chunks of a call's mean time in a chunk
``percentiles CALLS``        gives p50 and p99 of calls timed one by one
``once``                     gives CPU and wall time of ``run(0)`` in this fresh process
``load ORDER``               gives the figures of a load; ORDER is JSON without blanks (``load.driver``)
============================ ====================================================================
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import perf_counter_ns, process_time_ns
from types import ModuleType
from typing import Any

from benchmarks.task import Task


def main(arguments: list[str]) -> None:
    case, variant, folder, rival_name = arguments
    task = Task(case, variant, Path(folder))
    rival: Any = None
    if rival_name != "-":
        rival = importlib.import_module(f"benchmarks.rivals.{rival_name}")
    replies = sys.stdout
    sys.stdout = sys.stderr  # what a library prints must not be taken for a reply
    for line in sys.stdin:
        command, *values = line.split()
        reply = _obey(task, rival, command, values)
        print(json.dumps(reply), file=replies, flush=True)
    if hasattr(rival, "arun"):
        from benchmarks.load.aio import close_loop

        close_loop()


def _obey(task: Task, rival: ModuleType, command: str, values: list[str]) -> dict[str, Any]:
    match command:
        case "prepare":
            module = importlib.import_module(f"benchmarks.cases.{task.case}")
            module.prepare(task)
            return {}
        case "setup":
            rival.setup(task)
            return {"label": rival.label}
        case "answers":
            _write_answers(rival, int(values[0]), values[1])
            return {}
        case "calibrate":
            return _calibrate(rival, float(values[0]))
        case "round":
            chunks, calls = map(int, values)
            times = sorted(_mean_us(rival, calls, chunk * calls) for chunk in range(chunks))
            return {"call_us": times[chunks // 2]}
        case "percentiles":
            return _percentiles(rival, int(values[0]))
        case "once":
            cpu, wall = process_time_ns(), perf_counter_ns()
            rival.run(0)
            return {
                "cpu_ms": (process_time_ns() - cpu) / 1e6,
                "wall_ms": (perf_counter_ns() - wall) / 1e6,
            }
        case "load":
            from benchmarks.load.answers import Expected
            from benchmarks.load.driver import die_with_parent, drive

            die_with_parent()
            return drive(rival, Expected(task.expected), json.loads(values[0]))
        case _:
            raise ValueError(f"Expected a command of benchmarks.worker, got {command!r}")


def _write_answers(rival: ModuleType, count: int, path: str) -> None:
    import numpy as np

    from benchmarks.load.answers import leaves

    run = rival.run if hasattr(rival, "run") else _awaited(rival)
    arrays = {}
    for i in range(count):
        for j, value in enumerate(leaves(run(i))):
            arrays[f"{i}.{j}"] = np.asarray(value)
    np.savez(path, **arrays)


def _awaited(rival: ModuleType) -> Callable[[int], Any]:
    from benchmarks.load.aio import answer

    return partial(answer, rival.arun)


def _calibrate(rival: ModuleType, seconds: float) -> dict[str, Any]:
    calls = 1
    while True:
        mean_us = _mean_us(rival, calls)
        if mean_us * calls > 0.1e6 * seconds:
            calls = max(1, round(1e6 * seconds / mean_us))
            return {"calls": calls, "seconds": calls * mean_us / 1e6}
        calls *= 2


def _mean_us(rival: ModuleType, calls: int, first: int = 0) -> float:
    run = rival.run
    start = perf_counter_ns()
    for i in range(first, first + calls):
        run(i)
    return (perf_counter_ns() - start) / calls / 1e3


def _percentiles(rival: ModuleType, calls: int) -> dict[str, float]:
    import numpy as np

    run = rival.run
    times = np.empty(calls, np.int64)
    for i in range(calls):
        start = perf_counter_ns()
        run(i)
        times[i] = perf_counter_ns() - start
    p50, p99 = np.percentile(times, [50, 99]) / 1e3
    return {"p50_us": float(p50), "p99_us": float(p99)}


if __name__ == "__main__":
    main(sys.argv[1:])
