"""A Django project in one file that serves the models in the folder ``MODELS``."""

from __future__ import annotations

import os
from pathlib import Path

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.urls import include, path

FOLDER = Path(os.environ["MODELS"])

settings.configure(
    SECRET_KEY="of tests",
    ALLOWED_HOSTS=["*"],
    INSTALLED_APPS=["infersdk.web.django"],
    MIDDLEWARE=[
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
    ],
    ROOT_URLCONF=__name__,
    INFERSDK={
        "MODELS": {name: FOLDER / f"{name}.onnx" for name in ("iris", "mixed", "words", "echo")},
        "PROTOCOLS": ("rows", "oip"),
        "ADMIN": True,
        "COMPRESS_MIN_BYTES": 2000,
        "MAX_ROWS": 150,
    },
)

urlpatterns = [path("models/", include("infersdk.web.django.urls"))]

app = get_wsgi_application()
