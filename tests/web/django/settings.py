"""Settings of a small Django project, for the tests of its app."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

FOLDER = Path(os.environ.get("DJANGO_TEST_MODELS", "."))

SECRET_KEY = "of tests"
DEBUG = False
ALLOWED_HOSTS = ["*"]
INSTALLED_APPS = ["infersdk.web.django", "rest_framework"]
MIDDLEWARE = [
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "infersdk.web.django.middleware.ProblemMiddleware",
]
ROOT_URLCONF = "tests.web.django.urls"
DATABASES: dict[str, Any] = {}
USE_TZ = True
REST_FRAMEWORK: dict[str, Any] = {
    "DEFAULT_AUTHENTICATION_CLASSES": [],
    "UNAUTHENTICATED_USER": None,
}
INFERSDK: dict[str, Any] = {
    "MODELS": {
        "iris": FOLDER / "iris.onnx",
        "few": {"source": FOLDER / "iris.onnx", "methods": ["predict_proba"]},
    },
    "MAX_ROWS": 1000,
}
