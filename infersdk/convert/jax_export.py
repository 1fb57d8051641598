"""From a studied JAX model to an ONNX graph that was seen to answer as the model does.

jax2onnx puts its own functions in the places of JAX's while it traces. What JAX remembers of such a trace
stays in its caches, and a jitted function that was traced so cannot run any more. So the model is traced
here, by JAX alone, into the primitives that it is made of, and jax2onnx is given only those.

A branch on a value raises while JAX traces; nothing can be frozen as the example took it. What may go wrong
is an operator whose ONNX form differs, or holds at some sizes only. So the graph is run beside the model at
several sizes and on several values before it is handed on, and lengths are fixed, one by one, where the two
differ.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from infersdk.convert.array_axes import BATCH, ROWS, fixed_but, sizes_of
from infersdk.convert.array_proof import prove
from infersdk.convert.array_study import Subject
from infersdk.convert.jax_calls import PureModel, values_needed
from infersdk.convert.jax_graph import repair_pooling, repair_products, separate_outputs
from infersdk.convert.torch_graph import describe, dynamic_names
from infersdk.errors import ConversionError, InferSDKError, UnsupportedModelError
from infersdk.types import Signature, TensorSpec

if TYPE_CHECKING:
    import onnx

__all__ = ["export"]

_OPSET = 21

_LARGEST_BYTES = 1_900_000_000
"""Most weights that go into one ONNX file: protobuf ends at 2 GiB, and the graph needs some of it."""

_EXPORT_LOCK = threading.Lock()
"""jax2onnx changes JAX for the whole process while it writes; one export at a time."""


def export(
    model: PureModel, subject: Subject, signature: Signature, *, opset: int | None
) -> tuple[onnx.ModelProto, list[str]]:
    """Export, keeping as many of the signature's named axes dynamic as are proven right.

    The axis of rows is given up only with the export itself: a graph for one number of rows would refuse
    what the model answers. A length may be fixed at the example's.

    Returns
    -------
    graph : onnx.ModelProto
        Inputs, outputs and axes are named as in the signature; an axis that had to be fixed is an int.
    notes : list of str

    Raises
    ------
    UnsupportedModelError
        A branch of the model depends on the values of an array.
    ConversionError
        No graph was produced, or none that answers as the model does.
    """
    specs = _tensor_specs(signature.inputs)
    named = frozenset(sizes_of(specs, subject.arrays))
    failures: list[ConversionError] = []

    def attempt(dynamic: frozenset[str]) -> onnx.ModelProto | None:
        try:
            return _attempt(model, subject, signature, dynamic, opset)
        except UnsupportedModelError:
            raise
        except ConversionError as exc:
            failures.append(exc)
            return None

    if (graph := attempt(named)) is not None:
        return graph, []
    rows = named & {BATCH, ROWS}
    best, kept = (attempt(rows) if rows < named else None), rows
    if best is None:
        raise failures[0]
    # Which of the other axes it was is not known; each is tried beside those that are proven.
    for name in sorted(named - rows):
        if kept | {name} != named and (found := attempt(kept | {name})) is not None:
            best, kept = found, kept | {name}
    fixed = ", ".join(f"`{name}`" for name in sorted(named - kept))
    return best, [f"Fixed at the example's size: {fixed}. {failures[0]}"]


def _attempt(
    model: PureModel,
    subject: Subject,
    signature: Signature,
    named: frozenset[str],
    opset: int | None,
) -> onnx.ModelProto:
    specs = _tensor_specs(signature.inputs)
    outputs = _tensor_specs(signature.outputs)
    written = _written(model, specs, named, opset)
    if len(written.graph.input) != len(specs) or len(written.graph.output) != len(outputs):
        raise ConversionError(
            f"Expected a graph of {len(specs)} inputs and {len(outputs)} outputs, jax2onnx gave "
            f"{len(written.graph.input)} and {len(written.graph.output)}"
        )
    repair_pooling(written.graph)
    repair_products(written.graph)
    separate_outputs(written.graph)
    describe(written, specs, outputs, named, relax=False)
    if missing := named - dynamic_names(written):
        raise ConversionError(f"jax2onnx fixed {', '.join(sorted(missing))} at the example's size")
    prove(written, subject, fixed_but(specs, subject.arrays, named))
    return written


def _written(
    model: PureModel, specs: Sequence[TensorSpec], named: frozenset[str], opset: int | None
) -> onnx.ModelProto:
    import jax
    import jax2onnx
    from jax.extend.core import jaxpr_as_fun

    scope = jax.export.SymbolicScope()
    symbols = {name: jax.export.symbolic_shape(name, scope=scope)[0] for name in sorted(named)}
    arguments = [
        jax.ShapeDtypeStruct(
            tuple(
                symbols.get(str(dim), size)
                for dim, size in zip(spec.shape or (), array.shape, strict=True)
            ),
            array.dtype,
        )
        for spec, array in zip(specs, model.arrays, strict=True)
    ]
    try:
        traced = jax.make_jaxpr(model.traced)(*arguments)
    except InferSDKError:
        raise
    except Exception as exc:
        raise _translated(exc) from exc
    traced = _without_the_unread(traced)
    n_bytes = sum(int(getattr(item, "nbytes", 0)) for item in traced.consts)
    if n_bytes > _LARGEST_BYTES:
        raise ConversionError(
            f"Expected at most {_LARGEST_BYTES / 1e9:.1f} GB of weights, got {n_bytes / 1e9:.1f} GB"
        )
    if traced.effects:
        raise UnsupportedModelError(
            "The model has effects beside its answer (jax.debug.print, a callback), which no graph has"
        )
    primitives = jaxpr_as_fun(traced)
    with _EXPORT_LOCK, _symbols_as_names():
        try:
            return jax2onnx.to_onnx(
                lambda *arrays: tuple(primitives(*arrays)),
                arguments,
                opset=_OPSET if opset is None else opset,
                enable_double_precision=_is_double(traced),
            )
        except Exception as exc:
            raise ConversionError(
                f"jax2onnx cannot export the model: {_first_line(exc) or type(exc).__name__}"
            ) from exc


def _is_double(traced: Any) -> bool:
    """Whether float64 occurs; where it does not, jax2onnx would widen float32 under ``jax_enable_x64``."""
    jaxpr = traced.jaxpr
    values = [*jaxpr.invars, *jaxpr.constvars, *jaxpr.outvars]
    values += [item for equation in jaxpr.eqns for item in equation.outvars]
    return any(str(getattr(item.aval, "dtype", "")) == "float64" for item in values)


def _without_the_unread(traced: Any) -> Any:
    """Leave out what no output reads: random keys that a recurrent cell does not use, say."""
    from jax.extend.core import ClosedJaxpr, Literal

    jaxpr = traced.jaxpr
    read = {item for item in jaxpr.outvars if not isinstance(item, Literal)}
    kept = []
    for equation in reversed(jaxpr.eqns):
        if equation.effects or read.intersection(equation.outvars):
            kept.append(equation)
            read.update(item for item in equation.invars if not isinstance(item, Literal))
    constants = [
        (variable, value)
        for variable, value in zip(jaxpr.constvars, traced.consts, strict=True)
        if variable in read
    ]
    smaller = jaxpr.replace(eqns=kept[::-1], constvars=[variable for variable, _ in constants])
    return ClosedJaxpr(smaller, [value for _, value in constants])


@contextlib.contextmanager
def _symbols_as_names() -> Iterator[None]:
    """Have onnx_ir take JAX's symbolic sizes for names.

    For a few operators (rem, pad, clamp) jax2onnx passes them on as they are, and onnx_ir asks for an int.
    """
    from onnx_ir import _core

    convert = getattr(_core, "_maybe_convert_to_symbolic_dim", None)
    if convert is None:
        yield
        return

    def lenient(dim: Any) -> Any:
        is_symbol = type(dim).__module__.startswith("jax.")
        return convert(str(dim) if is_symbol else dim)

    _core._maybe_convert_to_symbolic_dim = lenient
    try:
        yield
    finally:
        _core._maybe_convert_to_symbolic_dim = convert


def _tensor_specs(values: Sequence[Any]) -> tuple[TensorSpec, ...]:
    return tuple(value for value in values if isinstance(value, TensorSpec))


def _translated(exc: Exception) -> ConversionError:
    if isinstance(exc, values_needed()):
        return UnsupportedModelError(
            "The model takes a decision in Python by the values of an array, or hands one to numpy, which "
            f"no graph can follow ({_first_line(exc)}). Write it with jnp.where or jax.lax.cond; until "
            "then the model is served natively"
        )
    return ConversionError(
        f"JAX cannot trace the model with an axis of any size: {type(exc).__name__}: {_first_line(exc)}"
    )


def _first_line(exc: BaseException) -> str:
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(exc))
    return next((line.strip()[:200] for line in text.splitlines() if line.strip()), "")
