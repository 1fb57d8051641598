"""The routes of invocations, as part of the app's OpenAPI document."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from infersdk.types import Field, Signature, TensorSpec, ValueSpec
from infersdk.web.openapi import schema_of_answers, schema_of_rows
from infersdk.web.protocols.invocations_json import METHOD_PARAMS

if TYPE_CHECKING:
    from infersdk.web.service import Service

__all__ = ["invocations_paths"]

Schema = dict[str, Any]

_ERROR: Schema = {
    "type": "object",
    "properties": {
        "error_code": {"type": "string"},
        "message": {"type": "string"},
        "type": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "detail": {"type": "string"},
                    "field": {"type": "string"},
                    "row": {"type": "integer"},
                    "expected": {"type": "string"},
                    "given": {"type": "string"},
                },
                "required": ["detail"],
            },
        },
    },
    "required": ["error_code", "message"],
}

_STATUSES = {
    "400": "The body is not what its content type says",
    "404": "There is no such model",
    "406": "The answer has no form that Accept names",
    "413": "The body is too large, or holds too many rows",
    "415": "The body has a content type that is not read here",
    "422": "The rows do not fit the model; every value that does not is listed",
    "500": "The server failed",
    "503": "Overloaded, shutting down, or not ready; Retry-After says when to ask again",
    "504": "The answer did not come in time",
}

_ATTRIBUTES: Schema = {
    "name": "X-Amzn-SageMaker-Custom-Attributes",
    "in": "header",
    "required": False,
    "description": "`method=` and a method's name, among others separated by commas",
    "schema": {"type": "string"},
}

_LISTED: Schema = {
    "type": "object",
    "properties": {"modelName": {"type": "string"}, "modelUrl": {"type": "string"}},
    "required": ["modelName", "modelUrl"],
}


def invocations_paths(service: Service) -> dict[str, Any]:
    """Describe the protocol's routes.

    Parameters
    ----------
    service : Service
        Its models are opened if need be.
    """
    models: Schema = {
        "type": "object",
        "properties": {"models": {"type": "array", "items": _LISTED}},
        "required": ["models"],
    }
    healthy: Schema = {"type": "object", "properties": {"status": {"type": "string"}}}
    paths: dict[str, Any] = {
        "/ping": {
            "get": {
                **_described("ping", "Health, as SageMaker asks for it"),
                "security": [],
                "responses": {"200": _json("Ready", healthy), "503": _json("Not ready", healthy)},
            }
        },
        "/version": {
            "get": {
                **_described("version", "The version of the server"),
                "responses": {
                    "200": {
                        "description": "The version",
                        "content": {"text/plain": {"schema": {"type": "string"}}},
                    }
                },
            }
        },
        "/models": {
            "get": {
                **_described("models", "List the models"),
                "responses": {"200": _json("The models", models)},
            },
        },
    }
    names = list(service.predictors)
    if len(names) == 1:
        paths["/invocations"] = {"post": _invoke(service, names[0], "invoke", "invocations")}
    for name in names:
        key = "".join(char if char.isalnum() else "_" for char in name)
        paths[f"/models/{name}"] = {
            "get": {
                **_described(f"model_{key}", f"Say that there is the model {name}", name),
                "responses": {"200": _json("There is", _LISTED)},
            }
        }
        for path, operation in (
            (f"/{name}/invocations", f"invoke_{key}"),
            (f"/models/{name}/invoke", f"invoke_target_{key}"),
            (f"/serving-endpoints/{name}/invocations", f"invoke_endpoint_{key}"),
        ):
            paths[path] = {"post": _invoke(service, name, operation, name)}
    return paths


def _described(operation: str, summary: str, tag: str = "invocations") -> Schema:
    return {"operationId": f"invocations_{operation}", "summary": summary, "tags": [tag]}


def _json(text: str, schema: Schema) -> Schema:
    return {"description": text, "content": {"application/json": {"schema": schema}}}


def _refused(*statuses: str) -> dict[str, Schema]:
    return {status: _json(_STATUSES[status], _ERROR) for status in statuses}


def _invoke(service: Service, name: str, operation: str, tag: str) -> Schema:
    signature = service.predictors[name].signature
    methods = service.methods(name)
    text: Schema = {"schema": {"type": "string"}}
    csv = _schema_of_csv(signature)
    answers = {
        "type": "object",
        "properties": {"predictions": _answers(methods, signature)},
        "required": ["predictions"],
    }
    done = _json("A prediction for each row", answers)
    done["content"] |= {"text/csv": text, "application/jsonlines": text, "application/x-npy": {}}
    return {
        **_described(operation, f"Ask the model {name}, as SageMaker and MLflow do", tag),
        "parameters": [_ATTRIBUTES],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": _schema_of_json(signature, methods)},
                **({} if csv is None else {"text/csv": {"schema": csv}}),
                "application/jsonlines": text,
                "application/x-npy": {},
            },
        },
        "responses": {
            "200": done,
            **_refused("400", "404", "406", "413", "415", "422", "500", "503", "504"),
        },
    }


def _answers(methods: list[str], signature: Signature) -> Schema:
    """Of any of the methods, as the body may name one."""
    schemas: list[Schema] = []
    for name in methods:
        method = signature.method(name)
        schema = {} if method is None else schema_of_answers(method, signature)
        answers = schema.get("properties", {}).get("answers", {})
        if answers not in schemas:
            schemas.append(answers)
    return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}


def _schema_of_json(signature: Signature, methods: list[str]) -> Schema:
    """MLflow's four forms and plain rows, in the fields' order."""
    params: Schema = {
        "type": ["object", "null"],
        "properties": {name: {"enum": list(methods)} for name in METHOD_PARAMS},
        "additionalProperties": False,
        "maxProperties": 1,
    }
    plain = schema_of_rows(signature)
    if not signature.fields:
        return {"anyOf": [*_wrapped(_shapes_of_others(signature, plain), params), plain]}
    row: Schema = plain["anyOf"][0]
    names = [field.name for field in signature.fields]
    cells = [row["properties"][name] for name in names]
    listed: Schema = {
        "type": "array",
        "prefixItems": cells,
        "items": False,
        "minItems": len(cells),
    }
    shapes: dict[str, Schema] = {
        "dataframe_split": {
            "type": "object",
            "properties": {
                "columns": {"enum": [names, None]},
                "data": {"type": "array", "items": listed},
            },
            "required": ["data"],
            "additionalProperties": False,
        },
        "dataframe_records": {"type": "array", "items": row},
        "instances": {
            "anyOf": [{"type": "array", "items": row}, {"type": "array", "items": listed}]
        },
        "inputs": {
            "anyOf": [row, {"type": "array", "items": row}, {"type": "array", "items": listed}]
        },
    }
    return {"anyOf": [*_wrapped(shapes, params), *plain["anyOf"]]}


def _shapes_of_others(signature: Signature, plain: Schema) -> dict[str, Schema]:
    """Of texts, tensors and dicts; a table of them may also be sent by name."""
    rows = plain.get("anyOf", [plain])
    listed = [schema for schema in rows if schema.get("type") == "array"]
    named = [schema for schema in rows if schema.get("type") in ("object", "string")]
    shapes: dict[str, Schema] = {"inputs": {"anyOf": [*listed, *named]}} if rows != [{}] else {}
    if listed:
        shapes["instances"] = {"anyOf": listed}
    if signature.container == "text":
        texts = {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 1}
        shapes["dataframe_split"] = {
            "type": "object",
            "properties": {"data": {"type": "array", "items": texts, "minItems": 1}},
            "required": ["data"],
            "additionalProperties": False,
        }
    if signature.container == "dicts":
        records: Schema = {"type": "array", "items": {"type": "object"}}
        shapes["dataframe_records"] = shapes["instances"] = records
    return shapes


_CELLS = {
    "float": r"-?[0-9]{1,6}(\.[0-9]{1,6})?",
    "int": "-?[0-9]{1,4}",
    "bool": "(True|False)",
    "string": r"[ -!#-+\--~]*[!#-+\--~][ -!#-+\--~]*",
}
"""What fits for sure; quoted cells and other numbers do too."""

_MOST_COLUMNS = 64


def _schema_of_csv(signature: Signature) -> Schema | None:
    """Lines without a header, by a pattern; None if CSV is not read. A wide table's pattern is of use to nobody."""
    cells: list[str] | None = None
    if signature.fields:
        cells = [_cell(field) for field in signature.fields]
    elif signature.container == "text":
        cells = [_CELLS["string"]]
    elif len(signature.inputs) == 1:
        cells = _cells_of_tensor(signature.inputs[0])
    if cells is None:
        return None
    if len(cells) > _MOST_COLUMNS:
        return {"type": "string"}
    some = "*" if signature.fields else "+"
    return {"type": "string", "pattern": f"^({','.join(cells)}\\n){some}$"}


def _cells_of_tensor(spec: ValueSpec) -> list[str] | None:
    """Of a matrix of floats."""
    if not isinstance(spec, TensorSpec) or spec.dtype not in ("float32", "float64"):
        return None
    match spec.shape:
        case (str() | None, int(n_columns)) if n_columns:
            return [_CELLS["float"]] * n_columns
    return None


def _cell(field: Field) -> str:
    cell = _CELLS[field.dtype]
    if field.categories is not None and field.unknown == "refuse":
        cell = f"({'|'.join(re.escape(_quoted(str(value))) for value in field.categories)})"
    return cell if field.missing == "refuse" else f"({cell})?"


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if re.search(r'[",\r\n]', text) else text


def _wrapped(shapes: dict[str, Schema], params: Schema) -> list[Schema]:
    return [
        {
            "type": "object",
            "properties": {key: schema, "params": params},
            "required": [key],
        }
        for key, schema in shapes.items()
    ]
