"""skorch: NeuralNetClassifier, NeuralNetBinaryClassifier, NeuralNetRegressor and NeuralNet. Tested with 1.4.

The net's module is converted as any PyTorch module is, and what skorch does to its answer becomes a part of
the graph: the first of several outputs is taken, ``predict_nonlinearity`` applied (softmax, sigmoid or the
user's own), and ``predict`` of a classifier is the index of the largest probability, as skorch answers it;
``classes_`` plays no part there.

The example is an array or tensor, a tuple of them, or a dict by the names of ``forward()``'s parameters.
Floating-point arrays take the dtype of the weights, where skorch itself would refuse float64.

Known losses: those of PyTorch modules. Nets whose class overrides ``infer``, ``predict``, ``get_dataset`` or
the like, Gaussian processes among them, and nets over a dataset of their own are served by skorch.
"""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np

from infersdk.convert import torch as torch_modules
from infersdk.convert.registry import Written
from infersdk.convert.torch_calls import to_tensors
from infersdk.convert.torch_copies import unwrap
from infersdk.errors import UnsupportedModelError
from infersdk.types import Method, Signature

__all__ = [
    "EXTRA",
    "FRAMEWORK",
    "call",
    "can_convert",
    "edge_rows",
    "infer_signature",
    "reference",
    "to_onnx",
]

FRAMEWORK = "skorch"
EXTRA = "skorch"

_CLASSIFIER = ("skorch.classifier", "NeuralNetClassifier")
_BINARY = ("skorch.classifier", "NeuralNetBinaryClassifier")
_REGRESSOR = ("skorch.regressor", "NeuralNetRegressor")

_OF_SKORCH = {"skorch.net", "skorch.classifier", "skorch.regressor"}
_STEPS = (
    "predict",
    "predict_proba",
    "forward_iter",
    "evaluation_step",
    "infer",
    "get_dataset",
    "get_iterator",
)
"""What a prediction passes through; the graph follows skorch's own."""


def can_convert(model: Any) -> bool:
    """Whether the model is one of skorch's nets; reads its class only."""
    return ("skorch.net", "NeuralNet") in _lineage(model)


def infer_signature(model: Any, example: Any = None) -> Signature:
    """Run the net's module on the example, and at other sizes, to learn what it takes and gives.

    Parameters
    ----------
    model : skorch.NeuralNet
        Left as it is.
    example : numpy.ndarray, torch.Tensor, tuple or dict
        Rows as the net takes them.

    Raises
    ------
    UnsupportedModelError
        The net is not fitted.
    ConversionError
        An example is needed, or does not fit the module.
    """
    if not getattr(model, "initialized_", False):
        raise UnsupportedModelError(
            f"Expected a fitted skorch net, got a `{type(model).__name__}` that is not. Call fit(), or "
            "initialize() and load_params()"
        )
    names = ("predict",) if _REGRESSOR in _lineage(model) else ("predict", "predict_proba")
    if _why_not(model):
        return Signature((), (), tuple(Method(name, ()) for name in names), container="tensors")
    found = torch_modules.infer_signature(_served(model), example)
    if not found.outputs:
        return Signature(
            found.inputs, (), tuple(Method(name, ()) for name in names), container="tensors"
        )
    outputs = tuple(spec.name for spec in found.outputs)
    methods = [Method(names[0], outputs[:1], dtype=_label_dtype(model))]
    if len(names) > 1:
        methods.append(Method(names[1], outputs[-1:]))
    return Signature(found.inputs, found.outputs, tuple(methods), container="tensors")


def to_onnx(
    model: Any, signature: Signature, *, example: Any = None, opset: int | None = None
) -> Written:
    """Export the net's module, and what skorch does to its answer.

    Parameters
    ----------
    model : skorch.NeuralNet
        Left as it is.
    signature : Signature
        Of :func:`infer_signature`.
    example : numpy.ndarray, torch.Tensor, tuple or dict
        The example that the signature was inferred from.
    opset : int, optional
        ONNX opset; by default torch's exporter's own.

    Raises
    ------
    UnsupportedModelError
        The net's class does more than skorch's own.
    ConversionError
        As for PyTorch modules.
    """
    if reason := _why_not(model):
        raise UnsupportedModelError(reason)
    return torch_modules.to_onnx(_served(model), signature, example=example, opset=opset)


def call(model: Any, method: str, rows: Any) -> Any:
    """Return what the net answers, a numpy array.

    Parameters
    ----------
    model : skorch.NeuralNet
    method : str
        ``"predict"`` or ``"predict_proba"``.
    rows : numpy.ndarray, torch.Tensor, tuple or dict
        As the example.
    """
    layout, tensors = to_tensors(model.module_, rows)
    given = tensors[0] if len(tensors) == 1 else dict(zip(layout.names, tensors, strict=True))
    return getattr(model, method)(given)


def reference(model: Any, method: str, rows: Any) -> Any:
    """Answer rows as the graph should: as :func:`call`, but torch tensors for torch tensors."""
    import torch

    answer = call(model, method, rows)
    given = (
        rows.values() if isinstance(rows, dict) else rows if isinstance(rows, tuple) else (rows,)
    )
    if any(isinstance(item, torch.Tensor) for item in given):
        return torch.from_numpy(answer)
    return answer


def edge_rows(
    model: Any, signature: Signature, example: Any, *, n_rows: int, rng: np.random.Generator
) -> Any:
    """Make rows that provoke differences: noisy, negated, enlarged; None without an example."""
    if example is None or not signature.inputs:
        return None
    return torch_modules.edge_rows(_served(model), signature, example, n_rows=n_rows, rng=rng)


def _served(model: Any) -> Any:
    """Return a module that answers as the net: the class index, if it is a classifier, and the scores."""
    import torch

    source = unwrap(model.module_)
    nonlinearity = model._get_predict_nonlinearity()
    lineage = _lineage(model)
    is_binary = _BINARY in lineage
    is_classifier = _CLASSIFIER in lineage
    threshold = getattr(model, "threshold", None)

    class Served(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = source
            self.training = False

        def forward(self, *args: Any, **keywords: Any) -> Any:
            answer = self.module(*args, **keywords)
            if isinstance(answer, tuple):
                answer = answer[0]
            if is_binary:
                answer = answer.reshape(-1)
            scores = nonlinearity(answer)
            if is_binary:
                return scores[:, 1] > threshold, scores
            if is_classifier:
                return scores.argmax(dim=1), scores
            return scores

    # Its arguments are the module's, and so is its name in messages.
    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    parameters = list(inspect.signature(source.forward).parameters.values())
    Served.forward.__signature__ = inspect.Signature([own, *parameters])  # type: ignore[attr-defined]
    Served.__name__ = Served.__qualname__ = type(source).__name__
    return Served()


def _why_not(model: Any) -> str:
    """Why a net does something else than skorch's own; nothing where it does not."""
    name = type(model).__name__
    for step in _STEPS:
        owner = inspect.unwrap(getattr(type(model), step)).__module__
        if owner not in _OF_SKORCH:
            return (
                f"Expected skorch's own `{step}`, got that of `{name}` in {owner}, which need not be what "
                "the module answers. Put it into the module's forward() to have it converted"
            )
    if (model.dataset.__module__, model.dataset.__name__) != ("skorch.dataset", "Dataset"):
        return (
            f"Expected skorch's own Dataset, got {model.dataset.__name__}, which may change rows before the "
            "module sees them. Change them before they reach the net to have it converted"
        )
    return ""


def _label_dtype(model: Any) -> str | None:
    """The dtype of ``predict`` where it is not the scores': skorch answers a binary class as uint8."""
    return "uint8" if _BINARY in _lineage(model) else None


def _lineage(model: Any) -> list[tuple[str, str]]:
    return [(base.__module__, base.__name__) for base in type(model).__mro__]
