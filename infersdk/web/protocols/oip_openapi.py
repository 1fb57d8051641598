"""The routes of the Open Inference Protocol, as part of the app's OpenAPI document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from infersdk.web.protocols.oip_models import metadata
from infersdk.web.protocols.oip_tensors import DATATYPES

if TYPE_CHECKING:
    from infersdk.web.service import Service

__all__ = ["oip_paths"]

Schema = dict[str, Any]

_ERROR: Schema = {
    "type": "object",
    "properties": {"error": {"type": "string"}},
    "required": ["error"],
}

_STATUSES = {
    "400": "The request is not built as the protocol says",
    "404": "There is no such model or version",
    "413": "The body is too large, or holds too many rows",
    "415": "The body is neither JSON nor raw bytes",
    "422": "The tensors do not fit the model",
    "500": "The server failed",
    "503": "Overloaded, shutting down, or the model is not loaded",
    "504": "The answer did not come in time",
}

_SHAPE: Schema = {"type": "array", "items": {"type": "integer", "minimum": 0}}

_LENGTH: Schema = {
    "name": "Inference-Header-Content-Length",
    "in": "header",
    "required": False,
    "description": "Of a body with raw bytes: the length of the JSON before them",
    "schema": {"type": "integer", "minimum": 0},
}


def oip_paths(service: Service) -> dict[str, Any]:
    """Describe the protocol's routes.

    Parameters
    ----------
    service : Service
        Its models are opened if need be.
    """
    paths: dict[str, Any] = {
        "/v2": _get("server", "Describe the server", {"type": "object"}),
        "/v2/health/live": _health("live"),
        "/v2/health/ready": _health("ready"),
        "/v2/models/stats": _get("statistics", "Statistics of all models", {"type": "object"}),
    }
    for name in service.predictors:
        base = f"/v2/models/{name}"
        key = "".join(char if char.isalnum() else "_" for char in name)
        known = metadata(name, service.predictors[name], service.methods(name))
        paths[base] = _get(f"model_{key}", f"Describe the model {name}", {"type": "object"}, name)
        paths[f"{base}/config"] = _get(
            f"config_{key}", f"Triton's configuration of {name}", {"type": "object"}, name
        )
        paths[f"{base}/ready"] = _health("ready", name, f"ready_{key}")
        paths[f"{base}/stats"] = _get(
            f"statistics_{key}", f"Statistics of the model {name}", {"type": "object"}, name
        )
        paths[f"{base}/infer"] = {"post": _infer(name, f"infer_{key}", known)}
    if service.settings.admin:
        paths["/v2/repository/index"] = _post("index", "List the models and their states")
        for name in service.predictors:
            key = "".join(char if char.isalnum() else "_" for char in name)
            for verb in ("load", "unload"):
                paths[f"/v2/repository/models/{name}/{verb}"] = _post(
                    f"{verb}_{key}", f"{verb.capitalize()} the model {name}"
                )
    return paths


def _answered(schema: Schema, text: str = "Yes") -> Schema:
    return {"description": text, "content": {"application/json": {"schema": schema}}}


def _refused(*statuses: str) -> dict[str, Schema]:
    return {status: _answered(_ERROR, _STATUSES[status]) for status in statuses}


def _get(operation: str, summary: str, schema: Schema, tag: str = "oip") -> Schema:
    responses = {"200": _answered(schema, summary)}
    if tag != "oip":
        responses |= _refused("500", "503")
    return {
        "get": {
            "operationId": f"oip_{operation}",
            "summary": summary,
            "tags": [tag],
            "responses": responses,
        }
    }


def _health(page: str, tag: str = "oip", operation: str | None = None) -> Schema:
    schema: Schema = {"type": "object", "properties": {page: {"type": "boolean"}}}
    responses = {"200": _answered(schema)}
    if page != "live":
        responses["503"] = _answered(schema, "Not yet, or no longer")
    return {
        "get": {
            "operationId": f"oip_{operation or page}",
            "summary": f"Health: {page}",
            "tags": [tag],
            "security": [],
            "responses": responses,
        }
    }


def _post(operation: str, summary: str) -> Schema:
    return {
        "post": {
            "operationId": f"oip_{operation}",
            "summary": summary,
            "tags": ["oip"],
            "responses": {"200": _answered({}, summary), **_refused("500", "503")},
        }
    }


def _infer(name: str, operation: str, known: dict[str, Any]) -> Schema:
    raw = {"schema": {"type": "string", "format": "binary"}}
    answered = _answered(_response(), "The outputs")
    answered["content"]["application/octet-stream"] = raw
    return {
        "operationId": f"oip_{operation}",
        "summary": f"Ask the model {name}",
        "tags": [name],
        "parameters": [_LENGTH],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": _request(known), "example": _example(known)},
                "application/octet-stream": raw,
            },
        },
        "responses": {"200": answered, **_refused(*_STATUSES)},
    }


def _request(known: dict[str, Any]) -> Schema:
    tensor = {
        "type": "object",
        "properties": {
            "name": {"type": "string", "examples": [item["name"] for item in known["inputs"]]},
            "datatype": {"enum": list(DATATYPES)},
            "shape": _SHAPE,
            "parameters": {"type": "object"},
            "data": {"type": "array"},
        },
        "required": ["name", "datatype", "shape"],
    }
    output = {
        "type": "object",
        "properties": {
            "name": {"type": "string", "examples": [item["name"] for item in known["outputs"]]},
            "parameters": {"type": "object"},
        },
        "required": ["name"],
    }
    return {
        "type": "object",
        "properties": {
            "id": {"type": "string"},
            "parameters": {"type": "object"},
            "inputs": {"type": "array", "items": tensor, "minItems": 1},
            "outputs": {"type": "array", "items": output},
        },
        "required": ["inputs"],
    }


def _example(known: dict[str, Any]) -> dict[str, Any]:
    """One row of nothing in particular."""
    inputs = []
    for item in known["inputs"]:
        shape = [1 if size < 0 else size for size in item["shape"]]
        inputs.append({"name": item["name"], "datatype": item["datatype"], "shape": shape})
        n = 1
        for size in shape:
            n *= size
        if n <= _MOST_SHOWN:
            value: Any = {"BYTES": "text", "BOOL": True}.get(item["datatype"], 1)
            inputs[-1]["data"] = [value] * n
    return {"inputs": inputs}


_MOST_SHOWN = 16


def _response() -> Schema:
    tensor = {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "datatype": {"enum": list(DATATYPES)},
            "shape": _SHAPE,
            "parameters": {"type": "object"},
            "data": {"type": "array"},
        },
        "required": ["name", "datatype", "shape"],
    }
    return {
        "type": "object",
        "properties": {
            "id": {"type": "string"},
            "model_name": {"type": "string"},
            "model_version": {"type": "string"},
            "outputs": {"type": "array", "items": tensor},
        },
        "required": ["model_name", "outputs"],
    }
