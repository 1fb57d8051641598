"""Model files of other frameworks, opened by their path: what is safe at once, the rest on trust.

================================  ==============================================================
opened at once                    XGBoost ``.json`` and ``.ubj``, LightGBM ``.txt``, CatBoost ``.cbm``,
                                  LIBSVM ``.model``, Core ML ``.mlmodel``, skops ``.skops`` of known types
opened with ``trust=``            ``.pkl``, ``.pickle``, ``.joblib``, ``.pt``, ``.pth``, ``.pt2``; further
                                  types in ``.skops`` files
================================  ==============================================================

A pickle is a program: whoever wrote the file decides what runs when it is opened, with all the rights of this
process. It is never opened unasked. Formats that hold numbers only are told by their content where their
suffix says nothing.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from infersdk.errors import (
    ArtifactError,
    InferSDKError,
    MissingDependencyError,
    UnsupportedModelError,
)

__all__ = ["is_model_file", "open_model_file"]

Trust = bool | Sequence[str]

_PICKLES = (".pkl", ".pickle", ".joblib")
_TORCH = (".pt", ".pth", ".pt2")
_HEAD_BYTES = 4096


def is_model_file(model: Any) -> bool:
    """Whether this is a path with the suffix of a model file other than ``.onnx``; opens nothing."""
    if not isinstance(model, str | os.PathLike):
        return False
    path = os.fspath(model)
    return isinstance(path, str) and Path(path).suffix.lower() in (*_PICKLES, *_OPENERS)


def open_model_file(path: str | os.PathLike[str], trust: Trust = False) -> Any:
    """Open a model file with the framework that wrote it.

    Parameters
    ----------
    path : str or PathLike
        See the table above.
    trust : bool or sequence of str
        True: run whatever the file holds. For ``.skops`` files names of types, as the error about them
        lists them, are trusted alone.

    Returns
    -------
    object
        The model.

    Raises
    ------
    UnsupportedModelError
        The file can run code and is not trusted, or it is none of a known framework.
    ArtifactError
        The file is missing or damaged.
    MissingDependencyError
        The framework is not installed; names the extra.
    """
    file = Path(path)
    if not file.exists():
        raise ArtifactError(f"Expected a model file at {str(file)!r}, found none")
    suffix = file.suffix.lower()
    opener = _OPENERS.get(suffix, _open_pickle)
    try:
        return opener(file, trust)
    except InferSDKError:
        raise
    except ModuleNotFoundError as exc:
        package = (exc.name or "").partition(".")[0]
        if package in _EXTRA_OF:
            raise MissingDependencyError.for_extra(
                package, _EXTRA_OF[package], f"Opening {file.name}"
            ) from exc
        raise UnsupportedModelError(
            f"{file.name} needs the module `{exc.name}`, which cannot be imported here. Make it "
            "importable (install the package, or put the training code on the path) and load again"
        ) from exc
    except Exception as exc:  # parsers raise of every kind
        text = " ".join(str(exc).split())[:200]
        raise ArtifactError(
            f"{str(file)!r} cannot be opened: {type(exc).__name__}: {text}. It is damaged, is another "
            "format than its suffix says, or was written by an incompatible version of its framework"
        ) from exc


_EXTRA_OF = {
    "catboost": "catboost",
    "coremltools": "coreml",
    "joblib": "sklearn",
    "libsvm": "libsvm",
    "lightgbm": "lightgbm",
    "sklearn": "sklearn",
    "skops": "skops",
    "torch": "torch",
    "xgboost": "xgboost",
}


# ---- what can run code


def _demand_trust(file: Path, trust: Trust, kind: str, instead: str) -> None:
    if trust is True:
        return
    given = "" if trust is False else " Names of types are understood for .skops files only."
    raise UnsupportedModelError(
        f"{str(file)!r} is {kind}, which can run any code when it is opened, so it is not opened "
        f"unasked.{given} If you trust whoever wrote the file and the way it came here, pass "
        f"trust=True; or {instead}"
    )


def _open_pickle(file: Path, trust: Trust) -> Any:
    _demand_trust(
        file,
        trust,
        "a pickle",
        "load the model where it was trained and save what infersdk makes of it: "
        'infersdk.load(model, example=X).save("model.onnx")',
    )
    if file.suffix.lower() == ".joblib":
        import joblib

        return joblib.load(file)
    try:
        with file.open("rb") as stream:
            return pickle.load(stream)
    except (pickle.UnpicklingError, ValueError, KeyError):
        # joblib's files, which have arrays of their own in between, often bear this suffix.
        import joblib

        return joblib.load(file)


def _open_torch(file: Path, trust: Trust) -> Any:
    _demand_trust(
        file,
        trust,
        "a PyTorch file with Python objects",
        'pass the module itself, with its weights from a ".safetensors" file or from '
        "torch.load(path, weights_only=True)",
    )
    import torch

    if file.suffix.lower() == ".pt2":
        return torch.export.load(str(file))
    try:
        return torch.jit.load(str(file), map_location="cpu")
    except RuntimeError:
        pass  # no TorchScript
    model = torch.load(file, map_location="cpu", weights_only=False)
    if isinstance(model, dict):
        raise UnsupportedModelError(
            f"{str(file)!r} holds a dict ({', '.join(map(str, list(model)[:3]))}, ...), weights without "
            "their module. Build the module, call load_state_dict() and pass the module itself"
        )
    return model


def _open_skops(file: Path, trust: Trust) -> Any:
    import skops.io

    unknown = skops.io.get_untrusted_types(file=file)
    trusted = unknown if trust is True else [] if trust is False else list(trust)
    left = [name for name in unknown if name not in trusted]
    if left:
        names = ", ".join(repr(name) for name in left)
        raise UnsupportedModelError(
            f"{str(file)!r} holds types that skops does not know to be safe: {names}. If you know "
            f"them, pass trust=({names},)"
        )
    return skops.io.load(file, trusted=trusted)


# ---- numbers only


def _head(file: Path) -> bytes:
    with file.open("rb") as stream:
        return stream.read(_HEAD_BYTES)


def _open_json(file: Path, trust: Trust) -> Any:
    head = _head(file)
    if b'"learner"' not in head and b'"version"' not in head:
        raise UnsupportedModelError(
            f"{str(file)!r} is JSON, but not an XGBoost model. Expected what Booster.save_model() writes"
        )
    return _open_xgboost(file, trust)


def _open_xgboost(file: Path, trust: Trust) -> Any:
    import xgboost

    return xgboost.Booster(model_file=str(file))


def _open_text(file: Path, trust: Trust) -> Any:
    """LightGBM's and LIBSVM's text formats, by their first words."""
    head = _head(file).lstrip()
    if head.startswith(b"tree") and b"version=" in head:
        import lightgbm

        return lightgbm.Booster(model_file=str(file))
    if head.startswith(b"svm_type"):
        from libsvm.svmutil import svm_load_model

        return svm_load_model(str(file))
    if head.startswith((b'{"learner', b"{L")):
        return _open_xgboost(file, trust)
    raise UnsupportedModelError(
        f"{str(file)!r} is not a model that is known by its first words. Expected what LightGBM's "
        "Booster.save_model() or LIBSVM's svm_save_model() writes"
    )


def _open_catboost(file: Path, trust: Trust) -> Any:
    import catboost

    # What the loss is about decides which methods the model has.
    plain = catboost.CatBoost()
    plain.load_model(str(file))
    loss = str(plain.get_all_params().get("loss_function", "")).split(":")[0]
    kinds = {
        "CrossEntropy": catboost.CatBoostClassifier,
        "Logloss": catboost.CatBoostClassifier,
        "MultiClass": catboost.CatBoostClassifier,
        "MultiClassOneVsAll": catboost.CatBoostClassifier,
        "RMSE": catboost.CatBoostRegressor,
    }
    if loss not in kinds:
        return plain
    model = kinds[loss]()
    model.load_model(str(file))
    return model


def _open_coreml(file: Path, trust: Trust) -> Any:
    import coremltools

    return coremltools.utils.load_spec(str(file))


_OPENERS: dict[str, Callable[[Path, Trust], Any]] = {
    ".cbm": _open_catboost,
    ".json": _open_json,
    ".mlmodel": _open_coreml,
    ".mlpackage": _open_coreml,
    ".model": _open_text,
    ".skops": _open_skops,
    ".txt": _open_text,
    ".ubj": _open_xgboost,
    **dict.fromkeys(_TORCH, _open_torch),
}
