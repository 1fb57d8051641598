"""Models as the Open Inference Protocol sees them: inputs and outputs that are tensors with names.

A model over tensors takes its graph's inputs by name and gives its outputs by name. A table takes one tensor for each
column, or one for all of them; a model of texts one tensor of BYTES. These two give an output for each method, of
the method's name; the outputs that are asked for are the methods that are called.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from infersdk.binding.columns import Columns
from infersdk.binding.refusals import describe
from infersdk.errors import InputError
from infersdk.runtime import Predictor
from infersdk.types import Field, Method, Signature, TensorSpec, ValueSpec
from infersdk.web.protocols.oip_tensors import Tensor, datatype_of, to_tensor

__all__ = ["VERSION", "Bound", "bind", "config", "metadata", "most_inputs", "timeout_s_of"]

VERSION = "1"
"""Of every model: an app has one of each."""

_PLATFORMS = {"onnx": "onnxruntime_onnx", "hybrid": "onnxruntime_onnx", "native": "python"}
_FIELD_DATATYPES = {"float": "FP64", "int": "INT64", "bool": "BOOL", "string": "BYTES"}


class Bound(NamedTuple):
    """Tensors that became rows.

    Attributes
    ----------
    rows : object
        As the Predictor takes them.
    methods : tuple of str
        Each is to be called with the rows.
    write : callable
        Makes the tensors of a list of answers, one for each method. It raises TypeError where an answer has no
        form as tensors.
    n_rows : int or None
        Of a table or texts.
    """

    rows: Any
    methods: tuple[str, ...]
    write: Callable[[list[Any]], list[Tensor]]
    n_rows: int | None


class _Output(NamedTuple):
    """A tensor that may be asked for: a method's answer, or the part of it under a key or at a position."""

    name: str
    method: str
    part: str | int | None = None


# -- what a model takes and gives -------------------------------------------------------------------


def metadata(name: str, predictor: Predictor, methods: Sequence[str]) -> dict[str, Any]:
    """Describe a model as the protocol's model metadata.

    Parameters
    ----------
    name : str
        Under which it is declared.
    predictor : Predictor
    methods : sequence of str
        What may be asked of it, the main one first.

    Returns
    -------
    dict
        ``name``, ``versions``, ``platform``, ``inputs`` and ``outputs``: each of these has a ``name``, a
        ``datatype`` and a ``shape``, with -1 for sizes that vary. Outputs of which nothing is known before they
        are there are left out; they can be asked for all the same.
    """
    return {
        "name": name,
        "versions": [VERSION],
        "platform": _PLATFORMS[predictor.plan.kind],
        "inputs": _inputs(predictor.signature),
        "outputs": _described_outputs(predictor.signature, methods),
    }


def config(name: str, predictor: Predictor, methods: Sequence[str]) -> dict[str, Any]:
    """Describe a model as Triton's model configuration, as far as its clients read it.

    Parameters
    ----------
    name, predictor, methods
        As for :func:`metadata`.
    """
    known = metadata(name, predictor, methods)
    return {
        "name": name,
        "platform": known["platform"],
        "backend": "python" if predictor.plan.kind == "native" else "onnxruntime",
        "max_batch_size": 0,  # shapes say all: the axis of rows is not left out of them
        "input": [_configured(tensor) for tensor in known["inputs"]],
        "output": [_configured(tensor) for tensor in known["outputs"]],
    }


def _configured(tensor: Mapping[str, Any]) -> dict[str, Any]:
    datatype = tensor["datatype"]
    kind = "STRING" if datatype == "BYTES" else datatype
    return {"name": tensor["name"], "data_type": f"TYPE_{kind}", "dims": tensor["shape"]}


def _inputs(signature: Signature) -> list[dict[str, Any]]:
    if signature.container == "text":
        return [{"name": _text_name(signature), "datatype": "BYTES", "shape": [-1]}]
    if signature.container != "tensors":
        return [
            {"name": field.name, "datatype": _field_datatype(field), "shape": [-1, 1]}
            for field in signature.fields
        ]
    described = (_described(spec.name, spec) for spec in signature.inputs)
    return [tensor for tensor in described if tensor is not None]


def _field_datatype(field: Field) -> str:
    known = datatype_of(field.source_dtype or "")
    return known or _FIELD_DATATYPES[field.dtype]


def _text_name(signature: Signature) -> str:
    # Where steps stand in front of the graph, its inputs are theirs to fill.
    return "text" if signature.steps or not signature.inputs else signature.inputs[0].name


def _described(name: str, spec: ValueSpec | None) -> dict[str, Any] | None:
    if not isinstance(spec, TensorSpec) or spec.shape is None:
        return None
    datatype = datatype_of(spec.dtype)
    if datatype is None:
        return None
    shape = [size if isinstance(size, int) else -1 for size in spec.shape]
    return {"name": name, "datatype": datatype, "shape": shape}


def _described_outputs(signature: Signature, methods: Sequence[str]) -> list[dict[str, Any]]:
    specs = {spec.name: spec for spec in signature.outputs}
    described = []
    for output in _outputs(signature, methods).values():
        method = signature.method(output.method)
        if method is None:
            continue
        if output.part is None:
            found = _described_answer(output.name, method, specs)
        else:
            keys = list(method.keys or method.outputs)
            position = output.part if isinstance(output.part, int) else keys.index(output.part)
            found = _described(output.name, specs.get(method.outputs[position]))
        if found is not None:
            described.append(found)
    return described


def _described_answer(
    name: str, method: Method, specs: Mapping[str, ValueSpec]
) -> dict[str, Any] | None:
    spec = specs.get(method.outputs[0]) if method.outputs else None
    known = _described(name, spec)
    datatype: str | None
    if method.labels is not None:
        dtype = method.labels.dtype
        datatype = "BYTES" if dtype.startswith(("<U", ">U", "object")) else datatype_of(dtype)
    else:
        datatype = datatype_of(method.dtype or "") or (known["datatype"] if known else None)
    if datatype is None:
        return None
    if method.shape is not None or method.labels is not None:
        shape = [-1, *(method.shape or ())]
    elif known is not None:
        shape = known["shape"]
    else:
        return None
    return {"name": name, "datatype": datatype, "shape": shape}


# -- outputs ----------------------------------------------------------------------------------------


def _outputs(signature: Signature, methods: Sequence[str]) -> dict[str, _Output]:
    """The outputs of all methods, by name. Where two share a name, it is that of the first."""
    outputs: dict[str, _Output] = {}
    for name in methods:
        made = _outputs_of(signature, name)
        fresh = [output for output in made if output.name not in outputs]
        if not fresh and len(made) == 1:
            fresh = [made[0]._replace(name=name)]
        outputs.update((output.name, output) for output in fresh)
    return outputs


def _outputs_of(signature: Signature, name: str) -> list[_Output]:
    """What one method gives, the whole answer or its parts."""
    method = signature.method(name)
    outputs = () if method is None else method.outputs
    is_named = signature.container == "tensors" or name == "__call__"
    if method is None or method.form not in ("tuple", "list", "dict"):
        known = is_named and bool(outputs) and bool(signature.outputs)
        return [_Output(outputs[0] if known else name, name)]
    keys = method.keys if method.form == "dict" and method.keys is not None else outputs
    return [
        _Output(
            key if is_named else f"{name}.{key if method.form == 'dict' else position}",
            name,
            key if method.form == "dict" else position,
        )
        for position, key in enumerate(keys)
    ]


def _asked(
    predictor: Predictor, methods: Sequence[str], requested: Sequence[str] | None, method: Any
) -> list[_Output]:
    """The outputs that a request asks for."""
    signature = predictor.signature
    if method is None:
        method = methods[0]
    elif method not in methods:
        raise InputError.mismatch(
            expected=f"one of the methods {', '.join(methods)}",
            given=describe(method),
            field="method",
            model=predictor.name,
        )
    own = _outputs_of(signature, method)
    if not requested:
        return own
    known = {**_outputs(signature, methods), **{output.name: output for output in own}}
    asked: list[_Output] = []
    for name in requested:
        output = known.get(name)
        if output is not None:
            asked.append(output)
        elif name in methods:
            # A method by its name, where its outputs have names of their own.
            parts = _outputs_of(signature, name)
            asked += [parts[0]._replace(name=name)] if len(parts) == 1 else parts
        else:
            others = [method for method in methods if method not in known and method != "__call__"]
            raise InputError.mismatch(
                expected=f"one of the outputs {', '.join([*known, *others])}",
                given=repr(name)[:80],
                field=name[:80],
                model=predictor.name,
            )
    return list(dict.fromkeys(asked))


# -- a request --------------------------------------------------------------------------------------


def bind(
    predictor: Predictor,
    methods: Sequence[str],
    inputs: Sequence[Tensor],
    requested: Sequence[str] | None = None,
    parameters: Mapping[str, Any] | None = None,
) -> Bound:
    """Make rows of a request's tensors, and find out what is asked of the model.

    Parameters
    ----------
    predictor : Predictor
    methods : sequence of str
        What may be asked of it, the main one first.
    inputs : sequence of Tensor
    requested : sequence of str, optional
        Names of outputs, or of methods; by default the outputs of the main method.
    parameters : Mapping of str to object, optional
        Of the request; ``method`` names the main method.

    Returns
    -------
    Bound
        Arrays of the inputs are in its rows as they are. Whether they fit the model is for the Predictor to
        say.

    Raises
    ------
    InputError
        The model has no such output or method, or the tensors cannot be rows.
    """
    method = None if parameters is None else parameters.get("method")
    outputs = _asked(predictor, methods, requested, method)
    rows, n_rows = _rows(predictor, inputs)
    called = tuple(dict.fromkeys(output.method for output in outputs))

    def write(answers: list[Any]) -> list[Tensor]:
        by_method = dict(zip(called, answers, strict=True))
        return [_tensor(output, by_method[output.method]) for output in outputs]

    return Bound(rows, called, write, n_rows)


def _tensor(output: _Output, answer: Any) -> Tensor:
    return to_tensor(output.name, answer if output.part is None else answer[output.part])


def _batch_rows(signature: Signature, arrays: Mapping[str, NDArray[Any]]) -> int | None:
    """The longest first axis of which the model leaves the length open: what a limit of rows is about."""
    lengths = [
        len(arrays[spec.name])
        for spec in signature.inputs
        if isinstance(spec, TensorSpec)
        and spec.shape
        and not isinstance(spec.shape[0], int)
        and arrays.get(spec.name, _NO_ARRAY).ndim
    ]
    return max(lengths, default=None)


_NO_ARRAY = np.array(0)


def _rows(predictor: Predictor, inputs: Sequence[Tensor]) -> tuple[Any, int | None]:
    signature = predictor.signature
    arrays = {tensor.name: tensor.data for tensor in inputs}
    if not inputs or len(arrays) < len(inputs):
        given = "an input more than once" if inputs else "none"
        raise InputError.mismatch(
            expected="inputs of different names", given=given, model=predictor.name
        )
    if signature.container == "tensors":
        if not signature.inputs and len(inputs) == 1:
            return inputs[0].data, None  # what the model takes is known to itself alone
        return arrays, _batch_rows(signature, arrays)
    first = inputs[0]
    if signature.container == "text":
        return _texts(predictor, inputs), len(first.data)
    if len(inputs) == 1 and first.data.ndim == 2:
        # Of a model that takes arrays, how wide they are may be known to itself alone.
        unknown = signature.container == "array" and not signature.fields
        if unknown or first.data.shape[1] == len(signature.fields):
            return first.data, len(first.data)
    columns = Columns({tensor.name: _column(predictor, tensor) for tensor in inputs})
    if len({len(column) for column in columns.arrays.values()}) > 1:
        n_rows = len(columns.arrays[first.name])
        other = next(t for t in inputs if len(columns.arrays[t.name]) != n_rows)
        raise InputError.mismatch(
            expected=f"{n_rows:,} rows, as in `{first.name}`",
            given=f"{len(other.data):,}",
            field=other.name,
            model=predictor.name,
        )
    if signature.fields:
        return columns, columns.n_rows
    # Rows of any keys.
    lists = (column.tolist() for column in columns.arrays.values())
    return [dict(zip(arrays, row, strict=True)) for row in zip(*lists, strict=True)], columns.n_rows


def _column(predictor: Predictor, tensor: Tensor) -> Any:
    data = tensor.data
    if data.ndim == 1:
        return data
    if data.ndim == 2 and data.shape[1] == 1:
        return data[:, 0]
    n_fields = len(predictor.signature.fields)
    whole = f", or one tensor of shape (n, {n_fields}) for all columns" if n_fields > 1 else ""
    raise InputError.mismatch(
        expected=f"a column of shape (n,) or (n, 1){whole}",
        given=f"the shape {tensor.shape}",
        field=tensor.name,
        model=predictor.name,
    )


def _texts(predictor: Predictor, inputs: Sequence[Tensor]) -> list[Any]:
    name = _text_name(predictor.signature)
    tensor = inputs[0]
    if len(inputs) > 1 or tensor.name != name:
        raise InputError.mismatch(
            expected=f"the only input `{name}`",
            given=", ".join(f"`{given.name[:80]}`" for given in inputs[:5]),
            field=(inputs[1] if tensor.name == name else tensor).name,
            model=predictor.name,
        )
    if tensor.datatype != "BYTES":
        raise InputError.mismatch(
            expected="texts (BYTES)", given=tensor.datatype, field=name, model=predictor.name
        )
    texts: list[Any] = _column(predictor, tensor).tolist()
    return texts


def most_inputs(signature: Signature) -> int | None:
    """How many inputs a request may have: a column for each field, or the inputs of a graph.

    Parameters
    ----------
    signature : Signature

    Returns
    -------
    int or None
        None where only the model itself knows.
    """
    if signature.container == "text":
        return 1
    known = signature.inputs if signature.container == "tensors" else signature.fields
    return len(known) or None


def timeout_s_of(parameters: dict[str, Any]) -> float | None:
    """How long a client waits, by Triton's parameter ``timeout``, which is in microseconds.

    Parameters
    ----------
    parameters : dict
        Of the request.

    Returns
    -------
    float or None
        Seconds; None where it does not say, or says nothing that makes sense.
    """
    timeout_us = parameters.get("timeout")
    if type(timeout_us) is not int or not 0 < timeout_us < 2**53:
        return None
    return timeout_us / 1e6
