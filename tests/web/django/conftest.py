"""A Django project in the tests' process, and a model to ask."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import infersdk

pytest.importorskip("django", reason="the tests of the Django app")


@pytest.fixture(scope="session")
def django_project() -> None:
    """Set Django up, once in a process, as it only can be."""
    import django
    from django.conf import settings

    if not settings.configured:
        os.environ["DJANGO_SETTINGS_MODULE"] = "tests.web.django.settings"
        try:
            django.setup()
        finally:
            # pytest-django takes a process with this variable for one that tests a Django project.
            del os.environ["DJANGO_SETTINGS_MODULE"]


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
