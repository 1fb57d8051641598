"""Measure whole web apps under load: fresh servers in every round, equal answers first, then wrk.

A web server's throughput differs from start to start by more than it does from second to second, so a round
starts every app anew, one at a time and in an order drawn for the round. Before its load an app must give the
model's answers; an answer with an error, or a connection that broke, makes a run invalid. Ratios are taken
within rounds.
"""

from __future__ import annotations

import importlib
import math
import random
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.rivals.servers import environments
from benchmarks.runner import DifferentAnswersError, Effort, rival_process
from benchmarks.task import Task
from benchmarks.web import wrk
from benchmarks.web.client import await_answer, check
from benchmarks.web.server import ServerError, Serving, serving
from benchmarks.web.workload import Workload

__all__ = [
    "App",
    "AppResult",
    "Ratio",
    "Target",
    "Turn",
    "Variant",
    "measure_web",
    "order",
    "results_of",
]


@dataclass(frozen=True, slots=True)
class App:
    """One app on one server.

    Parameters
    ----------
    name, label : str
        The label is what tables show.
    module : str
        Whose ``app`` is served.
    server : str
        One of ``benchmarks.web.server.COMMANDS``.
    path : str
        What is POSTed to.
    answers : bool
        Whether it answers as the model does; an app that says hello does not, and must say that.
    environment : str
        The rival in whose environment it runs (``benchmarks.rivals.servers``); empty: in this one.
    """

    name: str
    label: str
    module: str
    server: str
    path: str = "/predict"
    answers: bool = True
    environment: str = ""


@dataclass(frozen=True, slots=True)
class Target:
    """A ratio of requests a second that is reported, and the least it is to be, where that is said."""

    app: str
    rival: str
    at_least: float | None = None


@dataclass(frozen=True, slots=True)
class Variant:
    """What is compared: apps that take turns in each round, and the ratios that are reported."""

    apps: tuple[App, ...]
    targets: tuple[Target, ...]

    def without(self, *names: str) -> Variant:
        """The same with fewer apps."""
        apps = tuple(app for app in self.apps if app.name not in names)
        targets = (item for item in self.targets if not {item.app, item.rival} & {*names})
        return Variant(apps, tuple(targets))


@dataclass(frozen=True, slots=True)
class Ratio:
    """Requests a second over those of a rival, within rounds: the median and the extremes."""

    rival: str
    rival_label: str
    median: float
    low: float
    high: float
    at_least: float | None


@dataclass(frozen=True, slots=True)
class AppResult:
    """One app's figures: medians over rounds, and each round's own.

    ``invalid`` says what went wrong under load; empty where nothing did. Nothing may be concluded from the
    figures otherwise. ``versions`` has the packages of its environment, where that is one of its own.
    """

    rival: str
    label: str
    server: str
    requests_per_s: float
    requests_per_s_low: float
    requests_per_s_high: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    requests: int
    errors: dict[str, int]
    invalid: str
    ratios: list[Ratio]
    rounds: list[dict[str, Any]] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Turn:
    """One app's figures in one round.

    Parameters
    ----------
    load : Load
    cpu_us : float
        Processor time of the server's processes for one request. It says what is behind a ratio, and varies less
        than the requests a second do.
    """

    load: wrk.Load
    cpu_us: float


Settle = Callable[[App, Serving, Workload], None]
"""What a case does with an app that is up, before it is timed."""


def measure_web(case_name: str, variant: str, effort: Effort) -> list[AppResult]:
    """Measure all apps of one variant.

    Raises
    ------
    DifferentAnswersError
        An app answers differently from its model.
    ServerError
        A server did not come up.
    MissingToolError
        wrk is not installed.
    EnvironmentFailedError
        A rival could not be installed.
    """
    case = importlib.import_module(f"benchmarks.cases.{case_name}")
    wrk.find()
    chosen: Variant = case.WEB[variant]
    settle: Settle = getattr(case, "settle", _nothing)
    pythons = {app.name: _python(app) for app in chosen.apps}
    with tempfile.TemporaryDirectory(prefix="infersdk-bench-") as name:
        task = Task(case_name, variant, Path(name))
        with rival_process(task, "-") as preparing:
            preparing.ask("prepare")
        workload = Workload(task.folder)
        count = max(effort.compared, getattr(case, "COMPARED", 0))
        rounds = []
        for number in range(effort.web_rounds):
            turns = {}
            for app in order(chosen.apps, number):
                try:
                    turns[app.name] = _turn(app, pythons[app.name], workload, settle, count, effort)
                except (DifferentAnswersError, ServerError) as error:
                    raise type(error)(f"{case_name}/{variant}: {app.label}: {error}") from error
            rounds.append(turns)
    return results_of(chosen.apps, chosen.targets, rounds)


def _python(app: App) -> str:
    return str(environments.interpreter(app.environment)) if app.environment else sys.executable


def _turn(
    app: App, python: str, workload: Workload, settle: Settle, count: int, effort: Effort
) -> Turn:
    """One app's turn in a round, from its server's start to its end."""
    bodies = workload.bodies()[:count]
    expected = workload.expected()[:count] if app.answers else ["hello"] * count
    with serving(app.server, app.module, workload.folder, python) as server:
        try:
            await_answer(server.port, app.path, bodies[0])
            check(server.port, app.path, bodies, expected)
            settle(app, server, workload)
            load = partial(wrk.load, server.port, app.path, workload.lines)
            load(seconds=effort.web_warm_up_s)
            # What wrk left behind in a slow server's backlog is answered, to nobody, before this is.
            check(server.port, app.path, bodies[:8], expected[:8])
            before_s = server.cpu_s()
            measured = load(seconds=effort.web_s)
            cpu_us = 1e6 * (server.cpu_s() - before_s) / max(1, measured.requests)
            check(server.port, app.path, bodies, expected)
        except DifferentAnswersError as error:
            raise DifferentAnswersError(f"{error}\nThe server's log:\n{server.log()}") from error
        return Turn(measured, cpu_us)


def _nothing(app: App, server: Serving, workload: Workload) -> None:
    """Most apps are what they will be as soon as they are up."""


def order(apps: Sequence[App], number: int) -> list[App]:
    """The order of a round: drawn, but the same in every run of the benchmark."""
    return random.Random(number).sample(list(apps), len(apps))


def results_of(
    apps: Sequence[App], targets: Sequence[Target], rounds: Sequence[Mapping[str, Turn]]
) -> list[AppResult]:
    """Make results of what was measured: in each round, each app's name and its turn."""
    labels = {app.name: app.label for app in apps}
    results = []
    for app in apps:
        turns = [round_[app.name] for round_ in rounds]
        loads = [turn.load for turn in turns]
        rates = [load.requests_per_s for load in loads]
        errors: dict[str, int] = {}
        for load in loads:
            for kind, count in load.errors.items():
                errors[kind] = errors.get(kind, 0) + count
        ratios = [_ratio(target, labels, rounds) for target in targets if target.app == app.name]
        results.append(
            AppResult(
                rival=app.name,
                label=app.label,
                server=app.server,
                requests_per_s=statistics.median(rates),
                requests_per_s_low=min(rates),
                requests_per_s_high=max(rates),
                p50_ms=statistics.median(load.p50_ms for load in loads),
                p99_ms=statistics.median(load.p99_ms for load in loads),
                cpu_us=statistics.median(turn.cpu_us for turn in turns),
                requests=sum(load.requests for load in loads),
                errors=errors,
                invalid=_invalid(loads, errors),
                ratios=ratios,
                rounds=[asdict(turn) for turn in turns],
                versions=environments.versions(app.environment) if app.environment else {},
            )
        )
    return results


def _invalid(loads: Sequence[wrk.Load], errors: Mapping[str, int]) -> str:
    said = [f"{count} {kind} errors" for kind, count in errors.items()]
    if not all(load.requests for load in loads):
        said.append("a round without an answer")
    return ", ".join(said)


def _ratio(
    target: Target, labels: Mapping[str, str], rounds: Sequence[Mapping[str, Turn]]
) -> Ratio:
    pairs = [(turns[target.app].load, turns[target.rival].load) for turns in rounds]
    ratios = [math.nan]
    if all(rival.requests for _, rival in pairs):
        ratios = [load.requests_per_s / rival.requests_per_s for load, rival in pairs]
    figures = (statistics.median(ratios), min(ratios), max(ratios))
    return Ratio(target.rival, labels[target.rival], *figures, target.at_least)
