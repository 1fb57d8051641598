"""How results look in a terminal. Nothing is found out here."""

from __future__ import annotations

import contextlib
import json
import math
import sys
from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from infersdk.cli.environment import Environment, Finding
from infersdk.convert.diagnosis import Diagnosis
from infersdk.convert.distribution import OutputErrors
from infersdk.types import ParityReport

__all__ = [
    "fail",
    "histogram",
    "say",
    "show_diagnosis",
    "show_environment",
    "show_errors",
    "show_findings",
    "show_json",
    "show_parity",
    "show_table",
    "working",
]

_BAR = 40
_TINY = -18
"""Powers of ten below this one are one bar: they say how small the answers are, not how exact."""
_WARNING_CHARS = 200
_COLOR = {
    "proven": "green",
    "onnx": "green",
    "unproven": "yellow",
    "different": "yellow",
    "native": "yellow",
    "refused": "red",
}


def say(text: str, *, style: str = "", quiet: bool = False) -> None:
    """Print one paragraph; nothing of it is taken for markup."""
    if not quiet:
        _console().print(Text(text, style=style))


def fail(text: str) -> None:
    """Say on standard error what went wrong."""
    _console(stderr=True).print(Text(text, style="red"))


def show_json(data: Any) -> None:
    """Print JSON and nothing else; infinity and NaN, which JSON does not know, as null."""
    sys.stdout.write(json.dumps(_finite(data), indent=2, allow_nan=False, default=str) + "\n")


def working(doing: str) -> contextlib.AbstractContextManager[Any]:
    """Show that work goes on, on a terminal only."""
    console = _console(stderr=True)
    return console.status(doing) if console.is_terminal else contextlib.nullcontext()


def show_environment(environment: Environment) -> None:
    runtime = (
        f"{environment.onnxruntime} ({', '.join(environment.providers)})"
        if environment.onnxruntime
        else "cannot be used"
    )
    cpu = environment.machine + (
        f" with {environment.vector_unit}" if environment.vector_unit else ""
    )
    show_table(
        ("", ""),
        [
            ("Python", environment.python),
            ("system", environment.system),
            ("CPU", cpu),
            ("threads", f"{environment.threads} of {environment.cores} cores may be used"),
            ("infersdk", environment.infersdk),
            ("ONNX Runtime", runtime),
            ("", environment.library),
            ("telemetry", "as ORT_DISABLE_TELEMETRY says: on" if environment.telemetry else "off"),
        ],
        header=False,
    )
    show_table(("package", "version"), environment.packages.items())
    show_findings(environment.findings)
    if environment.is_sound:
        say("Nothing known to go wrong was found.", style="green")


def show_findings(findings: Iterable[Finding]) -> None:
    for finding in findings:
        color = "red" if finding.level == "problem" else "yellow"
        say(f"{finding.level}: {finding.what}", style=f"bold {color}")
        say(f"  {finding.why}")
        say(f"  -> {finding.do}")


def show_diagnosis(diagnosis: Diagnosis) -> None:
    say(f"{diagnosis.name} ({diagnosis.kind}, {diagnosis.framework or 'unknown framework'})")
    say(f"{diagnosis.verdict}: {diagnosis.sentence}", style=f"bold {_COLOR[diagnosis.verdict]}")
    if diagnosis.plan is not None:
        # Why a plan is native is said below, with what to do about it.
        reason = "" if diagnosis.plan.kind == "native" else f": {diagnosis.plan.reason}"
        say(f"plan {diagnosis.plan.kind}{reason}")
        for note in diagnosis.plan.notes:
            say(f"  - {note}")
    if diagnosis.methods:
        say(f"methods: {', '.join(diagnosis.methods)}")
    if diagnosis.parts:
        show_table(
            ("part", "type", "runs in", "why"),
            [
                (
                    part.path,
                    part.kind,
                    "ONNX" if part.runs == "onnx" else "its framework",
                    part.reason,
                )
                for part in diagnosis.parts
            ],
        )
    if diagnosis.parity is not None:
        show_parity(diagnosis.parity)
    show_errors(diagnosis.errors)
    for change in diagnosis.changes:
        say(change.where or diagnosis.name, style="bold yellow")
        say(f"  {change.why}")
        if change.do:
            say(f"  -> {change.do}")
    for text in diagnosis.warnings:
        say(f"warned: {text.splitlines()[0][:_WARNING_CHARS]}", style="dim")


def show_parity(report: ParityReport) -> None:
    say(
        f"compared on {report.n_example_rows} example and {report.n_edge_rows} edge rows; "
        f"a number agrees within {report.atol:g} + {report.rtol:g} * |theirs|"
    )
    show_table(
        ("method", "agrees", "max abs error", "max rel error", "label flips", "rows off"),
        [
            (
                method.method,
                "yes" if method.passed else "NO",
                f"{method.max_abs_error:.2e}",
                f"{method.max_rel_error:.2e}",
                "-" if method.label_flips is None else str(method.label_flips),
                str(method.mismatched_rows),
            )
            for method in report.methods
        ],
    )
    for note in report.notes:
        say(f"  - {note}")


def show_errors(found: Iterable[OutputErrors]) -> None:
    """Show how the errors of each output are distributed, and draw those that are not all equal."""
    found = [errors for errors in found if errors.n_values]
    if not found:
        return
    show_table(
        ("output", "answers", "equal", "median error", "99 % below", "largest"),
        [
            (
                errors.label,
                f"{errors.n_values:,}",
                f"{errors.n_equal:,}",
                *(
                    ("-",) * 3
                    if errors.n_flips is not None
                    else (
                        f"{errors.quantile(0.5):.1e}",
                        f"{errors.quantile(0.99):.1e}",
                        f"{errors.max_abs_error:.1e}" if not errors.n_unlike else "unlike",
                    )
                ),
            )
            for errors in found
        ],
    )
    for errors in found:
        if errors.n_flips is None and errors.n_equal < errors.n_values:
            say(histogram(errors))


def histogram(errors: OutputErrors) -> str:
    """Draw how many errors there are of each power of ten, with letters.

    Bars are of logarithmic length, so that one error in a million is seen beside the others.
    """
    decades = errors.decades()
    tiny = sum(count for exponent, count in decades.items() if exponent < _TINY)
    rows = [("equal", errors.n_equal)]
    if tiny:
        rows.append((f"<1e{_TINY}", tiny))
    rows += [(f"1e{one:+03d}", count) for one, count in decades.items() if one >= _TINY]
    if errors.n_unlike:
        rows.append(("unlike", errors.n_unlike))
    widest = max(count for _, count in rows)
    lines = [
        f"{errors.label}: |ours - theirs| of {errors.n_values:,} numbers, from 1e.. to ten times that"
    ]
    for name, count in rows:
        length = _BAR * math.log1p(count) / math.log1p(widest) if widest else 0.0
        lines.append(f"  {name:>6} {'#' * round(length):<{_BAR}} {count:,}")
    return "\n".join(lines)


def show_table(
    columns: tuple[str, ...], rows: Iterable[tuple[str, ...]], *, header: bool = True
) -> None:
    """Show a plain table, one that can be read in a log file too."""
    table = Table(*columns, show_header=header, box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    _console().print(table)


def _finite(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_finite(value) for value in data]
    if isinstance(data, float) and not math.isfinite(data):
        return None
    return data


def _console(*, stderr: bool = False) -> Console:
    # Made anew: tests and callers exchange sys.stdout. A log file gets long lines, not broken ones.
    console = Console(stderr=stderr)
    return console if console.is_terminal else Console(stderr=stderr, width=200, soft_wrap=True)
