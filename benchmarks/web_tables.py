"""How the figures of web apps are shown: a row for each app, and a row for each ratio."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from benchmarks.web_runner import AppResult

__all__ = ["app_table", "fill_web", "ratio_table"]


def app_table(title: str) -> Table:
    """An empty table of apps."""
    table = Table(title=title, title_justify="left")
    for name in ("variant", "app", "server"):
        table.add_column(name, no_wrap=True)
    for name in ("requests/s", "lowest - highest", "p50 ms", "p99 ms", "CPU us", "errors"):
        table.add_column(name, justify="right", no_wrap=True)
    return table


def ratio_table() -> Table:
    """An empty table of ratios."""
    table = Table(title="requests/s, within rounds", title_justify="left")
    for name in ("variant", "app", "over that of"):
        table.add_column(name, no_wrap=True)
    for name in ("median", "lowest - highest", "wanted"):
        table.add_column(name, justify="right", no_wrap=True)
    return table


def fill_web(apps: Table, ratios: Table, variant: str, results: Sequence[AppResult]) -> None:
    """Add the results of one variant."""
    for i, result in enumerate(results):
        apps.add_row(
            variant if i == 0 else "",
            result.label,
            result.server,
            f"{result.requests_per_s:,.0f}",
            f"{result.requests_per_s_low:,.0f} - {result.requests_per_s_high:,.0f}",
            f"{result.p50_ms:.2f}",
            f"{result.p99_ms:.2f}",
            f"{result.cpu_us:.0f}",
            f"[red]{result.invalid}[/red]" if result.invalid else "none",
            end_section=i == len(results) - 1,
        )
    rows = [(result.label, ratio) for result in results for ratio in result.ratios]
    for i, (label, ratio) in enumerate(rows):
        wanted = ""
        if ratio.at_least is not None:
            verdict = "met" if ratio.median >= ratio.at_least else "[red]missed[/red]"
            wanted = f"{ratio.at_least:g}x: {verdict}"
        ratios.add_row(
            variant if i == 0 else "",
            label,
            ratio.rival_label,
            f"{ratio.median:.3g}x",
            f"{ratio.low:.3g} - {ratio.high:.3g}",
            wanted,
            end_section=i == len(rows) - 1,
        )
