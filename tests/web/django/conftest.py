"""A Django project in the tests' process, and a model to ask."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import infersdk
from tests.web.django.project import set_up

# Looking for doctests imports every module, and these set Django up, or need it to be.
collect_ignore = ["asgi.py", "settings.py", "strangers.py", "urls.py", "wsgi.py"]
collect_ignore_glob = [] if importlib.util.find_spec("django") else ["*"]


@pytest.fixture(scope="session")
def django_project() -> None:
    """Set Django up."""
    set_up()


@pytest.fixture(scope="session")
def iris() -> tuple[Any, Any]:
    """A model in scikit-learn, the oracle, and rows of its example."""
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    X, y = load_iris(return_X_y=True, as_frame=True)
    return LogisticRegression(max_iter=500).fit(X, y), X


@pytest.fixture(scope="session")
def folder(iris: tuple[Any, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``iris.onnx``."""
    model, X = iris
    folder = tmp_path_factory.mktemp("models")
    infersdk.load(model, example=X, name="iris").save(folder / "iris.onnx")
    return folder


@pytest.fixture(scope="module")
def served(django_project: None, folder: Path) -> Iterator[dict[str, Any]]:
    """The models' settings, for the tests of one file."""
    from django.test import override_settings

    path = folder / "iris.onnx"
    values = {
        "MODELS": {"iris": path, "few": {"source": path, "methods": ["predict_proba"]}},
        "MAX_ROWS": 1000,
    }
    with override_settings(INFERSDK=values):
        yield values


@pytest.fixture
def client(served: dict[str, Any]) -> Any:
    """Django's client for tests."""
    from django.test import Client

    return Client()


@pytest.fixture
def async_client(served: dict[str, Any]) -> Any:
    """Django's client for tests, through the ASGI handler."""
    from django.test import AsyncClient

    return AsyncClient()
