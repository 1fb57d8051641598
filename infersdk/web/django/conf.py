"""``settings.INFERSDK``, and what is made of it once per process.

Tests change settings for a while (``override_settings``, pytest-django's ``settings``). Each change gets a
Service of its own, and what was open before is there again afterwards.
"""

from __future__ import annotations

import importlib
import inspect
import re
import threading
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured

from infersdk.predictors import ModelConfig, Predictors
from infersdk.web.settings import Settings

if TYPE_CHECKING:
    from infersdk.web.service import Service

__all__ = ["Imported", "imported", "predictors", "read", "service", "when_changed"]

_OBSERVED = ("INFERSDK", "DATA_UPLOAD_MAX_MEMORY_SIZE")
_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")

# One for each time that the settings are changed on top of each other; None until it is asked for.
_services: list[Service | None] = [None]
_lock = threading.RLock()


def read() -> Settings:
    """Read ``settings.INFERSDK``.

    A body may have as many bytes as ``MAX_BODY_BYTES`` says, and no more than Django's own
    ``DATA_UPLOAD_MAX_MEMORY_SIZE``, should that be less.

    Raises
    ------
    django.core.exceptions.ImproperlyConfigured
        A key is unknown, or a value is not one of :class:`infersdk.web.settings.Settings`.
    """
    values = getattr(django_settings, "INFERSDK", {})
    if not isinstance(values, Mapping):
        raise ImproperlyConfigured(
            "Expected settings.INFERSDK to be a dict such as {'MODELS': {'churn': BASE_DIR / 'churn.onnx'}}, "
            f"got {type(values).__name__}"
        )
    if "URL_PREFIX" in values:
        raise ImproperlyConfigured(
            "settings.INFERSDK: `URL_PREFIX` is not for Django, whose URLconf says where routes are: "
            "path('models/', include('infersdk.web.django.urls'))"
        )
    try:
        found = Settings.from_mapping(values)
        models = {name: _with_imports(source) for name, source in found.models.items()}
    except (TypeError, ValueError) as error:
        raise ImproperlyConfigured(f"settings.INFERSDK: {error}") from error
    limit = django_settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    if limit is not None and ("MAX_BODY_BYTES" not in values or limit < found.max_body_bytes):
        return replace(found, models=models, max_body_bytes=max(1, limit))
    return replace(found, models=models)


def service() -> Service:
    """Return what answers requests with the models of the settings; the models are its ``predictors``.

    Raises
    ------
    django.core.exceptions.ImproperlyConfigured
        As :func:`read`; also for a model whose name is not valid.
    infersdk.MissingDependencyError
        orjson is not installed.
    """
    return _services[-1] or _make()


def predictors() -> Predictors | None:
    """Return the project's models; None if it declares none, and others of the process may be meant.

    Raises
    ------
    Exception
        As :func:`service`.
    """
    made = _services[-1]
    if made is None and not read().models:
        return None
    return (made or _make()).predictors


def _make() -> Service:
    from infersdk.web.service import Service

    with _lock:
        made = _services[-1]
        if made is None:
            settings = read()
            try:
                made = Service(Predictors(settings.models, opening=settings.opening), settings)
            except (TypeError, ValueError) as error:
                raise ImproperlyConfigured(f"settings.INFERSDK: {error}") from error
            _services[-1] = made
        return made


def when_changed(*, setting: str, enter: bool, **_: Any) -> None:
    """Receive ``django.core.signals.setting_changed``.

    Parameters
    ----------
    setting : str
    enter : bool
        False: the setting is what it was before.
    """
    if setting not in _OBSERVED:
        return
    with _lock:
        if enter:
            _services.append(None)
            return
        left = _services.pop() if len(_services) > 1 else None
    if left is not None:
        left.predictors.close()


# -- sources that are given by name ------------------------------------------------------------------


class Imported(partial[Any]):
    """A source that a settings module cannot import itself: ``"shop.models:load_churn"``."""

    @property
    def name(self) -> str:
        """``module:attribute``."""
        return str(self.args[0])


def imported(name: str) -> Any:
    """Give what a name stands for; a function's result, if it is one.

    Parameters
    ----------
    name : str
        ``module:attribute``.

    Raises
    ------
    ImportError
        There is no such module or attribute.
    """
    module, _, attribute = name.partition(":")
    found = getattr(importlib.import_module(module), attribute, None)
    if found is None:
        raise ImportError(f"Module `{module}` has no `{attribute}`, which settings.INFERSDK names")
    # A model may be callable too; only functions are called.
    return found() if inspect.isroutine(found) or isinstance(found, partial) else found


def _with_imports(source: Any) -> ModelConfig:
    config = ModelConfig.of(source)
    if isinstance(config.source, str) and _NAME.fullmatch(config.source):
        return replace(config, source=Imported(imported, config.source))
    return config
