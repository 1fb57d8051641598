"""Requests and answers to a model in the Open Inference Protocol: JSON, and behind it the tensors' raw bytes.

With the binary tensor extension the header ``Inference-Header-Content-Length`` says where the JSON ends. The raw
bytes of those inputs that have a parameter ``binary_data_size`` follow it, in the inputs' order, without gaps. Every
length comes from the client, so each is checked against what is there before anything is made of it; inputs are then
views of the body.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from infersdk.binding.refusals import describe
from infersdk.web.json_rows import decode, encode
from infersdk.web.problems import ProblemError, Reply
from infersdk.web.protocols.oip_tensors import (
    Tensor,
    check_shape,
    from_raw,
    from_values,
    to_raw,
    to_values,
)

__all__ = ["HEADER", "InferRequest", "read_request", "write_reply"]

HEADER = "inference-header-content-length"
"""Of requests and answers with raw bytes: how long the JSON before them is."""

_JSON = ("content-type", "application/json")
_BINARY = ("content-type", "application/octet-stream")


class InferRequest(NamedTuple):
    """A request to a model.

    Attributes
    ----------
    id : str or None
    parameters : dict
    inputs : list of Tensor
    outputs : tuple of str
        Names of those that are asked for; empty: the usual ones.
    binary : dict of str to bool
        Of outputs for which the request says whether they come as raw bytes.
    is_binary : bool
        Whether the others do.
    """

    id: str | None
    parameters: dict[str, Any]
    inputs: list[Tensor]
    outputs: tuple[str, ...]
    binary: dict[str, bool]
    is_binary: bool


def read_request(
    body: bytes | bytearray,
    header_length: str | None,
    *,
    max_inputs: int | None = None,
    max_rows: int | None = None,
) -> InferRequest:
    """Read a request's body.

    Parameters
    ----------
    body : bytes or bytearray
    header_length : str or None
        The header :data:`HEADER`, as it came.
    max_inputs : int, optional
        The most that the model takes.
    max_rows : int, optional
        The most rows, where the inputs' first axis counts them.

    Raises
    ------
    ProblemError
        400: it is not built as the protocol says, or a length in it is wrong. 413: it has too many rows.
    InvalidJSON
        There is no JSON where it should be.
    InputError
        A tensor's data are not what its shape and datatype say.
    """
    content = memoryview(body)
    raw = content[len(content) :]
    if header_length is not None:
        length = _header_length(header_length, len(content))
        content, raw = content[:length], content[length:]
    request = decode(content)
    if not isinstance(request, dict):
        raise _malformed("a JSON object", request)
    parameters = _parameters(request, "request")
    inputs = _inputs(request, raw, header_length is not None, max_inputs, max_rows)
    names: list[str] = []
    binary: dict[str, bool] = {}
    for output in _listed(request, "outputs", required=False):
        name = _name(output, "outputs")
        options = _parameters(output, name)
        _refuse_foreign(options, name)
        if "classification" in options:
            raise _bad_request(
                f"The output `{name[:80]}` is asked for with `classification`, which is not done here; ask for "
                "the output itself, or for `predict`"
            )
        names.append(name)
        if "binary_data" in options:
            binary[name] = _flag(options["binary_data"], "binary_data")
    is_binary = _flag(parameters.get("binary_data_output", False), "binary_data_output")
    given = request.get("id")
    if given is not None and not isinstance(given, str):
        raise _malformed("`id` to be text", given)
    return InferRequest(given, parameters, inputs, tuple(names), binary, is_binary)


def _header_length(given: str, body_bytes: int) -> int:
    given = given.strip()
    # Longer ones are too large, whatever they say; int() is slow with thousands of digits.
    is_number = given.isascii() and given.isdecimal() and len(given) <= 18
    if not is_number or int(given) > body_bytes:
        raise _bad_request(
            f"Expected the header Inference-Header-Content-Length to be from 0 to {body_bytes}, the length of "
            f"the body, got {given[:40]!r}"
        )
    return int(given)


def _inputs(
    request: dict[str, Any],
    raw: memoryview,
    is_binary: bool,
    max_inputs: int | None,
    max_rows: int | None,
) -> list[Tensor]:
    listed = _listed(request, "inputs", required=True)
    if max_inputs is not None and len(listed) > max_inputs:
        raise _bad_request(f"Expected up to {max_inputs} inputs, got {len(listed):,}")
    inputs = []
    at = 0
    for item in listed:
        name = _name(item, "inputs")
        datatype = item.get("datatype")
        if not isinstance(datatype, str):
            raise _malformed(f"a `datatype` of the input `{name[:80]}`", datatype)
        shape = check_shape(name, item.get("shape"))
        if max_rows is not None and shape and shape[0] > max_rows:
            raise too_many_rows(shape[0], max_rows)
        options = _parameters(item, name)
        size = None
        if options:
            _refuse_foreign(options, name)
            size = options.get("binary_data_size")
        values = item.get("data")
        if size is None:
            if not isinstance(values, list):
                raise _malformed(
                    f"a list as `data` of the input `{name[:80]}`, or a parameter `binary_data_size`",
                    values,
                )
            inputs.append(from_values(name, datatype, shape, values))
            continue
        if values is not None:
            raise _bad_request(
                f"The input `{name[:80]}` has both `data` and `binary_data_size`; send one of them"
            )
        if not is_binary:
            raise _bad_request(
                f"The input `{name[:80]}` has `binary_data_size`, and the request no header "
                "Inference-Header-Content-Length, which says where the raw bytes begin"
            )
        if type(size) is not int or not 0 <= size <= len(raw) - at:
            raise _bad_request(
                f"Expected the `binary_data_size` of the input `{name[:80]}` to be from 0 to {len(raw) - at}, the "
                f"bytes that are left of the body, got {describe(size)}"
            )
        inputs.append(from_raw(name, datatype, shape, raw[at : at + size]))
        at += size
    if at != len(raw):
        raise _bad_request(
            f"Expected {at:,} raw bytes behind the JSON, as the inputs' `binary_data_size` add up to, "
            f"got {len(raw):,}"
        )
    return inputs


def too_many_rows(n_rows: int, max_rows: int) -> ProblemError:
    """Refuse a request for its number of rows."""
    return ProblemError(
        413,
        "too-many-rows",
        "The request holds too many rows",
        f"Expected up to {max_rows:,} rows, got {n_rows:,}; send them in several requests",
        max_rows=max_rows,
    )


def _listed(request: dict[str, Any], key: str, *, required: bool) -> list[dict[str, Any]]:
    items = request.get(key)
    if items is None and not required:
        return []
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise _malformed(f"`{key}` to be a list of objects", items)
    return items


def _name(item: dict[str, Any], key: str) -> str:
    name = item.get("name")
    if not isinstance(name, str):
        raise _malformed(f"a `name` of each of the {key}", name)
    return name


def _parameters(item: dict[str, Any], name: str) -> dict[str, Any]:
    parameters = item.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise _malformed(f"the `parameters` of `{name[:80]}` to be an object", parameters)
    return parameters


def _flag(value: Any, name: str) -> bool:
    if not isinstance(value, bool):
        raise _malformed(f"the parameter `{name}` to be true or false", value)
    return value


def _refuse_foreign(options: Mapping[str, Any], name: str) -> None:
    if "shared_memory_region" in options:
        raise _bad_request(
            f"The tensor `{name[:80]}` is in shared memory, which is not read here; send it in the request"
        )


def _malformed(expected: str, given: Any) -> ProblemError:
    return _bad_request(f"Expected {expected}, got {_shown(given)}")


def _shown(given: Any) -> str:
    if given is None:
        return "none"
    if isinstance(given, (dict, list)):
        return "an object" if isinstance(given, dict) else "a list"
    return repr(given)[:80]


def _bad_request(detail: str) -> ProblemError:
    return ProblemError(
        400, "invalid-request", "The request is not built as the protocol says", detail
    )


def write_reply(
    model: str, version: str, request: InferRequest, tensors: Sequence[Tensor]
) -> Reply:
    """Write a model's answer.

    Parameters
    ----------
    model, version : str
    request : InferRequest
    tensors : sequence of Tensor
    """
    response: dict[str, Any] = {"model_name": model, "model_version": version}
    if request.id is not None:
        response["id"] = request.id
    outputs: list[dict[str, Any]] = []
    parts: list[bytes | memoryview] = []
    is_binary = False
    for tensor in tensors:
        output: dict[str, Any] = {
            "name": tensor.name,
            "datatype": tensor.datatype,
            "shape": tensor.shape,
        }
        if request.binary.get(tensor.name, request.is_binary):
            is_binary = True
            raw = to_raw(tensor)
            output["parameters"] = {"binary_data_size": len(raw)}
            parts.append(raw)
        else:
            output["data"] = _json_values(tensor)
        outputs.append(output)
    response["outputs"] = outputs
    content = encode(response)
    if not is_binary:
        return Reply(200, content, (_JSON,))
    headers = (_BINARY, (HEADER, str(len(content))))
    return Reply(200, b"".join([content, *parts]), headers)


def _json_values(tensor: Tensor) -> Any:
    """Values in order, flat; numbers as an array, which becomes JSON without becoming a list first."""
    if tensor.datatype == "BYTES":
        return to_values(tensor)
    if tensor.datatype in ("BF16", "FP16"):
        return np.ravel(tensor.data).astype(np.float32)
    return np.ravel(tensor.data)
