"""docs/metrics.md: its tables are what is exported, and Prometheus takes its queries."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from infersdk.monitor import Exemplars, RequestMetrics
from infersdk.monitor.aliases import ALIASES
from infersdk.monitor.exposition import render
from infersdk.monitor.families import families
from tests.monitor.prometheus_server import program
from tests.monitor.snapshots import FixedSource, model_metrics
from tests.web.servers import ROOT

PAGE = (ROOT / "docs" / "metrics.md").read_text()

QUERIES = re.findall(r"^```promql\n(.*?)^```", PAGE, re.M | re.S) + re.findall(
    r"`((?:sum|histogram)[^`]*\([^`]*)`", PAGE
)


def test_every_own_name_is_listed_with_its_type_and_labels() -> None:
    exported = families(
        [model_metrics()],
        exemplars=Exemplars(),
        requests=RequestMetrics({("rows", "iris", 200): 1}),
    )
    section = PAGE.partition("## Names")[2].partition("###")[0]
    listed = re.findall(r"^\| `(infersdk_\w+)` \| (\w+) \| ([^|]*)\| ([^|]+) \|$", section, re.M)
    assert {name: kind for name, kind, *_ in listed} == {
        family.name: family.kind for family in exported
    }
    for family in exported:
        [labels] = [labels for name, _, labels, _ in listed if name == family.name]
        for name, _ in family.series[0][0]:
            assert name in ("model", "version") or f"`{name}`" in labels


def test_every_alias_is_listed() -> None:
    source = FixedSource([model_metrics()])
    own, _ = render(source)
    both, _ = render(source, aliases=list(ALIASES))
    heads = re.compile(rb"^# TYPE (\w+) ", re.M)
    for name in {*heads.findall(both)} - {*heads.findall(own)}:
        assert f"`{name.decode()}`" in PAGE
    for alias in ALIASES:
        assert f'"{alias}"' in PAGE


def test_queries_ask_for_series_that_there_are() -> None:
    body, _ = render(
        FixedSource([model_metrics()]), requests=RequestMetrics({("rows", "iris", 200): 1})
    )
    series = {line.partition("{")[0] for line in body.decode().splitlines()}
    assert len(QUERIES) > 8
    for query in QUERIES:
        asked = re.findall(r"infersdk_\w+", query)
        assert asked
        assert set(asked) <= series


def test_prometheus_takes_the_queries(tmp_path: Path) -> None:
    promtool = program("promtool")
    rules = "".join(
        f"      - record: query:{place}\n        expr: |\n          {query.strip()}\n"
        for place, query in enumerate(QUERIES)
    )
    file = tmp_path / "rules.yml"
    file.write_text(f"groups:\n  - name: page\n    rules:\n{rules}")
    checked = subprocess.run(
        [promtool, "check", "rules", str(file)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize(
    "yaml", re.findall(r"^```yaml\n((?:scrape_configs|groups).*?)^```", PAGE, re.M | re.S)
)
def test_prometheus_takes_the_configuration(yaml: str, tmp_path: Path) -> None:
    promtool = program("promtool")
    file = tmp_path / "page.yml"
    file.write_text(yaml)
    checked = subprocess.run(
        [promtool, "check", "config" if yaml.startswith("scrape") else "rules", str(file)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
