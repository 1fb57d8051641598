"""Three models as teams have them: a scikit-learn pipeline, XGBoost and, if installed, PyTorch."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

__all__ = ["Trained", "train_all"]


@dataclass(frozen=True)
class Trained:
    """A fitted model and what is needed to serve and to check it.

    Parameters
    ----------
    name : str
        Names the artifact and the URL.
    model : object
        The fitted model, as its framework made it.
    method : str
        The method that requests call.
    example : DataFrame or Tensor
        Rows it has not been fitted on; what infersdk proves the conversion with.
    rows : list
        The same rows as a client sends them in JSON.
    answers : ndarray, shape (len(rows), n_outputs)
        What the model itself answers to them.
    """

    name: str
    model: Any
    method: str
    example: Any
    rows: list[Any]
    answers: np.ndarray


def train_all() -> Iterator[Trained]:
    """Train them, one after the other; a second or two each."""
    yield tumors()
    yield wine()
    if importlib.util.find_spec("torch") is not None:
        yield digits()


def tumors() -> Trained:
    """Breast cancer: 28 measurements, and two noted in words, through a forest of 200 trees."""
    from sklearn.compose import ColumnTransformer
    from sklearn.datasets import load_breast_cancer
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.model_selection import train_test_split
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import OneHotEncoder

    frame, labels = load_breast_cancer(return_X_y=True, as_frame=True)
    frame.columns = [name.replace(" ", "_") for name in frame.columns]
    words = ["mean_radius", "mean_texture"]
    for name in words:
        frame[name] = pd.qcut(frame[name], 3, labels=["small", "medium", "large"]).astype(str)
    train, test, train_labels, _ = train_test_split(frame, labels, random_state=0)
    numbers = [name for name in frame.columns if name not in words]
    columns = ColumnTransformer(
        [
            ("numbers", "passthrough", numbers),
            ("words", OneHotEncoder(handle_unknown="ignore"), words),
        ]
    )
    forest = RandomForestClassifier(200, random_state=0)
    pipeline = Pipeline([("columns", columns), ("forest", forest)]).fit(train, train_labels)
    return Trained(
        "tumors",
        pipeline,
        "predict_proba",
        test,
        test.to_dict("records"),
        pipeline.predict_proba(test),
    )


def wine() -> Trained:
    """Three growers' wines by 13 chemical measurements, through XGBoost."""
    from sklearn.datasets import load_wine
    from sklearn.model_selection import train_test_split
    from xgboost import XGBClassifier

    frame, labels = load_wine(return_X_y=True, as_frame=True)
    train, test, train_labels, _ = train_test_split(frame, labels, random_state=0)
    model = XGBClassifier(n_estimators=100, max_depth=4, random_state=0).fit(train, train_labels)
    return Trained(
        "wine",
        model,
        "predict_proba",
        test,
        test.to_dict("records"),
        model.predict_proba(test),
    )


def digits() -> Trained:
    """Handwritten digits, 8x8 pixels, through a small convolutional net."""
    import torch
    from sklearn.datasets import load_digits
    from torch import nn

    torch.manual_seed(0)
    pixels, labels = load_digits(return_X_y=True)
    images = torch.tensor(pixels, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
    targets = torch.tensor(labels)
    train, test = images[:1400], images[1400:]
    net = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * 4 * 4, 10),
    )
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    for _ in range(5):
        for batch in torch.randperm(len(train)).split(100):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(train[batch]), targets[batch]).backward()
            optimizer.step()
    net.eval()
    with torch.inference_mode():
        answers = net(test).numpy()
    return Trained("digits", net, "__call__", test, test.tolist(), answers)
