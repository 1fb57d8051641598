"""A model for the exporters' tests, fitted once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import infersdk
from infersdk import Batching, Execution, Predictor

collect_ignore = ["otel_app.py"]

EXECUTION = Execution(calibration_s=0.05)


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a classifier of four float columns."""
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    X, y = load_iris(return_X_y=True)
    path = tmp_path_factory.mktemp("iris") / "iris.onnx"
    model = LogisticRegression(max_iter=500).fit(X, y)
    infersdk.convert(model, example=X, name="iris").save(path)
    return path


@pytest.fixture(scope="module")
def predictor(artifact: Path) -> Iterator[Predictor]:
    """Nothing is queued."""
    with infersdk.load(artifact, execution=EXECUTION, batching=Batching.off()) as made:
        yield made


@pytest.fixture(scope="module")
def queueing(artifact: Path) -> Iterator[Predictor]:
    """Calls that find it busy share runs."""
    batching = Batching(enabled=True, max_batch_size=16)
    with infersdk.load(artifact, execution=EXECUTION, batching=batching) as made:
        assert made.calibration.mergeable
        yield made
