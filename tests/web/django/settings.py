"""Settings of a small Django project, for the tests of its app.

Servers that the tests start read them as they are; in the tests' own process there are no models unless
``INFERSDK`` is overridden.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

FOLDER = Path(os.environ.get("DJANGO_TEST_MODELS", ""))

SECRET_KEY = "of tests"
DEBUG = False
ALLOWED_HOSTS = ["*"]
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "infersdk.web.django",
    "rest_framework",
]
MIDDLEWARE = [
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "infersdk.web.django.middleware.ProblemMiddleware",
]
ROOT_URLCONF = "tests.web.django.urls"
DATABASES: dict[str, Any] = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": ":memory:",
        "ATOMIC_REQUESTS": True,
    }
}
TEMPLATES: list[dict[str, Any]] = [
    {"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}
]
STATIC_URL = "static/"
USE_TZ = True
REST_FRAMEWORK: dict[str, Any] = {
    "DEFAULT_AUTHENTICATION_CLASSES": [],
    "UNAUTHENTICATED_USER": None,
}
INFERSDK: dict[str, Any] = {
    "MODELS": {"iris": FOLDER / "iris.onnx"} if "DJANGO_TEST_MODELS" in os.environ else {},
    "OPENING": os.environ.get("DJANGO_TEST_OPENING", "auto"),
}
LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "loggers": {
        "infersdk": {"handlers": ["console"], "level": os.environ.get("LOG_LEVEL", "WARNING")}
    },
}
