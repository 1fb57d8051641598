"""A handler around a scikit-learn pipeline, with ``@infersdk.accelerate`` and without: one line is the difference.

The handler without it is made of the other's source, by removing the line of the decorator. Both are served by
gunicorn with two sync workers. The accelerated one is timed when both its workers have converted the model
and compared it to the end; before that it answers as the other does.
"""

from __future__ import annotations

import time
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from benchmarks.runner import DifferentAnswersError
from benchmarks.task import Task
from benchmarks.web.client import check
from benchmarks.web.server import Serving
from benchmarks.web.workload import Workload, write
from benchmarks.web_runner import App, Target, Variant

__all__ = ["COMPARED", "KIND", "TITLE", "VARIANTS", "WEB", "prepare", "settle", "without_decorator"]

TITLE = "a handler around a scikit-learn pipeline, forest of 200 trees, 2 workers, 32 connections"
KIND = "web"
COMPARED = 300

DECORATOR = "@infersdk.accelerate"
HANDLERS = Path(__file__).parents[1] / "web" / "handlers"
SETTLE_S = 120.0


def _variant(host: str, label: str) -> Variant:
    return Variant(
        apps=(
            App("plain", f"{label} handler", f"plain_{host}", "gunicorn"),
            App("accelerated", f"{label} handler, accelerated", f"accelerated_{host}", "gunicorn"),
        ),
        targets=(Target("accelerated", "plain", 10.0),),
    )


WEB = {"flask": _variant("flask", "Flask"), "django": _variant("django", "Django")}
VARIANTS = tuple(WEB)


def prepare(task: Task) -> None:
    """Write the workload, the two handlers beside it, and what the handler without the decorator answers."""
    write(task.folder)
    source = (HANDLERS / f"{task.variant}_handler.py").read_text()
    (task.folder / f"accelerated_{task.variant}.py").write_text(source)
    (task.folder / f"plain_{task.variant}.py").write_text(without_decorator(source))
    workload = Workload(task.folder)
    answers = [_handled(answer["answers"][0]) for answer in workload.expected()]
    workload.write([body.decode() for body in workload.bodies()], answers)


def without_decorator(source: str) -> str:
    """The source without the line of the decorator.

    Raises
    ------
    ValueError
        There is not exactly one such line.
    """
    lines = source.splitlines(keepends=True)
    kept = [line for line in lines if line.strip() != DECORATOR]
    if len(kept) != len(lines) - 1:
        raise ValueError(
            f"Expected one line `{DECORATOR}` in the handler, found {len(lines) - len(kept)}"
        )
    return "".join(kept)


def _handled(probabilities: list[float]) -> dict[str, Any]:
    """What the handlers make of the pipeline's answer."""
    stays, leaves = probabilities
    return {
        "answer": "leaves" if leaves > stays else "stays",
        "probability": max(stays, leaves),
        "all": {"stays": stays, "leaves": leaves},
    }


def settle(app: App, server: Serving, workload: Workload) -> None:
    """Send requests until both workers of the accelerated app have converted the model.

    Their processes say so in files (``benchmarks.web.served``).

    Raises
    ------
    DifferentAnswersError
        They have not within two minutes, or keep the model; also if an answer is wrong meanwhile.
    """
    if app.name != "accelerated":
        return
    pairs = cycle(zip(workload.bodies(), workload.expected(), strict=True))
    ends = time.monotonic() + SETTLE_S
    while True:
        settled = [server.folder / f"{pid}.settled" for pid in server.workers]
        if all(path.exists() for path in settled):
            break
        if time.monotonic() > ends:
            raise DifferentAnswersError(
                f"not accelerated after {SETTLE_S:.0f} s: {_reports(server)}"
            )
        bodies, expected = zip(*islice(pairs, 16), strict=True)
        check(server.port, app.path, bodies, expected)
    for path in settled:
        if "converted" not in path.read_text().splitlines()[0]:
            raise DifferentAnswersError(f"the model was kept: {_reports(server)}")


def _reports(server: Serving) -> str:
    reports = [path.read_text() for path in sorted(server.folder.glob("*.report"))]
    return " / ".join(reports) or "no report"
