"""Train a model of who leaves the shop, and write it where the project expects it.

    python train_churn.py

The server needs neither this file nor scikit-learn.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import infersdk

__all__ = ["save", "train"]


def train() -> tuple[Any, pd.DataFrame]:
    """Fit a pipeline to customers that are made up; it and its customers."""
    from sklearn.compose import make_column_transformer
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    random = np.random.default_rng(0)
    n_rows = 2000
    customers = pd.DataFrame(
        {
            "plan": random.choice(["basic", "silver", "gold"], n_rows),
            "months": random.integers(0, 60, n_rows),
            "calls": random.poisson(2, n_rows),
            "spent": random.gamma(2.0, 40.0, n_rows).round(2),
        }
    )
    leaving = customers["calls"] - customers["months"] / 12 + (customers["plan"] == "basic")
    left = np.where(leaving + random.normal(size=n_rows) > 1, "leaves", "stays")
    model = make_pipeline(
        make_column_transformer((OneHotEncoder(), ["plan"]), remainder="passthrough"),
        RandomForestClassifier(30, max_depth=8, random_state=0),
    )
    return model.fit(customers, left), customers


def save(path: str | os.PathLike[str]) -> None:
    """Convert the model, prove the conversion, and write the file."""
    model, customers = train()
    churn = infersdk.load(model, example=customers, name="churn", on_mismatch="raise")
    print(churn.parity)
    churn.save(path)


if __name__ == "__main__":
    save(Path(__file__).parent / "churn.onnx")
