"""What a transformer is for: which methods it gets, how its outputs become their answers.

=========================== ====================================================================================
a model for                 methods
=========================== ====================================================================================
classes of texts            ``predict`` (labels), ``predict_proba``, ``logits``
several labels at once      ``predict`` (0 or 1 for each label), ``predict_proba``, ``logits``
one number                  ``predict``; ``logits`` too where a function is applied to it
classes of tokens           ``__call__`` (a dict, with ``logits``), ``predict`` (class indices, -100 where filled up)
anything else               ``__call__``: a dict of the tensors that the model returns
=========================== ====================================================================================

Answers with an axis of tokens come with ``input_ids`` and ``attention_mask``: a call's rows are filled up to its
longest, and the mask tells which tokens are real. For the others the numbers are 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from infersdk.errors import UnsupportedModelError
from infersdk.types import Labels, Method

if TYPE_CHECKING:
    import torch

__all__ = [
    "IGNORED",
    "Task",
    "classification",
    "named_function",
    "tensors_of",
    "token_classification",
]

IGNORED = -100
"""The class index that transformers gives to tokens that do not count."""

Function = Literal["softmax", "sigmoid", "none"]


@dataclass(frozen=True, slots=True)
class Task:
    """What becomes of a model's outputs.

    Parameters
    ----------
    finish : callable
        Model outputs and inputs, both dicts of torch tensors by name, to the graph's outputs.
    methods : callable
        Names of the graph's outputs (those of `finish`, by their own name) to the methods.
    answer : callable
        ``answer(method, outputs, inputs)``: the same in numpy, from what the source model gave.
    """

    finish: Callable[[Mapping[str, Any], Mapping[str, Any]], dict[str, torch.Tensor]]
    methods: Callable[[Mapping[str, str]], tuple[Method, ...]]
    answer: Callable[[str, Mapping[str, NDArray[Any]], Mapping[str, NDArray[Any]]], Any]


def classification(config: Any, function: Function | None = None) -> Task:
    """A model that gives each text scores for its labels.

    Parameters
    ----------
    config : transformers.PretrainedConfig
        Its ``problem_type`` decides what a score is; without one, a single label is a number and several exclude
        each other.
    function : {"softmax", "sigmoid", "none"}, optional
        What turns logits into scores, where somebody has decided that.
    """
    n_labels = int(config.num_labels)
    if function is None:
        function = _function(config)
    if n_labels == 1 or (config.problem_type == "regression" and n_labels > 0):
        return _numbers(function, n_labels)
    labels = tuple(str(config.id2label[index]) for index in range(n_labels))
    several = function == "sigmoid"

    def finish(outputs: Mapping[str, Any], inputs: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        logits = outputs["logits"]
        made = {
            "label": (logits > 0).long() if several else logits.argmax(-1),
            "probabilities": _apply(function, logits),
            "logits": logits,
        }
        if function == "none":
            del made["probabilities"]
        return made

    def methods(names: Mapping[str, str]) -> tuple[Method, ...]:
        if several:
            first = Method("predict", (names["label"],))
        else:
            first = Method(
                "predict", (names["label"],), form="labels", labels=Labels(labels, "object")
            )
        found = [first]
        if "probabilities" in names:
            found.append(Method("predict_proba", (names["probabilities"],)))
        return (*found, Method("logits", (names["logits"],)))

    def answer(
        method: str, outputs: Mapping[str, NDArray[Any]], inputs: Mapping[str, NDArray[Any]]
    ) -> Any:
        logits = outputs["logits"]
        if method == "logits":
            return logits
        if method == "predict_proba":
            return _apply_numpy(function, logits)
        if several:
            return (logits > 0).astype(np.int64)
        return np.array(labels, dtype=object)[logits.argmax(-1)]

    return Task(finish, methods, answer)


def _numbers(function: Function, n_numbers: int) -> Task:
    """A model that gives each text a number, or a fixed count of them."""
    shape = () if n_numbers == 1 else (n_numbers,)

    def finish(outputs: Mapping[str, Any], inputs: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        logits = outputs["logits"]
        if function == "none":
            return {"prediction": logits}
        return {"prediction": _apply(function, logits), "logits": logits}

    def methods(names: Mapping[str, str]) -> tuple[Method, ...]:
        found = [Method("predict", (names["prediction"],), shape=shape)]
        if "logits" in names:
            found.append(Method("logits", (names["logits"],)))
        return tuple(found)

    def answer(
        method: str, outputs: Mapping[str, NDArray[Any]], inputs: Mapping[str, NDArray[Any]]
    ) -> Any:
        logits = outputs["logits"]
        if method == "logits":
            return logits
        return _apply_numpy(function, logits).reshape(len(logits), *shape)

    return Task(finish, methods, answer)


def token_classification() -> Task:
    """A model that gives each token scores for its labels."""
    plain = tensors_of()

    def finish(outputs: Mapping[str, Any], inputs: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        import torch

        made = plain.finish(outputs, inputs)
        classes = outputs["logits"].argmax(-1)
        if "attention_mask" in inputs:
            ignored = torch.full_like(classes, IGNORED)
            classes = torch.where(inputs["attention_mask"] > 0, classes, ignored)
        return {**made, "classes": classes}

    def methods(names: Mapping[str, str]) -> tuple[Method, ...]:
        others = {key: name for key, name in names.items() if key != "classes"}
        return (*plain.methods(others), Method("predict", (names["classes"],)))

    def answer(
        method: str, outputs: Mapping[str, NDArray[Any]], inputs: Mapping[str, NDArray[Any]]
    ) -> Any:
        if method == "__call__":
            return plain.answer(method, outputs, inputs)
        classes = outputs["logits"].argmax(-1)
        return np.where(inputs.get("attention_mask", 1) > 0, classes, IGNORED)

    return Task(finish, methods, answer)


def tensors_of() -> Task:
    """A model that is asked for what it returns."""

    def finish(outputs: Mapping[str, Any], inputs: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        import torch

        return _with_mask(outputs, inputs, lambda real, value: torch.where(real, value, 0.0))

    def methods(names: Mapping[str, str]) -> tuple[Method, ...]:
        return (Method("__call__", tuple(names.values()), form="dict", keys=tuple(names)),)

    def answer(
        method: str, outputs: Mapping[str, NDArray[Any]], inputs: Mapping[str, NDArray[Any]]
    ) -> Any:
        return _with_mask(
            outputs, inputs, lambda real, value: np.where(real, value, value.dtype.type(0))
        )

    return Task(finish, methods, answer)


def _with_mask(
    outputs: Mapping[str, Any],
    inputs: Mapping[str, Any],
    choose: Callable[[Any, Any], Any],
) -> dict[str, Any]:
    """Add the tokens where answers have an axis of them, and write 0 where they are filled up.

    What a model computes there means nothing, and differs from one attention kernel to the next.
    """
    mask = inputs.get("attention_mask")
    made = {}
    # Where an answer to a question begins and ends is a matter of the largest number, which 0 might be.
    by_token = "start_logits" in outputs
    for name, value in outputs.items():
        if value.ndim > 2 and value.shape[1] == inputs["input_ids"].shape[1]:
            by_token = True
            value = value if mask is None else choose(mask[:, :, None] > 0, value)
        made[name] = value
    if by_token:
        for name in ("input_ids", "attention_mask"):
            if name in inputs:
                made.setdefault(name, inputs[name])
    return made


def named_function(value: Any) -> Function | None:
    """Read what a pipeline was told to apply to its model's logits; None where it was told nothing.

    Raises
    ------
    UnsupportedModelError
        It is none of transformers' own.
    """
    if value is None:
        return None
    name = str(getattr(value, "value", value)).lower()
    if name not in ("softmax", "sigmoid", "none"):
        raise UnsupportedModelError(
            f"Expected function_to_apply to be softmax, sigmoid or none, got {value!r}"
        )
    return name  # type: ignore[return-value]


def _function(config: Any) -> Function:
    if config.problem_type == "regression":
        return "none"
    if config.problem_type == "multi_label_classification":
        return "sigmoid"
    return "softmax" if config.num_labels > 1 else "none"


def _apply(function: Function, logits: Any) -> Any:
    if function == "softmax":
        return logits.softmax(-1)
    return logits.sigmoid() if function == "sigmoid" else logits


def _apply_numpy(function: Function, logits: NDArray[Any]) -> NDArray[Any]:
    if function == "none":
        return logits
    wide = logits.astype(np.float64)
    if function == "sigmoid":
        # Of the logit's size only, so that exp() never overflows.
        small = np.exp(-np.abs(wide))
        scores = np.where(wide >= 0, 1, small) / (1 + small)
    else:
        scores = np.exp(wide - wide.max(-1, keepdims=True))
        scores /= scores.sum(-1, keepdims=True)
    return scores.astype(logits.dtype)
