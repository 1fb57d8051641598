"""How the figures of web apps are shown: a row for each app, and a row for each ratio.

``python -m benchmarks.web_tables REPORT.json [PAGE.md [NAME]]`` makes a Markdown table of a run's ``--json``: it
prints it, or puts it into a page between its ``<!-- NAME figures: begin -->`` and ``<!-- NAME figures: end -->``,
where NAME is ``web`` unless another is given.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarks.web_runner import AppResult

__all__ = ["app_table", "fill_web", "markdown", "put", "ratio_table"]

BEGIN, END = "<!-- {name} figures: begin -->", "<!-- {name} figures: end -->"


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


def markdown(report: Mapping[str, Any]) -> str:
    """Make a Markdown table of the web apps in a report.

    Raises
    ------
    ValueError
        It has none, a request failed in it, or it was only a quick look.
    """
    results = [item for item in report["results"] if "requests_per_s" in item]
    if not results:
        raise ValueError("Expected figures of web apps in the report, found none")
    if report["quick"]:
        raise ValueError("Expected a full run, got the report of a quick one")
    for item in results:
        if item["invalid"]:
            raise ValueError(
                f"Expected a run without errors, got {item['invalid']} of {item['label']}"
            )
    lines = [
        "| | | requests/s | p50 ms | p99 ms | CPU us | requests/s over those of: median (lowest - highest) |",
        "|---|---|--:|--:|--:|--:|---|",
    ]
    shown = None
    for item in results:
        group = f"`{item['case']}/{item['variant']}`"
        ratios = "; ".join(
            f"{ratio['rival_label']}: {ratio['median']:.3g}x ({ratio['low']:.3g} - {ratio['high']:.3g})"
            for ratio in item["ratios"]
        )
        cells = [
            group if group != shown else "",
            item["label"],
            f"{item['requests_per_s']:,.0f}",
            f"{item['p50_ms']:.2f}",
            f"{item['p99_ms']:.2f}",
            f"{item['cpu_us']:,.0f}",
            ratios,
        ]
        lines.append("| " + " | ".join(cells) + " |")
        shown = group
    where = report["machine"]
    versions = ", ".join(
        f"{name} {version}" for name, version in _versions(report["versions"], results)
    )
    lines += ["", f"{where['processor']}, {where['cores']} cores; {versions}."]
    return "\n".join(lines) + "\n"


def _versions(
    ours: Mapping[str, str], results: Sequence[Mapping[str, Any]]
) -> list[tuple[str, str]]:
    """Those of the packages that make the difference: our own, and of rivals' environments the first."""
    packages = ("python", "gunicorn", "uvicorn", "granian", "flask", "django", "fastapi")
    found = {name: ours[name] for name in packages}
    for item in results:
        # Reports of before there were rivals with an environment of their own have none.
        for name, version in list(item.get("versions", {}).items())[:1]:
            found[name] = version
    return list(found.items())


def put(page: str, table: str, name: str = "web") -> str:
    """Put a table into a page, in place of the one between the two marks of this name.

    Raises
    ------
    ValueError
        The page does not have each of the marks once.
    """
    begin, end = BEGIN.format(name=name), END.format(name=name)
    if page.count(begin) != 1 or page.count(end) != 1:
        raise ValueError(f"Expected {begin} and {end} once each in the page")
    before, _, rest = page.partition(begin)
    _, _, after = rest.partition(end)
    return f"{before}{begin}\n\n{table}\n{end}{after}"


if __name__ == "__main__":
    made = markdown(json.loads(Path(sys.argv[1]).read_text()))
    if len(sys.argv) > 2:
        target = Path(sys.argv[2])
        target.write_text(put(target.read_text(), made, *sys.argv[3:4]))
    else:
        print(made)
