"""Models and examples as the command line names them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from infersdk.cli.inputs import UsageError, open_example, open_model

ROWS = [{"age": 41, "city": "Oslo"}, {"age": 7, "city": "Bergen"}]


@pytest.fixture
def the_app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A module of an app, in the current folder."""
    name = f"app_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(
        "class Settings:\n"
        "    rows = [1, 2]\n"
        "def make():\n"
        "    return 'made'\n"
        "def model(x=None):\n"
        "    return x\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield name
    sys.modules.pop(name, None)


def test_objects_and_functions_of_the_app(the_app: str) -> None:
    assert open_model(f"{the_app}:Settings.rows") == [1, 2]
    assert open_model(f"{the_app}:make") == "made"
    # What takes something may be the model itself.
    assert open_model(f"{the_app}:model")(3) == 3
    assert open_example(f"{the_app}:make") == "made"


def test_what_is_not_there_is_named(the_app: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no 'nothing'"):
        open_model(f"{the_app}:Settings.nothing")
    with pytest.raises(UsageError, match="can be imported from"):
        open_model("no_such_app:model")
    with pytest.raises(UsageError, match="does not exist"):
        open_model(str(tmp_path / "model.onnx"))
    with pytest.raises(UsageError, match="does not exist"):
        open_example("rows.npy")


def test_a_broken_app_is_not_taken_for_a_missing_one(the_app: str, tmp_path: Path) -> None:
    (tmp_path / f"{the_app}.py").write_text("import no_such_dependency\n")
    with pytest.raises(ModuleNotFoundError, match="no_such_dependency"):
        open_model(f"{the_app}:make")


@pytest.mark.parametrize("suffix", [".pkl", ".joblib", ".pt"])
def test_files_that_run_code_must_be_trusted(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"model{suffix}"
    path.write_bytes(b"")
    with pytest.raises(UsageError, match="--trust"):
        open_model(str(path))
    assert open_model(str(path), trust=True) == str(path)


def test_arrays(tmp_path: Path) -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.save(tmp_path / "rows.npy", array)
    np.savez(tmp_path / "rows.npz", left=array, right=array + 1)
    np.testing.assert_array_equal(open_example(str(tmp_path / "rows.npy")), array)
    named = open_example(str(tmp_path / "rows.npz"))
    assert list(named) == ["left", "right"]
    np.testing.assert_array_equal(named["right"], array + 1)


def test_arrays_of_objects_are_not_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(UsageError, match=r"cannot be read.*pickle"):
        open_example(str(tmp_path / "rows.npy"))


def test_json(tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text(json.dumps(ROWS))
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, ROWS)) + "\n\n")
    assert open_example(str(tmp_path / "rows.json")) == ROWS
    assert open_example(str(tmp_path / "rows.jsonl")) == ROWS
    (tmp_path / "rows.json").write_text("{")
    with pytest.raises(UsageError, match="cannot be read"):
        open_example(str(tmp_path / "rows.json"))


def test_csv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pandas = pytest.importorskip("pandas", reason="it reads the file")
    path = tmp_path / "rows.csv"
    pandas.DataFrame(ROWS).to_csv(path, index=False)
    assert open_example(str(path)).to_dict("records") == ROWS
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UsageError, match="needs pandas"):
        open_example(str(path))


def test_another_kind_of_example_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.xls").write_text("")
    with pytest.raises(UsageError, match=r"\.npy, \.npz, \.csv, \.parquet, \.json, \.jsonl"):
        open_example(str(tmp_path / "rows.xls"))
