"""System checks: what is wrong with ``settings.INFERSDK``, before a request finds it.

``manage.py check`` looks at the settings and reads the model files; ``check --deploy`` opens the models too.
The ids are stable: ``SILENCED_SYSTEM_CHECKS`` may name them. docs/django.md has the list.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.conf import settings as django_settings
from django.core import checks
from django.core.checks import CheckMessage
from django.core.exceptions import ImproperlyConfigured

from infersdk.errors import MissingDependencyError
from infersdk.predictors import ModelConfig
from infersdk.web.django import conf
from infersdk.web.settings import Settings

__all__ = ["TAG", "check_deployment", "check_settings", "register"]

TAG = "infersdk"

# Field 1 of ONNX's ModelProto, the version of its format; its metadata, field 14, which infersdk writes first; and
# the other fields of a length, 2 to 8 and 20 and 25, with which a writer might begin.
_FIRST_BYTES = frozenset({0x08, 0x72, 0x12, 0x1A, 0x22, 0x28, 0x32, 0x3A, 0x42, 0xA2, 0xCA})


def register() -> None:
    """Have Django run the checks."""
    checks.register(check_settings, TAG)
    checks.register(check_deployment, TAG, deploy=True)


def check_settings(**_: Any) -> list[CheckMessage]:
    """Look at the settings, what is installed, and how the model files begin; nothing is opened.

    A file that is not there is a warning: tests, migrations and the build of an image do without.
    """
    return [*_wrong(), *_files(checks.Warning, "infersdk.W005", "infersdk.W006")]


def check_deployment(**_: Any) -> list[CheckMessage]:
    """Open every model, as a worker will."""
    found = list(_files(checks.Error, "infersdk.E002", "infersdk.E003"))
    if found or any(message.level >= checks.ERROR for message in _wrong()):
        return found
    predictors = conf.service().predictors
    for name in predictors:
        try:
            predictors[name]
        except Exception as error:
            found.append(
                checks.Error(
                    f"Model `{name}` cannot be opened: {type(error).__name__}: {error}",
                    id="infersdk.E008",
                )
            )
    return found


def _wrong() -> Iterator[CheckMessage]:
    """What can be seen without looking at the files."""
    yield from _dependencies()
    try:
        settings = conf.read()
    except ImproperlyConfigured as error:
        yield checks.Error(str(error), id="infersdk.E001")
        return
    yield from _habits(settings)
    for name, config in settings.models.items():
        yield from _names(name)
        yield from _source(name, config)


def _dependencies() -> Iterator[CheckMessage]:
    if importlib.util.find_spec("orjson") is None:
        yield checks.Error(
            "The package `orjson`, which reads and writes requests, is not installed",
            hint='pip install "infersdk[django]"',
            id="infersdk.E006",
        )
    try:
        from infersdk._native import find_library

        find_library()
    except MissingDependencyError as error:
        yield checks.Error(str(error), id="infersdk.E007")


def _habits(settings: Settings) -> Iterator[CheckMessage]:
    if not settings.models:
        yield checks.Warning(
            "`infersdk.web.django` is installed, but no models are declared",
            hint="INFERSDK = {'MODELS': {'churn': BASE_DIR / 'churn.onnx'}}",
            id="infersdk.W001",
        )
    if settings.opening == "now":
        yield checks.Warning(
            "INFERSDK['OPENING'] is 'now': every command of manage.py opens the models, and runserver "
            "opens them twice",
            hint="'auto', the default, opens them in a server's workers and nowhere else",
            id="infersdk.W002",
        )
    asked = getattr(django_settings, "INFERSDK", {}).get("MAX_BODY_BYTES")
    limit = django_settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    if asked is not None and limit is not None and limit < asked:
        yield checks.Warning(
            f"INFERSDK['MAX_BODY_BYTES'] is {asked:,}, but Django reads no body above "
            f"DATA_UPLOAD_MAX_MEMORY_SIZE, which is {limit:,}",
            hint="raise DATA_UPLOAD_MAX_MEMORY_SIZE, or leave MAX_BODY_BYTES out",
            id="infersdk.W003",
        )


def _names(name: str) -> Iterator[CheckMessage]:
    from infersdk.predictors import Predictors

    try:
        Predictors().add(name, "any.onnx")
    except (TypeError, ValueError) as error:
        yield checks.Error(str(error), id="infersdk.E005")
        return
    if name in ("health", "openapi.json"):
        yield checks.Error(
            f"A model cannot be called `{name}`, as a route has that name",
            hint="rename it",
            id="infersdk.E005",
        )


def _source(name: str, config: ModelConfig) -> Iterator[CheckMessage]:
    source = config.source
    if isinstance(source, conf.Imported):
        yield from _import(name, source.name)
    path = _path(source)
    if path is not None and not path.is_absolute():
        yield checks.Warning(
            f"The path of model `{name}`, {str(path)!r}, begins in whichever folder a process is "
            "started from",
            hint="BASE_DIR / " + repr(str(path)),
            id="infersdk.W004",
        )


def _files(level: type[CheckMessage], missing: str, unreadable: str) -> Iterator[CheckMessage]:
    try:
        models = conf.read().models
    except ImproperlyConfigured:
        return
    for name, config in models.items():
        path = _path(config.source)
        if path is None:
            continue
        if not path.exists():
            yield level(f"The file of model `{name}` does not exist: {path.absolute()}", id=missing)
        elif path.suffix == ".onnx" and path.is_file() and (reason := _unreadable(path)):
            yield level(f"The file of model `{name}`, {path}, {reason}", id=unreadable)


def _path(source: Any) -> Path | None:
    """The file that a source names, if it names one on this machine."""
    if not isinstance(source, (str, os.PathLike)) or "://" in str(source):
        return None
    return Path(source)


def _unreadable(path: Path) -> str | None:
    """What the first bytes say against a file. Large models are not read each time that runserver starts."""
    try:
        with path.open("rb") as file:
            head = file.read(40)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    if not head:
        return "is empty"
    if head.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer, not the model: run `git lfs pull`"
    return None if head[0] in _FIRST_BYTES else "is not an ONNX model"


def _import(name: str, source: str) -> Iterator[CheckMessage]:
    """Look for the module without importing it, which may cost what a training framework costs."""
    module = source.partition(":")[0]
    try:
        there = importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        there = False
    if not there:
        yield checks.Error(
            f"The source of model `{name}`, {source!r}, names a module that does not exist",
            id="infersdk.E004",
        )
