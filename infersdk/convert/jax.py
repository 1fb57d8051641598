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

from collections.abc import Mapping
from typing import Any

import numpy as np

from infersdk.convert.jax_calls import (
    described,
    is_jax,
    is_unbound,
    prepare,
    serving,
    take_apart,
    to_arrays,
)
from infersdk.convert.jax_study import BATCH, ROWS, resized, study, varied
from infersdk.convert.registry import Written
from infersdk.convert.torch_silence import quiet
from infersdk.errors import ConversionError, UnsupportedModelError
from infersdk.types import Method, Signature, TensorSpec

__all__ = ["EXTRA", "FRAMEWORK", "call", "can_convert", "edge_rows", "infer_signature", "to_onnx"]

FRAMEWORK = "JAX"
EXTRA = "jax"

_EDGE_INPUT_BYTES = 16 * 2**20
"""Most bytes of edge rows."""

_CHECKED_ROWS = 8


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
    subject = prepare(model, _example(model, example))
    found = study(subject)
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

    subject = prepare(model, _example(model, example))
    if not signature.outputs:
        raise UnsupportedModelError(
            f"No ONNX graph can give the answer of {described(model)}: {study(subject).refusal}"
        )
    with quiet():
        if not subject.repeats():
            raise UnsupportedModelError(
                f"{described(model)} gives two answers to the same rows: it samples at random or keeps "
                "state between calls. A graph would do neither alike"
            )
        graph, found = export(subject, signature, opset=opset)
    notes = []
    if subject.n_training:
        notes.append(
            f"{subject.n_training} of its parts are in training mode; it was converted as in inference mode"
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
    return _as_numpy(layout.call(serving(model), arrays))


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
    layout, arrays = to_arrays(model, example)
    specs = [spec for spec in signature.inputs if isinstance(spec, TensorSpec)]
    if len(specs) != len(arrays):
        return None
    rows = [
        index for index, spec in enumerate(specs) if spec.shape and spec.shape[0] in (BATCH, ROWS)
    ]
    count = None
    if rows:
        row_bytes = sum(arrays[index][:1].nbytes for index in rows)
        count = max(min(n_rows, _CHECKED_ROWS), min(n_rows, _EDGE_INPUT_BYTES // max(row_bytes, 1)))
    factors = [1.0, -1.0, 0.1, 3.0]
    if not any("int" in spec.dtype for spec in signature.outputs if isinstance(spec, TensorSpec)):
        # A row of zeros often gives equal scores; which of them is the largest is arbitrary then.
        factors.append(0.0)
    made = varied(arrays, rows, count, rng, factors=factors)
    plain = tuple(
        resized(array, 0, count) if count is not None and index in rows else array
        for index, array in enumerate(arrays)
    )
    for candidate in (made, plain):
        few = [a[:_CHECKED_ROWS] if i in rows else a for i, a in enumerate(candidate)]
        try:
            layout.call(serving(model), few)
        except Exception:  # values that the model does not take
            continue
        return layout.to_rows(candidate)
    return None


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


def _as_numpy(answer: Any) -> Any:
    """Give arrays of numpy, in the containers that the Predictor gives too."""
    try:
        flat = take_apart(answer)
    except UnsupportedModelError:
        import jax

        return jax.tree_util.tree_map(np.asarray, answer)
    arrays = tuple(map(np.asarray, flat.arrays))
    if flat.form == "array":
        return arrays[0]
    if flat.keys is not None:
        return dict(zip(flat.keys, arrays, strict=True))
    return arrays if flat.form == "tuple" and not isinstance(answer, Mapping) else list(arrays)
