"""Train models, load them with infersdk, prove them, serve them under gunicorn and measure.

``make demo`` runs it; ``make demo SERVE=1`` leaves the server up at the end.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

import infersdk
from examples.client import Outcome, fire
from examples.models import Trained, train_all
from examples.server import Server, serving

REQUESTS = 2000
TURNS = 4
CLIENTS = 32
WORKERS = 2
RTOL, ATOL = 1e-4, 1e-5
"""An answer agrees when abs(answer - model's) <= ATOL * scale + RTOL * abs(model's), where scale is the
size of the model's answers, at least 1: the same sums in another order differ by that in float32."""


@dataclass(frozen=True)
class Measured:
    """One app's service of one model."""

    model: str
    outcome: Outcome
    different: int


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; the exit status says whether every answer was right."""
    parser = argparse.ArgumentParser(prog="python -m examples.demo", description=__doc__)
    parser.add_argument("--serve", action="store_true", help="leave the server up at the end")
    parser.add_argument("--requests", type=int, default=REQUESTS, metavar="N", help="default: 2000")
    parser.add_argument(
        "--folder", type=Path, default="build/demo", metavar="PATH", help="where models are written"
    )
    options = parser.parse_args(arguments)
    for number in (
        signal.SIGINT,
        signal.SIGTERM,
    ):  # SIGINT too: a shell's background job ignores it
        signal.signal(number, _stop)
    console = Console(width=None if sys.stdout.isatty() else 110)
    try:
        return _demo(console, options.folder, requests=options.requests, serve=options.serve)
    except KeyboardInterrupt:
        console.print("stopped")
        return 130


def _demo(console: Console, folder: Path, *, requests: int, serve: bool) -> int:
    models = _prepare(console, folder)
    console.print(
        f"\n[bold]Serve[/bold] with gunicorn, {WORKERS} sync workers, {CLIENTS} clients, one row a request"
    )
    with (
        serving("examples.flask_app:create_app()", folder, workers=WORKERS) as ours,
        serving("examples.flask_app_direct:create_app()", folder, workers=WORKERS) as theirs,
    ):
        measured, direct = _measure(console, ours, theirs, models, requests)
    console.print(_table(measured, direct))
    different = sum(item.different for item in measured)
    if different:
        console.print(f"[red]{different} answers differ from the source model's[/red]")
        return 1
    console.print(
        f"all {sum(len(item.outcome.answers) for item in measured):,} answers equal the source models'"
    )
    if serve:
        with serving("examples.flask_app:create_app()", folder, workers=WORKERS) as server:
            _stay(console, server, models[0])
    return 0


def _prepare(console: Console, folder: Path) -> list[Trained]:
    """Train each model, load it with infersdk, and write what the two apps open."""
    folder.mkdir(parents=True, exist_ok=True)
    for left_over in (*folder.glob("*.onnx*"), *folder.glob("*.joblib")):
        left_over.unlink()
    models = []
    for trained in train_all():
        kind = (
            f"{type(trained.model).__module__.partition('.')[0]}'s {type(trained.model).__name__}"
        )
        console.print(f"\n[bold]{trained.name}[/bold]: {kind}")
        with infersdk.load(trained.model, example=trained.example, name=trained.name) as predictor:
            console.print(str(predictor.plan), highlight=False)
            console.print(str(predictor.parity), highlight=False)
            path = folder / f"{trained.name}.onnx"
            predictor.save(path)
        joblib.dump(trained.model, path.with_suffix(".joblib"))
        console.print(f"wrote {path} ({path.stat().st_size / 1e3:,.0f} kB)")
        models.append(trained)
    return models


def _measure(
    console: Console, ours: Server, theirs: Server, models: list[Trained], requests: int
) -> tuple[list[Measured], list[Measured]]:
    """Fire at both apps in turns, model by model; the one that is not asked stands idle.

    Turns are short, so that whatever else the machine does falls on both alike.
    """
    measured: list[Measured] = []
    direct: list[Measured] = []
    with Progress(console=console, transient=True) as progress:
        for number, trained in enumerate(models):
            count = requests // len(models) + (number < requests % len(models))
            url = f"/{trained.name}/{trained.method}"
            bar = progress.add_task(trained.name, total=2 * count)
            advance = partial(progress.advance, bar)
            for server in (ours, theirs):
                fire(server.port, url, [trained.rows[:1]] * CLIENTS, clients=CLIENTS)  # warm up
            which = list(islice(cycle(range(len(trained.rows))), count))
            turns = [which[turn::TURNS] for turn in range(TURNS)]
            outcomes: dict[Server, list[Outcome]] = {ours: [], theirs: []}
            for turn in turns:
                rows = [[trained.rows[i]] for i in turn]
                for server in (ours, theirs):
                    outcomes[server].append(
                        fire(server.port, url, rows, clients=CLIENTS, on_answer=advance)
                    )
            expected = trained.answers[[i for turn in turns for i in turn]]
            for server, results in ((ours, measured), (theirs, direct)):
                outcome = Outcome.joined(outcomes[server])
                different = _different(outcome.answers, expected)
                results.append(Measured(trained.name, outcome, different))
    return measured, direct


def _different(answers: list[Any], expected: np.ndarray) -> int:
    """How many answers are not the source model's: a number is off, or another class is likeliest."""
    given = np.array([answer["answers"][0] for answer in answers])
    scale = max(1.0, float(np.abs(expected).max()))
    close = np.isclose(given, expected, rtol=RTOL, atol=ATOL * scale).all(axis=1)
    same_class = given.argmax(axis=1) == expected.argmax(axis=1)
    return int(np.count_nonzero(~(close & same_class)))


def _table(measured: list[Measured], direct: list[Measured]) -> Table:
    table = Table()
    for name in ("model", "answered by"):
        table.add_column(name)
    for name in ("requests", "requests/s", "p50 ms", "p99 ms", "speed-up", "wrong answers"):
        table.add_column(name, justify="right")
    for ours, theirs in zip(measured, direct, strict=True):
        for item in (theirs, ours):
            p50, p99 = np.percentile(item.outcome.latencies_ms, [50, 99])
            speed_up = item.outcome.requests_per_s / theirs.outcome.requests_per_s
            table.add_row(
                item.model if item is theirs else "",
                "the framework" if item is theirs else "infersdk",
                f"{len(item.outcome.answers):,}",
                f"{item.outcome.requests_per_s:,.0f}",
                f"{p50:.1f}",
                f"{p99:.1f}",
                f"{speed_up:.1f}x",
                str(item.different),
                end_section=item is ours,
            )
    return table


def _stay(console: Console, server: Server, trained: Trained) -> None:
    url = f"http://127.0.0.1:{server.port}"
    row = json.dumps([trained.rows[0]])
    console.print(f"\nserving at {url} until Ctrl-C; try:")
    print(
        f"curl -s {url}/{trained.name}/{trained.method} "
        f"-H 'Content-Type: application/json' -d '{row}'",
        flush=True,
    )
    with suppress(KeyboardInterrupt):
        server.process.wait()


def _stop(signum: int, frame: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
