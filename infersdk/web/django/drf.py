"""A model as a view of Django REST framework, and its rows as serializers.

::

    class Churn(PredictView):
        model_name = "churn"
        permission_classes = [IsAuthenticated]

    urlpatterns = [path("churn/", Churn.as_view())]

Authentication, permissions, throttling, renderers and the exception handler are the project's. Errors are
REST framework's too: rows that do not fit are a ``ValidationError``, 400, keyed by field, for a list of rows
one dict for each, as serializers with ``many=True`` do it. The models' own routes answer problem JSON instead.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any

from rest_framework import exceptions, serializers
from rest_framework.parsers import BaseParser
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.schemas import DefaultSchema
from rest_framework.schemas.openapi import AutoSchema
from rest_framework.settings import api_settings
from rest_framework.views import APIView

from infersdk.errors import (
    AbandonedError,
    ClosedError,
    DeadlineError,
    InferSDKError,
    InputError,
    OverloadedError,
)
from infersdk.runtime import Predictor
from infersdk.types import Field, Signature
from infersdk.web.django import conf
from infersdk.web.django.views import unlogged, while_wanted
from infersdk.web.json_rows import InvalidJSON, decode, encode
from infersdk.web.openapi import schema_of_answers, schema_of_rows

__all__ = [
    "PredictSchema",
    "PredictView",
    "RowSerializer",
    "RowsParser",
    "detail_of",
    "exception_of",
    "row_serializer",
]


class RowsParser(BaseParser):
    """Read JSON as the models' own routes do: by orjson, up to ``MAX_BODY_BYTES`` and ``MAX_ROWS``."""

    media_type = "application/json"
    renderer_class = JSONRenderer  # of the browsable API, for the row that it shows to fill in

    def parse(
        self,
        stream: Any,
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        """Read the rows.

        Raises
        ------
        rest_framework.exceptions.APIException
            The body is not JSON (400), or it is too large (413).
        """
        settings = conf.service().settings
        body = stream.read(settings.max_body_bytes + 1)
        if len(body) > settings.max_body_bytes:
            raise TooLarge(f"Expected a body of up to {settings.max_body_bytes:,} bytes.")
        try:
            rows = decode(body)
        except InvalidJSON as error:
            raise exceptions.ParseError(f"JSON parse error - {error}") from error
        if isinstance(rows, list) and len(rows) > settings.max_rows:
            raise TooLarge(f"Expected up to {settings.max_rows:,} rows, got {len(rows):,}.")
        return rows


class PredictSchema(AutoSchema):
    """Describe a :class:`PredictView` from the model's signature."""

    def get_request_serializer(self, path: str, method: str) -> Any:
        """Give none: rows are described without one."""
        return None

    def get_response_serializer(self, path: str, method: str) -> Any:
        """Give none: answers are described without one."""
        return None

    def get_components(self, path: str, method: str) -> dict[str, Any]:
        """Give none: schemas stand where they are used."""
        return {}

    def get_operation_id_base(self, path: str, method: str, action: Any) -> str:
        """Name the operation after the model."""
        return "".join(char if char.isalnum() else "_" for char in self.view.model_name)

    def get_description(self, path: str, method: str) -> str:
        """Give the project's own words, if its view has some."""
        own = type(self.view).__doc__
        asked = f"{self.view.signature_method} of the model {self.view.model_name}"
        return inspect.cleandoc(own) if own and own != PredictView.__doc__ else asked

    def get_request_body(self, path: str, method: str) -> dict[str, Any]:
        """Describe a row, or a list of rows."""
        schema = _as_openapi_3_0(schema_of_rows(self.view.predictor.signature))
        return {
            "required": True,
            "content": {kind: {"schema": schema} for kind in self.map_parsers(path, method)},
        }

    def get_responses(self, path: str, method: str) -> dict[str, Any]:
        """Describe the answers."""
        signature = self.view.predictor.signature
        found = signature.method(self.view.signature_method)
        schema = {} if found is None else _as_openapi_3_0(schema_of_answers(found, signature))
        return {
            "200": {
                "description": "One answer for each row",
                "content": {kind: {"schema": schema} for kind in self.map_renderers(path, method)},
            },
            "400": {"description": "The rows do not fit the model, by field"},
        }


def _as_openapi_3_0(schema: Any) -> Any:
    """Say in the JSON Schema of OpenAPI 3.0, which REST framework writes, what 3.1 says in today's."""
    if isinstance(schema, list):
        return [_as_openapi_3_0(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    said = {key: _as_openapi_3_0(value) for key, value in schema.items()}
    kinds = said.get("type")
    if isinstance(kinds, list):  # always one type, and null
        said["type"] = next(kind for kind in kinds if kind != "null")
        said["nullable"] = True
    if isinstance(said.get("enum"), list) and None in said["enum"]:
        said["nullable"] = True
    if isinstance(said.get("examples"), list):
        said["example"] = said.pop("examples")[0]
    if isinstance(said.get("prefixItems"), list):
        said["items"] = {"anyOf": said.pop("prefixItems")}
    return said


def _schema() -> Any:
    """Describe a view ourselves only where REST framework would: other generators have schemas of their own."""
    ours = api_settings.DEFAULT_SCHEMA_CLASS is AutoSchema
    return PredictSchema() if ours else DefaultSchema()


class PredictView(APIView):
    """POST a row, or a list of rows: ``{"answers": [...]}``.

    Attributes
    ----------
    model_name : str
        A name in ``INFERSDK["MODELS"]``.
    method : str or None
        Of the source model; None: the first of the model's ``methods``, or its main one.
    timeout_s : float or None
        The most seconds for an answer; by default ``INFERSDK["TIMEOUT_S"]``.
    """

    model_name: str
    method: str | None = None
    timeout_s: float | None = None
    parser_classes = (RowsParser,)
    schema = _schema()

    @property
    def predictor(self) -> Predictor:
        """The model; it is opened if need be."""
        return conf.service().predictors[self.model_name]

    @property
    def signature_method(self) -> str:
        """The name of the method that answers."""
        if self.method is not None:
            return self.method
        allowed = conf.service().predictors.config(self.model_name).methods
        return allowed[0] if allowed else self.predictor.signature.methods[0].name

    def get_rows(self, request: Request) -> Any:
        """Give what the model is asked; the request's data, unless a project overrides it.

        The way to add features that the client does not send.
        """
        return request.data

    def post(self, request: Request, *_: Any, **__: Any) -> Response:
        """Answer.

        Raises
        ------
        rest_framework.exceptions.APIException
            As :func:`exception_of` has it.
        """
        rows = self.get_rows(request)
        timeout_s = self.timeout_s or conf.service().settings.timeout_s
        try:
            with while_wanted(request):
                answers = self.answer(rows, timeout_s)
        except InferSDKError as error:
            known = exception_of(error, self.predictor, rows)
            if known is None:
                raise
            raise known from error
        # As lists, with null for NaN: renderers other than orjson's know neither arrays nor NaN.
        return Response({"answers": decode(encode(answers))})

    def answer(self, rows: Any, timeout_s: float | None) -> Any:
        """Ask the model; also the place to do something with its answers."""
        predictor = self.predictor
        method = self.signature_method
        if method == "__call__":
            return predictor(rows, timeout_s=timeout_s)
        return getattr(predictor, method)(rows, timeout_s=timeout_s)

    def handle_exception(self, exc: Exception) -> Any:
        """Answer an exception as the project does, without an error in the log for every refusal."""
        return unlogged(super().handle_exception(exc))

    def get_serializer(self, *args: Any, **kwargs: Any) -> serializers.Serializer:
        """Make a serializer of the model's rows, for generated schemas and the browsable API."""
        signature = self.predictor.signature
        kind = row_serializer(signature) if signature.fields else serializers.Serializer
        return kind(*args, **kwargs)


# -- errors ------------------------------------------------------------------------------------------


class TooLarge(exceptions.APIException):
    """The request is larger than may be."""

    status_code = 413
    default_detail = "The request is too large."
    default_code = "too_large"


class Overloaded(exceptions.APIException):
    """Too many requests are waiting, or the server is shutting down; ``Retry-After`` goes with it."""

    status_code = 503
    default_detail = "Too many requests are waiting."
    default_code = "overloaded"

    def __init__(self, detail: Any = None, retry_after_s: float = 1.0) -> None:
        super().__init__(detail)
        self.wait = max(1, math.ceil(retry_after_s))


class Abandoned(exceptions.APIException):
    """The client has gone; for the log alone."""

    status_code = 499
    default_detail = "The client did not wait."
    default_code = "abandoned"


class NotInTime(exceptions.APIException):
    """The answer did not come in time."""

    status_code = 504
    default_detail = "The answer did not come in time."
    default_code = "deadline_exceeded"


def exception_of(
    error: InferSDKError, predictor: Predictor | None = None, rows: Any = None
) -> exceptions.APIException | None:
    """Give REST framework's exception for one of infersdk's, for views of your own.

    Parameters
    ----------
    error : InferSDKError
    predictor : Predictor, optional
        With it everything that is wrong with the rows is said, not only the first thing.
    rows : rows, optional
        What it was asked.

    Returns
    -------
    rest_framework.exceptions.APIException or None
        None: it says nothing to a client, and is the server's to deal with.
    """
    if isinstance(error, InputError):
        errors = (predictor.check(rows) if predictor is not None else []) or [error]
        n_rows = len(rows) if isinstance(rows, list) else None
        return serializers.ValidationError(detail_of(errors, n_rows))
    if isinstance(error, OverloadedError):
        return Overloaded(str(error), error.retry_after_s)
    if isinstance(error, ClosedError):
        return Overloaded("The server is shutting down.")
    if isinstance(error, AbandonedError):
        return Abandoned()
    if isinstance(error, DeadlineError):
        return NotInTime(str(error))
    return None


def detail_of(errors: Sequence[InputError], n_rows: int | None = None) -> Any:
    """Arrange what is wrong with rows as serializers do.

    Parameters
    ----------
    errors : sequence of InputError
    n_rows : int, optional
        How many rows there were in the list; None: one row, without a list.

    Returns
    -------
    dict, or list of dict
        Field to messages; one such dict for each row of a list, empty where it fits.
    """
    by_row: dict[int, dict[str, list[str]]] = {}
    for error in errors:
        fields = by_row.setdefault(error.row or 0, {})
        key = error.field or api_settings.NON_FIELD_ERRORS_KEY
        fields.setdefault(key, []).append(_said(error))
    if n_rows is None or any(row >= n_rows for row in by_row):
        return by_row.get(0, {})
    return [by_row.get(row, {}) for row in range(n_rows)]


def _said(error: InputError) -> str:
    if error.expected is not None and error.given is not None:
        return f"Expected {error.expected}, got {error.given}"
    return str(error)


# -- serializers -------------------------------------------------------------------------------------


class RowSerializer(serializers.Serializer):
    """Base of what :func:`row_serializer` makes.

    Attributes
    ----------
    signature : Signature
    """

    signature: Signature

    def get_fields(self) -> dict[str, serializers.Field]:
        """Make the fields. As a method, since a column may be called ``data`` or ``errors``."""
        rows = {item.name: _field(item) for item in self.signature.fields}
        return {**rows, **super().get_fields()}


def row_serializer(model: str | Signature) -> type[RowSerializer]:
    """Make the serializer of a model's rows: ``row_serializer("churn")(data=request.data)``.

    Its ``validated_data`` is a row as the model takes it. Serializers convert (``"1.5"`` is a number to
    them), where the model itself would refuse; otherwise both take the same.

    Parameters
    ----------
    model : str or Signature
        A name in ``INFERSDK["MODELS"]``, which is opened, or what its Predictor has as ``signature``.

    Returns
    -------
    subclass of rest_framework.serializers.Serializer

    Raises
    ------
    TypeError
        The model's rows have no named fields: it takes texts or tensors.
    """
    name = "Model" if isinstance(model, Signature) else model
    signature = (
        model if isinstance(model, Signature) else conf.service().predictors[model].signature
    )
    if not signature.fields:
        raise TypeError(
            f"The rows of model `{name}` have no fields to serialize: it takes {signature.container}"
        )
    title = "".join(part.capitalize() for part in name.replace("-", "_").split("_"))
    title = "".join(char for char in title if char.isalnum())
    return type(f"{title}RowSerializer", (RowSerializer,), {"signature": signature})


def _field(item: Field) -> serializers.Field:
    options: dict[str, Any] = {
        "required": item.input is not None,
        "allow_null": item.missing != "refuse" or item.input is None,
    }
    if item.categories is not None and item.unknown == "refuse":
        return serializers.ChoiceField(choices=list(item.categories), **options)
    if item.dtype == "float":
        return serializers.FloatField(**options)
    if item.dtype == "int":
        return serializers.IntegerField(**options)
    if item.dtype == "bool":
        return serializers.BooleanField(**options)
    # A space matters to a model; REST framework would take it off.
    return serializers.CharField(allow_blank=True, trim_whitespace=False, **options)
