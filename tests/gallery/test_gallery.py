"""The gallery against its recorded table: nothing that worked may get worse."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.gallery import table
from tests.gallery.entry import Entry, find, measure

ENTRIES = [entry for _, entries in find() for entry in entries]
RECORDED, _ = table.read()
_RANK = {"onnx": 0, "hybrid": 1, "native": 2}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "entry",
    [
        pytest.param(entry, id=str(entry), marks=[pytest.mark.slow] if entry.slow else [])
        for entry in ENTRIES
    ],
)
def test_model_is_served_no_worse_than_recorded(entry: Entry) -> None:
    section, name = table.key(entry)
    recorded = RECORDED.get(section, {}).get(name)
    assert recorded is not None, f"{entry} is not in {table.PATH}: run python -m tests.gallery"
    try:
        found = measure(entry)
    except ModuleNotFoundError as exc:
        pytest.skip(f"{exc.name} is not installed")
    assert not found.flips, f"{found.flips} rows have another label than the source gives"
    assert found.power <= recorded.power + 1, f"the error grew to {found.error:.1e}"
    assert _RANK[found.plan] <= _RANK[recorded.plan], (
        f"the plan was {recorded.plan}, now it is {found.plan}: {found.reason}"
    )


def test_table_has_no_row_of_another_entry() -> None:
    rows = {(section, name) for section, records in RECORDED.items() for name in records}
    assert rows <= {table.key(entry) for entry in ENTRIES}


def test_names_are_unique() -> None:
    keys = [table.key(entry) for entry in ENTRIES]
    assert len(keys) == len(set(keys))


def test_recorded_models_agree() -> None:
    for section, records in RECORDED.items():
        for name, record in records.items():
            assert not record.flips, (section, name)
            assert record.power <= -3, (section, name)


def test_finding_the_entries_imports_no_framework() -> None:
    code = """
import sys
from tests.gallery.entry import find
assert [entry for _, entries in find() for entry in entries]
heavy = {"sklearn", "xgboost", "lightgbm", "torch", "tensorflow", "keras", "jax", "catboost", "pyspark"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
