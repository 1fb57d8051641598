"""``python -m benchmarks [CASE ...] [--quick] [--json PATH]``"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.cases import CASES
from benchmarks.machine import machine, versions
from benchmarks.runner import FULL, QUICK, DifferentAnswersError, Result, measure


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure infersdk against its rivals: equal answers first, then rounds in turn.",
    )
    parser.add_argument(
        "cases",
        nargs="*",
        metavar="CASE",
        help=f"{', '.join(CASES)}, or one variant as CASE/VARIANT (default: all)",
    )
    parser.add_argument("--quick", action="store_true", help="few short rounds: a look, no figures")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write all figures there as well")
    options = parser.parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else 130)
    try:
        chosen = _chosen(options.cases)
    except ValueError as error:
        parser.error(str(error))
    where, what = machine(), versions()
    console.print(f"{where['processor']}, {where['cores']} cores, {where['system']}")
    console.print(", ".join(f"{name} {version}" for name, version in what.items()))
    records: list[dict[str, Any]] = []
    for case_name, variants in chosen.items():
        case = importlib.import_module(f"benchmarks.cases.{case_name}")
        table = _table(f"{case_name}: {case.TITLE}", case.KIND)
        for variant in variants:
            with console.status(f"{case_name}/{variant}"):
                try:
                    results = measure(case_name, variant, QUICK if options.quick else FULL)
                except DifferentAnswersError as error:
                    console.print(f"[red]{error}[/red]")
                    return 1
            _fill(table, variant, results, case.KIND)
            records += [
                {"case": case_name, "variant": variant, **asdict(result)} for result in results
            ]
        console.print(table)
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
    return 0


def _chosen(names: list[str]) -> dict[str, tuple[str, ...]]:
    """Case -> variants to measure, in the order asked for."""
    chosen: dict[str, tuple[str, ...]] = {}
    for name in names or CASES:
        case_name, _, variant = name.partition("/")
        if case_name not in CASES:
            raise ValueError(f"expected a case ({', '.join(CASES)}), got {case_name!r}")
        variants = importlib.import_module(f"benchmarks.cases.{case_name}").VARIANTS
        if variant and variant not in variants:
            raise ValueError(
                f"expected a variant of {case_name} ({', '.join(variants)}), got {variant!r}"
            )
        chosen[case_name] = (*chosen.get(case_name, ()), variant) if variant else variants
    return chosen


def _table(title: str, kind: str) -> Table:
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
