"""The project's settings."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

BASE_DIR = Path(__file__).parent.parent

SECRET_KEY = os.environ.get("SECRET_KEY", "only for the example")
DEBUG = False
ALLOWED_HOSTS = ["localhost", "127.0.0.1"]

INSTALLED_APPS = [
    "rest_framework",
    "infersdk.web.django",
    "shop",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    # Last: rows that do not fit a model become problem JSON in views of our own, too.
    "infersdk.web.django.middleware.ProblemMiddleware",
]

INFERSDK: dict[str, Any] = {
    "MODELS": {"churn": Path(os.environ.get("CHURN_MODEL", BASE_DIR / "churn.onnx"))},
    "TIMEOUT_S": 2.0,
    "MAX_ROWS": 1000,
}

ROOT_URLCONF = "shop.urls"
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]
# No users in this example: REST framework would look for them.
REST_FRAMEWORK: dict[str, Any] = {
    "DEFAULT_AUTHENTICATION_CLASSES": [],
    "UNAUTHENTICATED_USER": None,
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
}
USE_TZ = True
