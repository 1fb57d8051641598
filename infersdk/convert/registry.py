"""Which converter takes which model: one readable list.

A converter is a module (or any object) with the two names and five functions of :class:`Converter`. The
built-in ones are imported when a model is looked up, and import their framework only when they convert.
"""

from __future__ import annotations

import importlib
import os
import threading
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from infersdk.errors import MissingDependencyError, UnsupportedModelError
from infersdk.types import PlanPart, Signature

if TYPE_CHECKING:
    import numpy as np
    from onnx import ModelProto

__all__ = [
    "EXPORTERS",
    "Converter",
    "Written",
    "class_of",
    "find",
    "name_of",
    "naming_the_extra",
    "open_source",
    "register",
    "type_name",
]

# The order matters: XGBoost's and LightGBM's scikit-learn classes are scikit-learn estimators too.
_BUILT_IN = (
    "onnx_file",
    "xgboost",
    "lightgbm",
    "catboost",
    "skorch",
    "statsmodels",
    "spark",
    "libsvm",
    "coreml",
    "sklearn",
    "keras",
    "tensorflow",
    "sentence_transformers",
    "transformers",
    "jax",
    "torch",
)

# Packages that converters need beside the framework itself, which the model's owner has anyway.
EXPORTERS = frozenset(
    {
        "jax2onnx",
        "onnx_ir",
        "onnxscript",
        "sentence_transformers",
        "skl2onnx",
        "tf2onnx",
        "tokenizers",
        "transformers",
    }
)

# Frameworks without a converter here that write ONNX files themselves, and how.
_OWN_EXPORT = {
    "paddle": "paddle2onnx",
}

# Files that hold a pickle without its class, and what opens them.
_OWN_LOADING = {
    ".ckpt": "LightningModule.load_from_checkpoint",
}


@dataclass(frozen=True, slots=True)
class Written:
    """What a converter wrote.

    Parameters
    ----------
    graph : onnx.ModelProto
        Its external data, if any, are in ``external_folder``.
    notes : tuple of str
        About repairs, and what was noticed on the way.
    signature : Signature, optional
        Of this graph, where it is another than was asked for: with steps before the graph, say.
    parts : tuple of PlanPart
        What became of each part of the model, for models made of parts.
    sources : Mapping of str to object
        The parts of the source model that steps of kind "source" call, by the step's name.
    documents : Mapping of str to dict
        What other steps need, to be kept in the artifact: JSON objects with a whole ``version``.
    external_folder : str, optional
        A folder of the converter's own making; it becomes the artifact's, and goes with it.
    open_session : callable, optional
        Opens a session of the graph over the source model's own weights, for the proof of a model that
        should not be in memory twice. It has ``outputs``, ``run_ordered`` and ``close``, as a Session.
    retry : callable, optional
        Writes the model in another way, to be tried where this one fails the proof.
    """

    graph: ModelProto
    notes: tuple[str, ...] = ()
    signature: Signature | None = None
    parts: tuple[PlanPart, ...] = ()
    sources: Mapping[str, Any] = field(default_factory=dict)
    documents: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    external_folder: str | None = None
    open_session: Callable[[], Any] | None = None
    retry: Callable[[], Written] | None = None


class Converter(Protocol):
    """What a converter offers; a module with these names is one.

    It may have two names more. ``reference(model, method, rows)`` is asked instead of ``call`` by the parity
    check, where the proof needs another answer than service gives (on the CPU, or in float32).
    ``open_source(model)`` returns the model that a path leads to, and anything else as it is; the other
    functions are given what it returned.
    """

    FRAMEWORK: str
    """The framework's name as its users write it, ``"scikit-learn"``; unique."""

    EXTRA: str
    """The extra of infersdk that installs what converting needs, ``"sklearn"``."""

    def can_convert(self, model: Any) -> bool:
        """Whether this converter knows the model's type; reads its module's name, imports nothing."""

    def infer_signature(self, model: Any, example: Any = None) -> Signature:
        """Describe the model's fields, methods and graph without converting it.

        Raises
        ------
        UnsupportedModelError
            It cannot even be served as it is, e.g. because it is not fitted.
        """

    def to_onnx(
        self, model: Any, signature: Signature, *, example: Any = None, opset: int | None = None
    ) -> Written:
        """Write the graph that `signature` describes. The model is not changed.

        Raises
        ------
        ConversionError
            No graph answers as the model does.
        """

    def call(self, model: Any, method: str, rows: Any) -> Any:
        """Return what the source framework itself answers; the oracle of the parity check."""

    def edge_rows(
        self,
        model: Any,
        signature: Signature,
        example: Any,
        *,
        n_rows: int,
        rng: np.random.Generator,
    ) -> Any | None:
        """Make up rows where a conversion is most likely to go wrong; None where it cannot."""


_FUNCTIONS = ("can_convert", "infer_signature", "to_onnx", "call", "edge_rows")
_registered: list[Converter] = []
_lock = threading.Lock()


def find(model: Any) -> Converter:
    """Return the converter of a model; registered ones are asked before the built-in ones.

    Raises
    ------
    UnsupportedModelError
        Naming the model's type, what is supported, and what to do.
    """
    for converter in _converters():
        if converter.can_convert(model):
            return converter
    raise UnsupportedModelError(_refusal(model))


def register(converter: Converter) -> None:
    """Add a converter for another framework.

    Parameters
    ----------
    converter : Converter
        A module or object with the names of :class:`Converter`.

    Raises
    ------
    TypeError
        A name is missing.
    ValueError
        Its framework has a converter already.
    """
    missing = [name for name in ("FRAMEWORK", "EXTRA") if not hasattr(converter, name)]
    missing += [name for name in _FUNCTIONS if not callable(getattr(converter, name, None))]
    if missing:
        raise TypeError(
            f"Expected a converter with {', '.join(missing)} beside the other names of "
            f"infersdk.convert.registry.Converter, got {converter!r}"
        )
    with _lock:
        for known in _converters():
            if known.FRAMEWORK.casefold() == converter.FRAMEWORK.casefold():
                raise ValueError(
                    f"{converter.FRAMEWORK} has a converter already: {known!r}. "
                    "Give another FRAMEWORK name"
                )
        _registered.append(converter)


def open_source(model: Any, converter: Converter) -> Any:
    """Return what a path leads to, where the converter takes paths; anything else as it is."""
    opens: Callable[[Any], Any] | None = getattr(converter, "open_source", None)
    if opens is None:
        return model
    with naming_the_extra(converter):
        return opens(model)


def class_of(model: Any) -> type:
    """Return a model's class; of a (model, tokenizer) tuple that of its model."""
    return type(model[0]) if type(model) is tuple and model else type(model)


def type_name(model: Any) -> str:
    """Return the class of a model with its module, ``"sklearn.svm._classes.SVC"``."""
    kind = class_of(model)
    return f"{kind.__module__}.{kind.__qualname__}"


def name_of(model: Any) -> str:
    """Return what a model is called that was given no name: as its file without suffix, its folder, or its class."""
    if isinstance(model, bytes):
        return "model"
    if not isinstance(model, str | os.PathLike):
        return class_of(model).__name__
    path = Path(os.path.abspath(os.fsdecode(model)))
    # What follows a dot in a folder's name is rarely a suffix: "bert-v1.5".
    return path.name if path.is_dir() and path.suffix != ".mlpackage" else path.stem


@contextmanager
def naming_the_extra(converter: Converter) -> Iterator[None]:
    """Turn the ImportError of a missing exporter into one that names the extra to install."""
    try:
        yield
    except ModuleNotFoundError as exc:
        package = (exc.name or "").partition(".")[0]
        if isinstance(exc, MissingDependencyError) or package not in EXPORTERS:
            raise
        raise MissingDependencyError.for_extra(
            package, converter.EXTRA, f"Converting a model of {converter.FRAMEWORK}"
        ) from exc


def _converters() -> Iterator[Converter]:
    """Registered converters, then the built-in ones; a module is imported when its turn comes."""
    yield from tuple(_registered)
    for name in _BUILT_IN:
        yield _built_in(name)


def _built_in(name: str) -> Converter:
    converter: Any = importlib.import_module(f"infersdk.convert.{name}")
    return converter


def _refusal(model: Any) -> str:
    kind = type(model)
    supported = ", ".join(converter.FRAMEWORK for converter in _converters())
    if isinstance(model, str | os.PathLike):
        path = os.fspath(model)
        start = f"Expected a model of {supported}, or the path of one, got {path!r}"
        if path.endswith(tuple(_OWN_LOADING)):
            how = _OWN_LOADING[os.path.splitext(path)[1]]
            return f"{start}. Load it with {how} and pass the model itself"
        if not os.path.exists(path):
            return f"{start}, and there is no such file or folder"
        return (
            f"{start}. Opened by their path are .onnx, .keras, .h5, .json, .ubj, .txt, .cbm, .model, "
            ".mlmodel and .skops files, folders of a SavedModel or of transformers, and, on trust, .pkl, "
            ".joblib, .pt, .pth and .pt2 files. Load anything else with its framework and pass the model itself"
        )
    start = f"Expected a model of {supported}, got `{kind.__module__}.{kind.__qualname__}`. "
    if isinstance(model, type):
        return start + f"Pass a fitted `{model.__name__}`, not the class itself"
    if isinstance(model, types.FunctionType):
        return start + (
            "A plain function says nothing about itself: pass jax.jit(f) if it is one of JAX, tf.function(f) "
            "if it is one of TensorFlow, or use @infersdk.batched"
        )
    for base in kind.__mro__:
        export = _OWN_EXPORT.get(base.__module__.partition(".")[0])
        if export:
            return start + f"Write an ONNX file with {export} and load that"
    return start + (
        "Write an ONNX file with the framework's own exporter and load that, or add a converter: "
        "`from infersdk.convert import registry; registry.register(...)`"
    )
