"""JAX: modules of Flax (NNX and linen) and Equinox, and functions that ``jax.jit`` or ``jax.vmap`` returned.

Tested with jax 0.10, flax 0.12, equinox 0.13 and jax2onnx 0.17.

The model
    A Flax NNX module as it is. A linen module with its variables: ``module.bind(variables)``, or
    ``functools.partial(module.apply, variables, train=False)`` where arguments are to be bound too. An
    Equinox module that is written for one row: ``jax.vmap(model)``. Of functions, those that JAX, Flax or
    Equinox returned (``jax.jit(f)``, ``nnx.jit``, ``eqx.filter_jit``), and a ``functools.partial`` that
    binds a module or parameters of JAX: ``functools.partial(forward, parameters)``. A plain Python function
    says nothing about itself; pass ``jax.jit(f)``.

The example
    One array; a tuple of them, passed by position; or a dict, passed by the names of the parameters (or as
    the one dict that the model takes).

Whose answers
    Those of inference mode: of ``model.eval()`` for NNX, of ``eqx.nn.inference_mode(model)`` for Equinox,
    on a copy. Dropout in a function that JAX returned cannot be reached, and is switched off before it is
    wrapped. Answers are numpy arrays.

Known losses
    A branch in Python on an array's values, random keys, state that is kept between calls, nested answers,
    complex numbers, arithmetic in bfloat16 (ONNX Runtime has none on the CPU), operators that jax2onnx does
    not know (fft, searchsorted and with it jnp.interp, linear solvers) and 1.9 GB or more of weights are
    refused; such a model is served natively. Strided windows with padding "SAME" fix height and width. An index
    that lies outside of an embedding's table is an error, where JAX clamps it or answers NaN. jax2onnx
    changes JAX for the whole process for some milliseconds: convert while no other thread traces.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from infersdk.convert.array_axes import BATCH, ROWS
from infersdk.convert.array_proof import edges
from infersdk.convert.array_study import Subject, refuse_unwritable, study
from infersdk.convert.jax_calls import (
    PureModel,
    as_numpy,
    described,
    is_jax,
    is_unbound,
    prepare,
    serving,
    to_arrays,
)
from infersdk.convert.registry import Written
from infersdk.convert.torch_silence import quiet
from infersdk.errors import ConversionError, UnsupportedModelError
from infersdk.types import Method, Signature

__all__ = ["EXTRA", "FRAMEWORK", "call", "can_convert", "edge_rows", "infer_signature", "to_onnx"]

FRAMEWORK = "JAX"
EXTRA = "jax"

_TOLERANCE = 1e-4
"""Difference that counts as rounding, as a share of the largest value: compiled or not, JAX computes alike."""


def can_convert(model: Any) -> bool:
    """Whether this is a model of JAX, Flax or Equinox; reads the names of classes only."""
    return is_jax(model)


def infer_signature(model: Any, example: Any = None) -> Signature:
    """Run the model on the example, and trace it at other sizes, to learn what it takes and gives.

    A model whose answer no graph can give (a nested one, say) gets no outputs; it can be served natively.

    Parameters
    ----------
    model : flax.nnx.Module, flax.linen.Module, equinox.Module or function
        Left as it is.
    example : array, tuple or dict
        What the model takes.

    Raises
    ------
    UnsupportedModelError
        A linen module comes without its variables.
    ConversionError
        There is no example, or it does not fit the model.
    """
    pure = prepare(model, _example(model, example))
    found = study(replace(_subject(pure), may_separate=not pure.branches()))
    if found.answer is None:
        return Signature(found.inputs, (), (Method("__call__", ()),), container="tensors")
    method = Method(
        "__call__",
        tuple(spec.name for spec in found.outputs),
        form=found.answer.form,
        keys=found.answer.keys,
    )
    return Signature(found.inputs, found.outputs, (method,), container="tensors")


def to_onnx(
    model: Any, signature: Signature, *, example: Any = None, opset: int | None = None
) -> Written:
    """Export the model, weights included, and prove the graph at several sizes.

    Parameters
    ----------
    model : flax.nnx.Module, flax.linen.Module, equinox.Module or function
        Left as it is.
    signature : Signature
        Of :func:`infer_signature`.
    example : array, tuple or dict
        The example that the signature was inferred from.
    opset : int, optional
        ONNX opset; 21 by default.

    Raises
    ------
    UnsupportedModelError
        The model decides by arrays' values, keeps state, is random, or answers in a nested container.
    ConversionError
        jax2onnx cannot export it, the graph answers differently, or the weights are too large.
    """
    from infersdk.convert.jax_export import export

    pure = prepare(model, _example(model, example))
    subject = _subject(pure)
    refuse_unwritable(described(model), subject, signature)
    with quiet():
        if not pure.repeats():
            raise UnsupportedModelError(
                f"{described(model)} gives two answers to the same rows: it samples at random or keeps "
                "state between calls. A graph would do neither alike"
            )
        graph, found = export(pure, subject, signature, opset=opset)
    notes = []
    if pure.n_training:
        notes.append(
            f"{pure.n_training} of its parts are in training mode; it was converted as in inference mode"
        )
    names = {dim for spec in signature.inputs for dim in getattr(spec, "shape", None) or ()}
    if ROWS in names:
        notes.append(
            "A row's answer depends on the rows beside it, so rows of different callers are not put "
            "into one batch"
        )
    elif BATCH not in names:
        notes.append(
            "The model takes the example's shape only; written for one row, it takes many as jax.vmap(model)"
        )
    return Written(graph, (*notes, *found))


def call(model: Any, method: str, rows: Any) -> Any:
    """Answer rows as the model itself would in inference mode.

    Parameters
    ----------
    rows : array, tuple or dict
        As the example.

    Returns
    -------
    numpy.ndarray, tuple, list or dict
        What the model returns, its arrays as numpy's; a dataclass becomes a dict.
    """
    if method != "__call__":
        raise UnsupportedModelError(f"Expected method `__call__` of a JAX model, got `{method}`")
    layout, arrays = to_arrays(model, rows)
    return as_numpy(layout.call(serving(model), arrays))


def edge_rows(
    model: Any,
    signature: Signature,
    example: Any,
    *,
    n_rows: int,
    rng: np.random.Generator,
) -> Any:
    """Make rows that provoke differences: noisy, negated, zero, enlarged.

    Integers and masks keep to values that the example has at the same position. Lengths are the
    example's: :func:`to_onnx` has proven the others already.

    Returns
    -------
    array, tuple, dict or None
        The example's container with ``n_rows`` rows, fewer where rows are large; None without an example.
    """
    if example is None:
        return None
    pure = prepare(model, example)
    made = edges(_subject(pure), signature, n_rows, rng)
    return None if made is None else pure.layout.to_rows(tuple(made.values()))


def _subject(model: PureModel) -> Subject:
    """Have the model studied; shapes come from ``jax.eval_shape``, which computes nothing."""
    return Subject(
        model.layout.names,
        model.arrays,
        (None,) * len(model.arrays),
        model.ask,
        shapes=model.shapes,
        tolerance=_TOLERANCE,
        advice=_advice,
    )


def _advice(exc: Exception) -> str:
    """Say what to pass where a model does not run on its example."""
    text = str(exc)
    if "ropout" in text or "key" in text:
        return (
            ". Switch dropout off before the model is wrapped: eqx.nn.inference_mode(model), model.eval(), "
            "or bind the argument that does so"
        )
    if isinstance(exc, TypeError) and "missing" in text:
        return (
            ". Bind other arguments first: functools.partial(module.apply, variables, train=False)"
        )
    if isinstance(exc, TypeError | ValueError):
        return (
            ". A model written for one row takes many as jax.vmap(model); pass that, and an example of "
            "several rows"
        )
    return ""


def _example(model: Any, example: Any) -> Any:
    """Return the example.

    Raises
    ------
    UnsupportedModelError, ConversionError
        The model has no variables; there is no example.
    """
    if is_unbound(model):
        serving(model)  # which says what to pass
        raise UnsupportedModelError(
            f"Expected a Flax module together with its variables, got its method `{model.__name__}`. Pass "
            "`module.bind(variables)` or `functools.partial(module.apply, variables)`"
        )
    if example is None:
        raise ConversionError(
            f"An example is needed: {described(model)} does not say what its inputs are. Pass one batch as "
            "example=: an array, a tuple of arrays, or a dict by the names of its parameters"
        )
    return example
