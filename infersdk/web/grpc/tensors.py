"""Tensors in the messages of ModelInfer: raw, or in typed lists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from infersdk.errors import InputError
from infersdk.web.grpc.messages import parse
from infersdk.web.grpc.wire import with_raw, without_raw
from infersdk.web.protocols.oip_tensors import (
    DATATYPES,
    Tensor,
    check_shape,
    from_raw,
    from_values,
    to_raw,
    to_values,
)

__all__ = ["parameters_of", "read_request", "read_tensors", "write_response"]

_CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
"""The typed list of each datatype; 16 bit floats have none."""


def read_request(body: bytes) -> tuple[Any, list[memoryview | bytes]]:
    """Read a ModelInferRequest.

    Parameters
    ----------
    body : bytes

    Returns
    -------
    tuple of message and list
        The message without its raw contents, and these where they lie in the body.

    Raises
    ------
    InputError
        It is none.
    """
    parts = without_raw(body)
    if parts is None:
        message = parse("ModelInferRequest", body)
        return message, list(message.raw_input_contents)
    others, raw = parts
    return parse("ModelInferRequest", others), [*raw]


def read_tensors(message: Any, raw: Sequence[bytes | memoryview]) -> list[Tensor]:
    """Read the inputs of a request.

    Parameters
    ----------
    message : ModelInferRequest
    raw : sequence of bytes-like
        Its raw contents: none, or those of every input, in order. Numbers are read where they are.

    Raises
    ------
    InputError
        An input's datatype, shape and contents do not belong together.
    """
    inputs = message.inputs
    if raw and len(raw) != len(inputs):
        raise InputError.mismatch(
            expected=f"raw contents for each of the {len(inputs)} inputs, or for none",
            given=f"{len(raw)}",
            field="raw_input_contents",
        )
    tensors = []
    for position, given in enumerate(inputs):
        name: str = given.name
        shape = check_shape(name, list(given.shape))
        if given.parameters:
            _check_parameters(name, given.parameters)
        if not raw:
            tensors.append(_from_contents(name, given.datatype, shape, given.contents))
        elif given.HasField("contents"):
            raise InputError.mismatch(
                expected="contents either raw or in the input, not both",
                given="both",
                field=name,
            )
        else:
            tensors.append(from_raw(name, given.datatype, shape, raw[position]))
    return tensors


def _check_parameters(name: str, parameters: Any) -> None:
    if "shared_memory_region" in parameters:
        raise InputError.mismatch(
            expected="contents in the request",
            given="a region of shared memory",
            field=name,
            hint="Shared memory is not supported; send raw contents",
        )


def _from_contents(name: str, datatype: str, shape: tuple[int, ...], contents: Any) -> Tensor:
    own = _CONTENTS.get(datatype)
    if own is None:
        known = datatype in DATATYPES
        raise InputError.mismatch(
            expected="raw contents" if known else f"one of the datatypes {', '.join(DATATYPES)}",
            given=f"{datatype} in a typed list" if known else repr(datatype[:40]),
            field=name,
        )
    for other, _ in contents.ListFields():
        if other.name != own:
            raise InputError.mismatch(
                expected=f"`{own}` for {datatype}", given=f"`{other.name}`", field=name
            )
    return from_values(name, datatype, shape, list(getattr(contents, own)))


def parameters_of(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Read a map of InferParameter as plain values.

    Parameters
    ----------
    parameters : Mapping of str to InferParameter
    """
    values: dict[str, Any] = {}
    if not parameters:
        return values
    for name, parameter in parameters.items():
        choice = parameter.WhichOneof("parameter_choice")
        if choice is not None:
            values[name] = getattr(parameter, choice)
    return values


def write_response(message: Any, tensors: Sequence[Tensor], *, raw: bool) -> bytes:
    """Serialize a ModelInferResponse.

    Parameters
    ----------
    message : ModelInferResponse
        Without outputs; it is changed.
    tensors : sequence of Tensor
    raw : bool
        Whether contents go raw. Those of 16 bit floats, and then all others too, always do.
    """
    raw = raw or any(tensor.datatype not in _CONTENTS for tensor in tensors)
    for tensor in tensors:
        output = message.outputs.add(name=tensor.name, datatype=tensor.datatype)
        output.shape.extend(tensor.shape)
        if raw:
            continue
        values = to_values(tensor)
        if tensor.datatype == "BYTES":
            values = [value.encode("utf-8", "replace") for value in values]
        getattr(output.contents, _CONTENTS[tensor.datatype]).extend(values)
    head: bytes = message.SerializeToString()
    return with_raw(head, [to_raw(tensor) for tensor in tensors]) if raw else head
