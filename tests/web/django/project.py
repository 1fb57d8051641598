"""Setting Django up, for every test that needs it in its own process."""

from __future__ import annotations

import os

__all__ = ["set_up"]

SETTINGS = "tests.web.django.settings"


def set_up() -> None:
    """Set Django up with this folder's settings; a process can do so only once, and with one module.

    Raises
    ------
    RuntimeError
        Django has been set up in another way.
    """
    import django
    from django.conf import settings

    if settings.configured:
        if getattr(settings, "ROOT_URLCONF", None) != "tests.web.django.urls":
            raise RuntimeError(
                f"Django is set up with other settings than {SETTINGS}: use set_up()"
            )
        return
    os.environ["DJANGO_SETTINGS_MODULE"] = SETTINGS
    try:
        django.setup()
    finally:
        # pytest-django takes a process with this variable for one that tests a Django project.
        del os.environ["DJANGO_SETTINGS_MODULE"]
