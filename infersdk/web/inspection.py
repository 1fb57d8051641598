"""An app's models, looked at without a server: what every host's command line shows and asks.

Here are the words; a host's command parses its arguments, prints what it gets, and ends with status 1 and the
message where an :class:`InspectionError` is raised.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from infersdk.errors import InputError, UnknownModelError
from infersdk.runtime import Predictor
from infersdk.web.json_rows import InvalidJSON, decode, encode
from infersdk.web.openapi import describe, openapi
from infersdk.web.service import Service

__all__ = [
    "Checked",
    "InspectionError",
    "answer_rows",
    "check_models",
    "describe_as_json",
    "describe_model",
    "list_models",
    "openapi_as_json",
]


class InspectionError(Exception):
    """What a command ends with: a message for whoever typed it, of one line or more."""


class Checked(NamedTuple):
    """What came of opening a model.

    Attributes
    ----------
    name : str
    is_fine : bool
        It opened and ran.
    details : list of str
        Lines: how it runs, or why it does not.
    """

    name: str
    is_fine: bool
    details: list[str]

    @property
    def headline(self) -> str:
        """The line above the details."""
        return f"{self.name}: {'fine' if self.is_fine else 'failed'}"


def list_models(service: Service) -> list[str]:
    """List the models with their states, sources and methods, opening none.

    Parameters
    ----------
    service : Service

    Returns
    -------
    list of str
        Lines of a table.
    """
    predictors = service.predictors
    if not len(predictors):
        return ["No model is declared."]
    states = predictors.health()["models"]
    rows = []
    for name in predictors:
        config = predictors.config(name)
        methods = ", ".join(config.methods or ["all"])
        rows.append((name, states[name]["state"], _where(config.source), methods))
    return _table(("model", "state", "source", "methods"), rows)


def check_models(service: Service, names: Iterable[str] = ()) -> Iterator[Checked]:
    """Open models and warm them up, one after the other, as a server's worker does.

    Parameters
    ----------
    service : Service
    names : iterable of str
        By default all.

    Yields
    ------
    Checked
        As soon as the model has been tried.

    Raises
    ------
    InspectionError
        Before the first, if a name is unknown; after the last, if a model failed.
    """
    predictors = service.predictors
    chosen = list(dict.fromkeys(names)) or list(predictors)
    for name in chosen:
        _config(service, name)
    failed = []
    for name in chosen:
        try:
            predictor = predictors[name]
            predictor.warm_up(predictors.config(name).warm_up_rows)
        except Exception as error:
            failed.append(name)
            yield Checked(name, False, _indented(_reason(error)))
        else:
            # The last line of a calibration is what follows from the measurements before it.
            calibration = str(predictor.calibration).splitlines()[-1]
            details = [*_proof(predictor), f"calibration: {calibration}"]
            yield Checked(name, True, _indented("\n".join(details)))
    if failed:
        raise InspectionError(f"{len(failed)} of {len(chosen)} models failed: {', '.join(failed)}")


def describe_model(service: Service, name: str) -> list[str]:
    """Say what a model takes and gives.

    Parameters
    ----------
    service : Service
    name : str

    Returns
    -------
    list of str
        Lines to read.

    Raises
    ------
    InspectionError
        There is no such model, or it cannot be opened.
    """
    predictor = _opened(service, name)
    signature = predictor.signature
    methods = ", ".join(_methods(service, name))
    lines = [name, *_indented("\n".join([*_proof(predictor), f"methods: {methods}"]))]
    for what, values in (("input", signature.inputs), ("output", signature.outputs)):
        if values:
            lines += ["", *_table((what, "type"), [(value.name, str(value)) for value in values])]
    if signature.fields:
        fields = [
            (
                field.name,
                field.dtype + (" (not read)" if field.input is None else ""),
                "refused" if field.missing == "refuse" else f"become {field.missing}",
            )
            for field in signature.fields
        ]
        lines += ["", *_table(("field", "takes", "missing values"), fields)]
    return lines


def describe_as_json(service: Service, name: str) -> str:
    """Say what a model takes and gives, as its route does.

    Parameters
    ----------
    service : Service
    name : str

    Raises
    ------
    InspectionError
        As :func:`describe_model`.
    """
    _opened(service, name)
    return _json(describe(service, name))


def answer_rows(service: Service, name: str, method: str | None, path: str) -> str:
    """Answer the rows of a file. Limits of requests do not hold here.

    Parameters
    ----------
    service : Service
    name : str
    method : str or None
        One that requests may ask for; None for the first of these.
    path : str
        Of a file of JSON: a row, or a list of rows; "-" for standard input.

    Returns
    -------
    str
        JSON in one line: ``{"answers": [...]}``.

    Raises
    ------
    InspectionError
        There is no such model, method or file, the model cannot be opened, or the rows do not fit it: then
        every reason is in the message.
    """
    predictor = _opened(service, name)
    known = _methods(service, name)
    if method is None:
        method = known[0]
    elif method not in known:
        raise InspectionError(
            f"Model `{name}` has no method `{method}`; it has: {', '.join(known)}"
        )
    rows = _read_rows(path)
    try:
        answers = predictor(rows) if method == "__call__" else getattr(predictor, method)(rows)
        return encode({"answers": answers}).decode()
    except InputError as error:
        reasons = "\n".join(map(str, predictor.check(rows) or [error]))
        raise _several(f"The rows do not fit model `{name}`:", reasons) from error
    except Exception as error:
        raise _several(f"Model `{name}` could not answer:", _reason(error)) from error


def openapi_as_json(
    service: Service, *, title: str = "Models", version: str = "1", prefix: str | None = None
) -> str:
    """Write the OpenAPI document of the models' routes.

    Parameters
    ----------
    service : Service
    title, version : str
        Of the API.
    prefix : str, optional
        Where the routes are mounted, e.g. "/models"; by default where the settings say.

    Raises
    ------
    InspectionError
        A model cannot be opened.
    """
    for name in service.predictors:
        _opened(service, name)
    document = openapi(service, title=title, version=version)
    if prefix is not None:
        document["servers"] = [{"url": "/" + prefix.strip("/")}]
    return _json(document)


# -- models --------------------------------------------------------------------------------------


def _config(service: Service, name: str) -> Any:
    try:
        return service.predictors.config(name)
    except UnknownModelError as error:
        raise InspectionError(str(error)) from error


def _opened(service: Service, name: str) -> Predictor:
    _config(service, name)
    try:
        return service.predictors[name]
    except Exception as error:
        raise _several(f"Model `{name}` could not be opened:", _reason(error)) from error


def _methods(service: Service, name: str) -> list[str]:
    methods: list[str] = describe(service, name)["methods"]
    return methods


def _proof(predictor: Predictor) -> list[str]:
    parity = predictor.parity
    return [
        f"plan: {predictor.plan}",
        "parity: there was nothing to compare with" if parity is None else str(parity),
    ]


def _where(source: Any) -> str:
    """Where a model comes from, in a word."""
    if isinstance(source, (str, os.PathLike)):
        return str(source)
    if isinstance(source, partial):
        # One that settings gave by name knows it.
        return str(getattr(source, "name", None) or _where(source.func))
    name = getattr(source, "__qualname__", None)
    return type(source).__qualname__ if name is None else f"{source.__module__}:{name}"


def _read_rows(path: str) -> Any:
    try:
        return decode(sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes())
    except OSError as error:
        raise InspectionError(f"The rows cannot be read: {error}") from error
    except InvalidJSON as error:
        raise InspectionError(
            f"The rows are not JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        ) from error


# -- text ----------------------------------------------------------------------------------------


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _several(first: str, details: str) -> InspectionError:
    return InspectionError("\n".join([first, *_indented(details)]))


def _indented(text: str) -> list[str]:
    return [f"  {line}" for line in text.splitlines()]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (head, *rows)
    ]


def _json(value: Any) -> str:
    return json.dumps(json.loads(encode(value)), indent=2, ensure_ascii=False)
