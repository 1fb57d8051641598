"""OpenAPI 3.1 and JSON Schema of an app's models, generated from their signatures.

What is described is what the binder takes: every field that the model reads is required, one that may be
missing may be null, categories are listed where others are refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from infersdk.types import (
    Field,
    MapSpec,
    Method,
    OptionalSpec,
    SequenceSpec,
    Signature,
    TensorSpec,
    ValueSpec,
)

if TYPE_CHECKING:
    from infersdk.web.service import Service

__all__ = [
    "describe",
    "health_paths",
    "metrics_paths",
    "openapi",
    "rows_paths",
    "schema_of_answers",
    "schema_of_rows",
]

Schema = dict[str, Any]

_FIELD_TYPES = {"float": "number", "int": "integer", "bool": "boolean", "string": "string"}

_PROBLEMS = {
    "400": "The body is not JSON",
    "404": "There is no such model or method",
    "413": "The body is too large, or holds too many rows",
    "415": "The body is not application/json",
    "422": "The rows do not fit the model; every field that does not is listed",
    "500": "The server failed",
    "503": "Overloaded or shutting down; Retry-After says when to ask again",
    "504": "The answer did not come in time",
}


def schema_of_rows(signature: Signature) -> Schema:
    """Describe a request's body: one row, or a list of rows.

    Parameters
    ----------
    signature : Signature

    Returns
    -------
    dict
        JSON Schema, 2020-12.
    """
    row = _row(signature)
    if signature.container == "tensors" and not signature.fields:
        return row
    rows: Schema = {"type": "array", "items": row}
    if signature.container == "text":
        rows["minItems"] = 1  # graphs over text refuse none
    return {"anyOf": [row, rows]}


def schema_of_answers(method: Method, signature: Signature) -> Schema:
    """Describe a reply's body: ``{"answers": [...]}``, one for each row.

    Parameters
    ----------
    method : Method
    signature : Signature
        Its outputs give the dtypes that the method does not.

    Returns
    -------
    dict
        JSON Schema, 2020-12.
    """
    return {
        "type": "object",
        "properties": {"answers": _answers(method, signature)},
        "required": ["answers"],
    }


def describe(service: Service, name: str) -> dict[str, Any]:
    """What there is to know of a model, as JSON.

    Parameters
    ----------
    service : Service
    name : str
        Of a declared model; it is opened if need be.
    """
    predictor = service.predictors[name]
    signature = predictor.signature
    parity = predictor.parity
    return {
        "name": name,
        "plan": {"kind": predictor.plan.kind, "reason": predictor.plan.reason},
        "parity": None
        if parity is None
        else {"passed": parity.passed, "rows": parity.n_example_rows + parity.n_edge_rows},
        "methods": service.methods(name),
        "fields": [_field(item) for item in signature.fields if item.input is not None],
        "rows": schema_of_rows(signature),
    }


def openapi(service: Service, *, title: str = "Models", version: str = "1") -> dict[str, Any]:
    """Describe every model's routes.

    Parameters
    ----------
    service : Service
        Its models are opened if need be.
    title, version : str
        Of the API.

    Returns
    -------
    dict
        OpenAPI 3.1.
    """
    paths: dict[str, Any] = {}
    for protocol in reversed(service.protocols):
        paths |= protocol.paths()
    prefix = service.settings.url_prefix
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version},
        "paths": paths,
        "components": {"schemas": {"Problem": PROBLEM}},
    }
    # Without a prefix of its own it may be mounted anywhere: beside this document, which is below the same path.
    document["servers"] = [{"url": prefix if prefix and prefix != "/" else "."}]
    _describe_guard(service, paths)
    if service.settings.tokens:
        document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"token": []}]
    return document


def _describe_guard(service: Service, paths: dict[str, Any]) -> None:
    """Say of every page that is not public how it refuses, whose form is its protocol's."""
    refusals: dict[str, Any] = {}
    if service.settings.tokens:
        refusals["401"] = {"description": "There is no valid token"}
    if service.settings.guard is not None:
        refusals["403"] = {"description": "The app's guard refused the request"}
    for item in paths.values():
        for operation in item.values():
            if operation.get("security") != []:
                operation["responses"] = refusals | operation["responses"]


def rows_paths(service: Service) -> dict[str, Any]:
    """Describe the routes of the protocol ``rows``."""
    paths: dict[str, Any] = {}
    for name in service.predictors:
        signature = service.predictors[name].signature
        methods = service.methods(name)
        paths[f"/{name}"] = {
            "get": {
                "operationId": f"describe_{_identifier(name)}",
                "summary": f"Describe the model {name}",
                "tags": [name],
                "responses": {
                    "200": {"description": "Its methods and fields"},
                    **_refused("500", "503"),
                },
            },
            "post": _operation(name, methods[0], signature, main=True),
        }
        for method in methods:
            paths[f"/{name}/{method}"] = {"post": _operation(name, method, signature, main=False)}
    return paths


def health_paths() -> dict[str, Any]:
    """Describe the routes of health."""
    paths: dict[str, Any] = {}
    for page in ("live", "ready", "startup"):
        responses = {"200": {"description": "Yes"}}
        if page != "live":
            responses["503"] = {"description": "Not yet, or no longer"}
        paths[f"/health/{page}"] = {
            "get": {
                "operationId": f"health_{page}",
                "summary": f"Health: {page}",
                "tags": ["health"],
                "security": [],
                "responses": responses,
            }
        }
    return paths


def metrics_paths() -> dict[str, Any]:
    """Describe the route of metrics."""
    return {
        "/metrics": {
            "get": {
                "operationId": "metrics",
                "summary": "Metrics, as Prometheus reads them",
                "tags": ["metrics"],
                "responses": {
                    "200": {
                        "description": "Prometheus text, or OpenMetrics where that is accepted",
                        "content": {
                            "text/plain": {"schema": {"type": "string"}},
                            "application/openmetrics-text": {"schema": {"type": "string"}},
                        },
                    }
                },
            }
        }
    }


PROBLEM: Schema = {
    "type": "object",
    "description": "RFC 9457",
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "instance": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "detail": {"type": "string"},
                    "pointer": {"type": "string"},
                    "field": {"type": "string"},
                    "row": {"type": "integer"},
                    "expected": {"type": "string"},
                    "given": {"type": "string"},
                },
                "required": ["detail", "pointer"],
            },
        },
    },
    "required": ["type", "title", "status", "detail"],
}


def _operation(name: str, method: str, signature: Signature, *, main: bool) -> dict[str, Any]:
    found = signature.method(method)
    answers = {} if found is None else schema_of_answers(found, signature)
    responses: dict[str, Any] = {
        "200": {
            "description": "One answer for each row",
            "content": {"application/json": {"schema": answers}},
        }
    }
    responses |= _refused(*_PROBLEMS)
    identifier = _identifier(name) if main else f"{_identifier(name)}_{_identifier(method)}"
    return {
        "operationId": f"answer_{identifier}",
        "summary": f"{method} of the model {name}",
        "tags": [name],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": schema_of_rows(signature)}},
        },
        "responses": responses,
    }


def _refused(*statuses: str) -> dict[str, Any]:
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": _PROBLEMS[status], "content": content} for status in statuses}


def _identifier(name: str) -> str:
    return "".join(char if char.isalnum() else "_" for char in name).strip("_") or "call"


# -- rows ----------------------------------------------------------------------------------------


def _row(signature: Signature) -> Schema:
    if signature.fields:
        return _by_name(signature)
    if signature.container == "text":
        return {"type": "string"}
    if signature.container == "tensors" and signature.inputs:
        by_name: Schema = {
            "type": "object",
            "properties": {spec.name: _taken(spec) for spec in signature.inputs},
            "required": [
                spec.name for spec in signature.inputs if not isinstance(spec, OptionalSpec)
            ],
            "additionalProperties": False,
        }
        if len(signature.inputs) > 1:
            return by_name
        return {"anyOf": [_taken(signature.inputs[0]), by_name]}
    return {}


def _by_name(signature: Signature) -> Schema:
    known = any(item.input is not None for item in signature.fields)
    dtypes = {spec.name: spec.dtype for spec in signature.inputs if isinstance(spec, TensorSpec)}
    return {
        "type": "object",
        "properties": {
            item.name: _field_schema(item, dtypes.get(item.input or ""))
            for item in signature.fields
        },
        "required": [item.name for item in signature.fields if item.input is not None or not known],
        "additionalProperties": False,
    }


def _field_schema(item: Field, dtype: str | None) -> Schema:
    if item.categories is not None and item.unknown == "refuse":
        values: list[Any] = list(item.categories)
        return {"enum": values if item.missing == "refuse" else [*values, None]}
    kind: Any = _FIELD_TYPES[item.dtype]
    schema: Schema = {"type": kind if item.missing == "refuse" else [kind, "null"]}
    if item.dtype in ("int", "float") and not item.categories:
        schema |= _range(dtype, whole=item.dtype == "int")
    if item.categories:
        schema["examples"] = list(item.categories[:5])
    return schema


def _field(item: Field) -> dict[str, Any]:
    described: dict[str, Any] = {
        "name": item.name,
        "dtype": item.dtype,
        "may_be_missing": item.missing != "refuse",
    }
    if item.categories is not None:
        described["categories"] = list(item.categories)
        described["takes_other_categories"] = item.unknown == "allow"
    return described


def _range(dtype: str | None, *, whole: bool = False) -> Schema:
    """Between which numbers all fit; beyond, floats hold some whole ones and not others."""
    if dtype is None:
        return {}
    try:
        kind = np.dtype(dtype).kind
    except TypeError:
        return {}
    if kind in "iu":
        integers = np.iinfo(dtype)
        return {"minimum": int(integers.min), "maximum": int(integers.max)}
    if kind != "f" or (dtype == "float64" and not whole):
        return {}
    floats = np.finfo(dtype)
    if whole:
        most = 2 ** (floats.nmant + 1)
        return {"minimum": -most, "maximum": most}
    # What is rounded to the greatest float still fits.
    end = float(floats.max) + 2.0 ** (floats.maxexp - floats.nmant - 2)
    return {"exclusiveMinimum": -end, "exclusiveMaximum": end}


def _taken(spec: ValueSpec) -> Schema:
    """A tensor of a request: its numbers fit the dtype, and no list hides the axes inside it by being empty."""
    schema = _value(spec)
    inner = schema
    while inner.get("type") == "array":
        if inner["items"].get("type") == "array":
            inner["minItems"] = max(1, inner.get("minItems", 1))
        inner = inner["items"]
    if isinstance(spec, TensorSpec) and inner.get("type") in ("number", "integer"):
        inner |= _range(spec.dtype)
    return schema


def _value(spec: ValueSpec) -> Schema:
    if isinstance(spec, TensorSpec):
        schema = _scalar(spec.dtype)
        for size in reversed(spec.shape or ()):
            schema = {"type": "array", "items": schema}
            if isinstance(size, int):
                schema["minItems"] = schema["maxItems"] = size
        return schema if spec.shape is not None else {}
    if isinstance(spec, SequenceSpec):
        return {"type": "array", "items": _value(spec.element)}
    if isinstance(spec, MapSpec):
        return {"type": "object", "additionalProperties": _value(spec.value)}
    return {"anyOf": [_value(spec.element), {"type": "null"}]}


# -- answers -------------------------------------------------------------------------------------


def _answers(method: Method, signature: Signature) -> Schema:
    if method.form == "labels" and method.labels is not None:
        schema: Schema = {"enum": list(method.labels.values)}
        for size in reversed(method.shape or ()):
            schema = {"type": "array", "items": schema, "minItems": size, "maxItems": size}
        return {"type": "array", "items": schema}
    outputs = {spec.name: spec for spec in signature.outputs}
    if method.form in ("array", "sparse"):
        spec = outputs.get(method.outputs[0]) if method.outputs else None
        dtype = method.dtype or (spec.dtype if isinstance(spec, TensorSpec) else None)
        if dtype is None:
            return {}
        if method.shape is None:
            if not isinstance(spec, TensorSpec):
                return {}
            return _number_or_null(_value(TensorSpec("", dtype, spec.shape)))
        return _number_or_null(_value(TensorSpec("", dtype, (None, *method.shape))))
    parts = [
        _number_or_null(_value(outputs[name])) if name in outputs else {} for name in method.outputs
    ]
    if method.form == "dict":
        keys = method.outputs if method.keys is None else method.keys
        return {"type": "object", "properties": dict(zip(keys, parts, strict=False))}
    return {"type": "array", "prefixItems": parts} if parts else {}


def _number_or_null(schema: Schema) -> Schema:
    """NaN and infinity are written as null."""
    inner = schema
    while inner.get("type") == "array":
        inner = inner["items"]
    if inner.get("type") == "number":
        inner["type"] = ["number", "null"]
    return schema


def _scalar(dtype: str) -> Schema:
    if dtype in ("string", "object"):
        return {"type": "string"}
    try:
        kind = np.dtype(dtype).kind
    except TypeError:
        return {"type": "number"}  # of ml_dtypes
    names = {"b": "boolean", "i": "integer", "u": "integer", "f": "number", "U": "string"}
    return {"type": names[kind]} if kind in names else {}
