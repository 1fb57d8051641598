"""How the figures of loads are shown: one table a case, one row for each load and rival."""

from __future__ import annotations

import math
from collections.abc import Callable

from rich.table import Table

from benchmarks.load_runner import LoadResult

__all__ = ["fill", "load_table"]

Cell = Callable[[LoadResult], str]


def _number(key: str, scale: float = 1.0, digits: int = 0) -> Cell:
    def cell(result: LoadResult) -> str:
        value = result.figures.get(key, math.nan)
        return "-" if math.isnan(value) else f"{value * scale:,.{digits}f}"

    return cell


def _ratio(result: LoadResult) -> str:
    return "-" if not math.isfinite(result.ratio) else f"{result.ratio:.3g}"


def _ratio_and_quartiles(result: LoadResult) -> str:
    if not math.isfinite(result.ratio):
        return "-"
    return f"{result.ratio:.3g} ({result.ratio_low:.3g} - {result.ratio_high:.3g})"


def _of_best_other(result: LoadResult) -> str:
    return "-" if not math.isfinite(result.of_best_other) else f"{result.of_best_other:.3g}"


_LATENCIES: tuple[tuple[str, Cell], ...] = (
    ("mean us", _number("mean_us")),
    ("p50 us", _number("p50_us")),
    ("p99 us", _number("p99_us")),
)
_CLOSED: tuple[tuple[str, Cell], ...] = (
    ("calls/s", _number("throughput_per_s")),
    *_LATENCIES,
    ("x first (quartiles)", _ratio_and_quartiles),
    ("x best other", _of_best_other),
)
_COLUMNS: dict[str, tuple[tuple[str, Cell], ...]] = {
    "closed": (*_CLOSED, ("burner/s", _number("burner_per_s"))),
    "asyncio": _CLOSED,
    "open": (
        ("offered/s", _number("offered_per_s")),
        ("calls/s", _number("throughput_per_s")),
        ("goodput/s", _number("goodput_per_s")),
        ("p50 us", _number("p50_us")),
        ("p99 us", _number("p99_us")),
        ("p99 x first", _ratio),
        ("lag p99 us", _number("lag_p99_us")),
    ),
    "overload": (
        ("peak/s", _number("peak_per_s")),
        ("offered/s", _number("offered_per_s")),
        ("goodput/s", _number("goodput_per_s")),
        ("of peak", _number("goodput_of_peak", digits=2)),
        ("p99 ms", _number("p99_us", 1e-3, 1)),
        ("refused", _number("refused")),
        ("in us: p50", _number("refusal_p50_us")),
        ("p99", _number("refusal_p99_us")),
        ("expired", _number("expired")),
        ("lag p99 us", _number("lag_p99_us")),
    ),
    "loadgen": (
        ("calls/s", _number("throughput_per_s")),
        *_LATENCIES,
        ("x first", _ratio),
        ("x best other", _of_best_other),
    ),
    "cpu": (
        ("CPU %", _number("cpu_percent", digits=1)),
        ("x first", _ratio),
        *_LATENCIES,
    ),
}


def load_table(title: str, kind: str) -> Table:
    """An empty table for this kind of load."""
    table = Table(title=title, title_justify="left")
    table.add_column("variant", no_wrap=True)
    table.add_column("load", no_wrap=True)
    table.add_column("who answers", no_wrap=True)
    for name, _ in _COLUMNS[kind]:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def fill(table: Table, variant: str, kind: str, results: list[LoadResult]) -> None:
    """Add the results of one variant."""
    last = None
    for i, result in enumerate(results):
        following = results[i + 1].load if i + 1 < len(results) else None
        table.add_row(
            variant if i == 0 else "",
            result.load if result.load != last else "",
            result.label,
            *(cell(result) for _, cell in _COLUMNS[kind]),
            end_section=following != result.load,
        )
        last = result.load
