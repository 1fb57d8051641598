"""Models for other people's clients, the environment these are in, and servers for them to talk to."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import infersdk

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent

# Apps that the tests' servers import, and scripts that run in the clients' own environment.
collect_ignore = ["apps.py", "django_app.py"]
collect_ignore_glob = ["clients/*"]

DTYPES = {
    "bool": 9,
    "uint8": 2,
    "uint16": 4,
    "uint32": 12,
    "uint64": 13,
    "int8": 3,
    "int16": 5,
    "int32": 6,
    "int64": 7,
    "float16": 10,
    "float32": 1,
    "float64": 11,
    "bfloat16": 16,
    "string": 8,
}
"""numpy's names, and ONNX's numbers."""


@dataclass(frozen=True)
class Served:
    """Models in a folder, what they were made of, and what they are asked.

    Attributes
    ----------
    folder : Path
        With ``iris.onnx``, ``mixed.onnx``, ``words.onnx`` and ``echo.onnx``; and ``inputs.npz`` and ``mixed.json``
        for the clients.
    iris, mixed, words : object
        The source models.
    X, rows : DataFrame
        What iris and mixed are asked.
    texts : list of str
        What words is asked.
    """

    folder: Path
    iris: Any
    mixed: Any
    words: Any
    X: Any
    rows: Any
    texts: list[str]


@pytest.fixture(scope="session")
def client_python() -> str:
    """The interpreter of the clients' environment; tests that need it are skipped where there is none."""
    path = Path(os.environ.get("INTEROP_PYTHON", ROOT / ".venv-interop/bin/python"))
    if not path.exists():
        pytest.skip("other servers' clients are not installed; `make interop` does")
    return str(path)


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Served:
    """Four models: numbers, a table of many kinds, texts, and tensors of every datatype."""
    pytest.importorskip("sklearn", reason="the models are scikit-learn's")
    import pandas as pd
    from sklearn.compose import make_column_transformer
    from sklearn.datasets import load_iris
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    folder = tmp_path_factory.mktemp("served")
    X, y = load_iris(return_X_y=True, as_frame=True)
    iris = LogisticRegression(max_iter=500).fit(X, y)
    infersdk.convert(iris, example=X).save(folder / "iris.onnx")

    rng = np.random.default_rng(5)
    n = 200
    table = pd.DataFrame(
        {
            "age": rng.integers(18, 90, n),
            "city": rng.choice(["Oslo", "Rome", "Łódź"], n),
            "active": rng.random(n) < 0.5,
            "income": np.where(rng.random(n) < 0.2, np.nan, rng.normal(50, 9, n)),
        }
    )
    stays = np.where(table["age"] + 20 * (table["city"] == "Oslo") > 60, "stays", "léaves")
    encode = make_column_transformer(
        (OneHotEncoder(sparse_output=False), ["city"]), remainder="passthrough"
    )
    mixed = make_pipeline(encode, HistGradientBoostingClassifier(max_iter=10)).fit(table, stays)
    infersdk.convert(mixed, example=table).save(folder / "mixed.onnx")

    texts = ["good and fine", "bad", "fine day", "bad and worse", "good"]
    words = make_pipeline(CountVectorizer(), LogisticRegression()).fit(texts, [1, 0, 1, 0, 1])
    infersdk.convert(words, example=texts).save(folder / "words.onnx")

    write_echo(folder / "echo.onnx")
    rows = table.iloc[:40]
    np.savez(folder / "inputs.npz", X=X.to_numpy())
    mixed_columns = {name: rows[name].tolist() for name in rows}
    (folder / "mixed.json").write_text(
        json.dumps({"columns": mixed_columns, "fields": list(X.columns), "texts": texts})
    )
    return Served(folder, iris, mixed, words, X, rows, texts)


def write_echo(path: Path) -> None:
    """Write a model that gives its inputs back, ``in_uint8`` as ``out_uint8`` and so on."""
    from onnx import helper, save

    def values(side: str) -> list[Any]:
        return [
            helper.make_tensor_value_info(f"{side}_{dtype}", number, ["N", 2])
            for dtype, number in DTYPES.items()
        ]

    nodes = [helper.make_node("Identity", [f"in_{name}"], [f"out_{name}"]) for name in DTYPES]
    graph = helper.make_graph(nodes, "echo", values("in"), values("out"))
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)


def run_client(python: str, script: str, *arguments: str, timeout_s: float = 120) -> Any:
    """Run one of the scripts in ``clients`` and return the JSON that it prints last."""
    done = subprocess.run(
        [python, "-W", "ignore", str(HERE / "clients" / script), *arguments],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        env={**os.environ, "PYTHONPATH": ""},
    )
    assert done.returncode == 0, f"{script} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return json.loads(done.stdout.splitlines()[-1])
