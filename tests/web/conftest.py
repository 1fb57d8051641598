"""Models for requests, fitted once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import infersdk

# Apps that the tests' servers import: what they need stands in the environment.
collect_ignore = ["asgi_apps.py", "paced_apps.py", "protocols/mlflow_client.py"]


@dataclass(frozen=True)
class Trained:
    """A fitted model, the rows it was fitted on, and its artifact."""

    model: Any
    X: Any
    path: Path


@pytest.fixture(scope="session")
def iris(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A scikit-learn classifier of four named float columns."""
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    X, y = load_iris(return_X_y=True, as_frame=True)
    model = LogisticRegression(max_iter=500).fit(X, y)
    path = tmp_path_factory.mktemp("iris") / "iris.onnx"
    infersdk.convert(model, example=X).save(path)
    return Trained(model, X, path)


@pytest.fixture(scope="session")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A pipeline over text, whole numbers, truth values and numbers that may be missing."""
    import numpy as np
    import pandas as pd
    from sklearn.compose import make_column_transformer
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    rng = np.random.default_rng(5)
    n = 200
    X = pd.DataFrame(
        {
            "age": rng.integers(18, 90, n),
            "city": rng.choice(["Oslo", "Rome", "Lima"], n),
            "active": rng.random(n) < 0.5,
            "income": np.where(rng.random(n) < 0.2, np.nan, rng.normal(50, 9, n)),
        }
    )
    y = np.where(X["age"] + 20 * (X["city"] == "Oslo") > 60, "stays", "leaves")
    encode = make_column_transformer(
        (OneHotEncoder(sparse_output=False), ["city"]), remainder="passthrough"
    )
    model = make_pipeline(encode, HistGradientBoostingClassifier(max_iter=10)).fit(X, y)
    path = tmp_path_factory.mktemp("mixed") / "mixed.onnx"
    infersdk.convert(model, example=X).save(path)
    return Trained(model, X, path)
