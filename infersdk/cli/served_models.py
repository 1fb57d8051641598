"""Which models a server is to serve: what the command line names, or what lies in a folder."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from infersdk.cli.inputs import UsageError, open_model

__all__ = ["MODEL_DIR", "named_models"]

MODEL_DIR = "/opt/ml/model"
"""Where SageMaker puts a container's models."""

_SUFFIXES = (".onnx", ".skops", ".ubj", ".cbm", ".mlmodel")
_TRUSTED_SUFFIXES = (".joblib", ".pickle", ".pkl", ".pt", ".pt2", ".pth")
_NAMED = re.compile(r"([^=/\\:]+)=(.+)")


def named_models(texts: Sequence[str], *, trust: bool, folder: str | None) -> dict[str, Any]:
    """Find the models to serve.

    Parameters
    ----------
    texts : sequence of str
        ``name=path``, ``path``, ``name=module:function`` or ``module:function``. None: every model file of the
        folder.
    trust : bool
        Whether files may be named that run code when they are opened.
    folder : str, optional
        By default :data:`MODEL_DIR`.

    Returns
    -------
    dict of str to source
        A path, or a function that imports the model where it is called: nothing is opened here.

    Raises
    ------
    UsageError
        There is no such file, it must be trusted first, or two models have one name.
    """
    found: dict[str, Any] = {}
    for text in texts or _files_of(Path(folder or MODEL_DIR), trust=trust):
        name, source = _named(text, trust=trust)
        if name in found:
            raise UsageError(
                f"Expected every model to have a name of its own, got `{name}` twice; say name=path"
            )
        found[name] = source
    return found


def _named(text: str, *, trust: bool) -> tuple[str, str | Callable[[], Any]]:
    named = None if os.path.exists(text) else _NAMED.fullmatch(text)
    name, place = named.groups() if named else (None, text)
    if not os.path.exists(place) and ":" in place:
        # Imported where it is opened: this process is to stay small.
        return name or _from(place.rpartition(":")[2]), partial(open_model, place, trust=trust)
    open_model(place, trust=trust)  # of a path it says whether it is there, and may be opened
    path = Path(place)
    return name or _from(path.name if path.is_dir() else path.stem), str(path.absolute())


def _from(text: str) -> str:
    """A model's name of a file's."""
    return re.sub(r"[^\w.-]+", "_", text).lstrip(".") or "model"


def _files_of(folder: Path, *, trust: bool) -> list[str]:
    if not folder.is_dir():
        raise UsageError(
            f"Expected a MODEL, or a folder of models: {folder} does not exist. Name models as arguments, "
            "or their folder in INFERSDK_MODEL_DIR"
        )
    files = [path for path in sorted(folder.iterdir()) if path.is_file()]
    wanted = (*_SUFFIXES, *_TRUSTED_SUFFIXES) if trust else _SUFFIXES
    found = [str(path) for path in files if path.suffix.lower() in wanted]
    if not found:
        hint = ""
        if any(path.suffix.lower() in _TRUSTED_SUFFIXES for path in files):
            hint = ". Opening the pickles there runs whatever code is in them: say --trust if you made them"
        raise UsageError(f"Expected model files in {folder} ({', '.join(wanted)}), got none{hint}")
    return found
