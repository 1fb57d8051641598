"""``python -m benchmarks [CASE[/VARIANT[/LOAD]] ...] [--quick] [--json PATH]``"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.cases import CASES, ON_REQUEST
from benchmarks.load_runner import KINDS, measure_load
from benchmarks.machine import machine, versions
from benchmarks.plots import plot_open_load
from benchmarks.rivals.servers.environments import EnvironmentFailedError
from benchmarks.runner import FULL, QUICK, DifferentAnswersError, Result, measure
from benchmarks.tables import fill, load_table
from benchmarks.web import wrk
from benchmarks.web.server import ServerError
from benchmarks.web_runner import measure_web
from benchmarks.web_tables import app_table, fill_web, ratio_table

PICTURES = Path(__file__).parents[1] / "build" / "benchmarks"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure infersdk against its rivals: equal answers first, then rounds in turn.",
    )
    parser.add_argument(
        "cases",
        nargs="*",
        metavar="CASE",
        help=f"{', '.join((*CASES, *ON_REQUEST))}; one variant as CASE/VARIANT, one load as CASE/VARIANT/LOAD or "
        f"CASE/*/LOAD (default: all but {', '.join(ON_REQUEST)})",
    )
    parser.add_argument("--quick", action="store_true", help="few short rounds: a look, no figures")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write all figures there as well")
    options = parser.parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else 160)
    try:
        chosen = _chosen(options.cases, quick=options.quick)
    except ValueError as error:
        parser.error(str(error))
    try:
        _check_tools(console, chosen, named=bool(options.cases))
    except wrk.MissingToolError as error:
        console.print(f"[red]{error}[/red]")
        return 1
    where, what = machine(), versions()
    console.print(f"{where['processor']}, {where['cores']} cores, {where['system']}")
    console.print(", ".join(f"{name} {version}" for name, version in what.items()))
    invalid = failed = False
    records: list[dict[str, Any]] = []
    pictures: list[Path] = []
    effort = QUICK if options.quick else FULL
    for case_name, variants in chosen.items():
        case = importlib.import_module(f"benchmarks.cases.{case_name}")
        table = _table(f"{case_name}: {case.TITLE}", case.KIND)
        ratios = ratio_table()
        for variant, loads in variants.items():
            results: list[Any]
            with console.status(f"{case_name}/{variant}"):
                try:
                    if case.KIND == "web":
                        results = measure_web(case_name, variant, effort)
                        fill_web(table, ratios, variant, results)
                        invalid |= any(result.invalid for result in results)
                    elif case.KIND in KINDS:
                        results = measure_load(case_name, variant, loads, effort)
                        fill(table, variant, case.KIND, results)
                    else:
                        results = measure(case_name, variant, effort)
                        _fill(table, variant, results, case.KIND)
                except (
                    DifferentAnswersError,
                    EnvironmentFailedError,
                    ServerError,
                    wrk.WrkError,
                ) as error:
                    console.print(f"[red]{escape(str(error))}[/red]")
                    if case.KIND != "web":
                        return 1
                    failed = True  # minutes of other apps' figures are not thrown away for it
                    continue
            records += [
                {"case": case_name, "variant": variant, **asdict(result)} for result in results
            ]
            if case.KIND == "open" and len(loads) > 1:
                pictures += plot_open_load(variant, results, PICTURES)
        console.print(table)
        if ratios.row_count:
            console.print(ratios)
    for path in pictures:
        console.print(f"written to {path}")
    if options.json is not None:
        report = {
            "machine": where,
            "versions": what,
            "quick": options.quick,
            "results": records,
        }
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(report, indent=2) + "\n")
        console.print(f"written to {options.json}")
    if invalid:
        console.print(
            "[red]Requests failed under load: these figures mean nothing. Run it again, alone on the machine[/red]"
        )
    return int(invalid or failed)


def _check_tools(console: Console, chosen: dict[str, Any], *, named: bool) -> None:
    """Leave out the web cases where wrk is missing, unless they were asked for.

    Raises
    ------
    MissingToolError
        They were.
    """
    web = [
        name for name in chosen if importlib.import_module(f"benchmarks.cases.{name}").KIND == "web"
    ]
    if not web:
        return
    try:
        wrk.find()
    except wrk.MissingToolError as error:
        if named:
            raise
        console.print(f"[yellow]left out: {', '.join(web)}. {error}[/yellow]")
        for name in web:
            del chosen[name]


def _chosen(names: list[str], *, quick: bool) -> dict[str, dict[str, tuple[str, ...]]]:
    """Case -> variant -> loads to measure, in the order asked for; no loads where a case has none."""
    chosen: dict[str, dict[str, tuple[str, ...]]] = {}
    for name in names or CASES:
        case_name, *rest = name.split("/", 2)
        variant, load = (*rest, "", "")[:2]
        if case_name not in (*CASES, *ON_REQUEST):
            raise ValueError(
                f"expected a case ({', '.join((*CASES, *ON_REQUEST))}), got {case_name!r}"
            )
        case = importlib.import_module(f"benchmarks.cases.{case_name}")
        is_load = case.KIND in KINDS
        model = variant.partition("@")[0] if is_load else variant
        if model not in ("", "*", *case.VARIANTS):
            raise ValueError(
                f"expected a variant of {case_name} ({', '.join(case.VARIANTS)}), got {variant!r}"
            )
        known = tuple(case.LOADS) if is_load else ()
        if load and load not in known:
            raise ValueError(
                f"expected a load of {case_name} ({', '.join(known) or 'it has none'}), got {load!r}"
            )
        usual_loads = getattr(case, "USUAL_LOADS", known)
        variants = chosen.setdefault(case_name, {})
        usual = (case.QUICK if quick else case.DEFAULT) if is_load else case.VARIANTS
        for one in usual if model in ("", "*") else (variant,):
            wanted = (*variants.get(one, ()), *((load,) if load else usual_loads))
            variants[one] = tuple(dict.fromkeys(wanted))
    return chosen


def _table(title: str, kind: str) -> Table:
    if kind == "web":
        return app_table(title)
    if kind in KINDS:
        return load_table(title, kind)
    table = Table(title=title, title_justify="left")
    table.add_column("variant", no_wrap=True)
    table.add_column("who answers", no_wrap=True)
    if kind == "fresh":
        columns = ("CPU ms", "wall ms", "CPU / first")
    else:
        columns = ("us a call", "p50 us", "p99 us", "calls/s", "speed-up", "quartiles")
    for name in columns:
        table.add_column(name, justify="right")
    return table


def _fill(table: Table, variant: str, results: list[Result], kind: str) -> None:
    for i, result in enumerate(results):
        if kind == "fresh":
            cells = [f"{result.cpu_ms:.0f}", f"{result.p50_us / 1e3:.0f}", f"{result.ratio:.2f}"]
        else:
            cells = [
                f"{result.call_us:.1f}",
                f"{result.p50_us:.1f}",
                f"{result.p99_us:.1f}",
                f"{result.throughput_per_s:,.0f}",
                f"{1 / result.ratio:.3g}x",
                f"{1 / result.ratio_high:.3g} - {1 / result.ratio_low:.3g}",
            ]
        table.add_row(
            variant if i == 0 else "",
            result.label,
            *cells,
            end_section=i == len(results) - 1,
        )


if __name__ == "__main__":
    sys.exit(main())
