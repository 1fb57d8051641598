"""What the command line names: a model, and an example to show it.

Both may be the path of a file, or ``module:attribute``, imported as Python would from the current
folder: an object, or a function of the app that takes nothing and returns it.
"""

from __future__ import annotations

import importlib
import inspect
import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from infersdk.errors import MissingDependencyError

__all__ = ["UsageError", "open_example", "open_model"]

_REFERENCE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
_RUNS_CODE = (".pkl", ".pickle", ".joblib", ".pt", ".pth", ".pt2")


class UsageError(Exception):
    """What was named does not exist or cannot be read; the message says what to do."""


def open_model(text: str, *, trust: bool = False) -> Any:
    """Return the model that `text` names.

    Parameters
    ----------
    text : str
        A path, or ``module:attribute``.
    trust : bool
        Whether files may be named that run code when they are opened, such as pickles.

    Returns
    -------
    object
        Paths as they are: :func:`infersdk.load` opens them itself.

    Raises
    ------
    UsageError
        There is no such file or attribute, or the file must be trusted first.
    """
    if not os.path.exists(text) and _REFERENCE.fullmatch(text):
        return _import(text)
    if not os.path.exists(text):
        raise UsageError(
            f"Expected a model's file or folder, or module:attribute, got {text!r}, which does not exist"
        )
    if not trust and text.lower().endswith(_RUNS_CODE):
        raise UsageError(
            f"Opening {text!r} runs whatever code is in it. Say --trust if you made the file, or trust "
            "who did and the way it came here"
        )
    return text


def open_example(text: str) -> Any:
    """Return the rows that `text` names.

    ``.npy`` is an array, ``.npz`` a dict of arrays by input name, ``.csv`` and ``.parquet`` a DataFrame,
    ``.json`` and ``.jsonl`` what JSON says: a list of rows.

    Raises
    ------
    UsageError
        There is no such file or attribute, or it is of another kind or damaged.
    """
    if not os.path.exists(text):
        if _REFERENCE.fullmatch(text):
            return _import(text)
        raise UsageError(
            f"Expected an example's file, or module:attribute, got {text!r}, which does not exist"
        )
    suffix = Path(text).suffix.lower()
    read = _READERS.get(suffix)
    if read is None:
        raise UsageError(
            f"Expected an example in a file {', '.join(_READERS)}, got {text!r}. Any other: "
            "module:function, where the function returns the rows"
        )
    try:
        return read(text)
    except MissingDependencyError:
        raise
    except (OSError, ValueError) as exc:
        raise UsageError(f"The example {text!r} cannot be read: {exc}") from exc


def _import(text: str) -> Any:
    name, _, path = text.partition(":")
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(name)
    except ModuleNotFoundError as exc:
        if exc.name is None or not (name + ".").startswith(exc.name + "."):
            raise
        raise UsageError(
            f"Expected a module that can be imported from {here}, got {name!r}: {exc}"
        ) from exc
    for part in path.split("."):
        if not hasattr(found, part):
            raise UsageError(
                f"Expected an attribute of {name!r}, got {path!r}: there is no {part!r}"
            )
        found = getattr(found, part)
    if inspect.isfunction(found) and not _needs_arguments(found):
        return found()
    return found


def _needs_arguments(function: Callable[..., Any]) -> bool:
    parameters = inspect.signature(function).parameters.values()
    # A function with a parameter, even one that may be left out, can be a model.
    return bool(parameters)


def _read_npy(path: str) -> Any:
    return np.load(path, allow_pickle=False)


def _read_npz(path: str) -> Any:
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def _read_csv(path: str) -> Any:
    return _pandas(path).read_csv(path)


def _read_parquet(path: str) -> Any:
    return _pandas(path).read_parquet(path)


def _read_json(path: str) -> Any:
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def _read_jsonl(path: str) -> Any:
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.strip()]


def _pandas(path: str) -> Any:
    try:
        return importlib.import_module("pandas")
    except ImportError as exc:
        raise UsageError(
            f"Reading {path!r} needs pandas (pip install pandas). Without it: .npy, .npz, .json, .jsonl"
        ) from exc


_READERS: dict[str, Callable[[str], Any]] = {
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
    ".json": _read_json,
    ".jsonl": _read_jsonl,
}
