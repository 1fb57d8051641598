"""Checks of ours for schemathesis, which imports this module itself: `hooks` in its configuration.

Two of its own are too strict here, and stand below with what the document does not say:

* Models take truth values as the numbers 0 and 1, and these as truth values. The document does not invite to it.
* Beyond the whole numbers that a model's floats hold all, they hold some: those are taken.
* In a tensor the number of values goes with the shape, and in CSV the number of cells with the columns; no JSON Schema
  says such a thing. These bodies may be refused, as bodies that do not fit.
"""

from __future__ import annotations

from typing import Any

import schemathesis
from jsonschema import Draft202012Validator, validators
from schemathesis.core.failures import Failure
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

JSON = "application/json"
_MAY_NOT_FIT = ("/infer", "/invocations", "/invoke")
_REFUSED = (400, 413, 415, 422)


@schemathesis.check
def negative_data_but_for_truth_values(ctx: Any, response: Any, case: Any) -> bool | None:
    """Data that the schema forbids are refused."""
    try:
        return negative_data_rejection(ctx, response, case)
    except Failure:
        if response.status_code == 413 or _fits_leniently(case):
            return None
        raise


@schemathesis.check
def positive_data_that_fit(ctx: Any, response: Any, case: Any) -> bool | None:
    """Data that the schema allows are taken."""
    if response.status_code in _REFUSED and case.path.endswith(_MAY_NOT_FIT):
        return None
    return positive_data_acceptance(ctx, response, case)


def _fits_leniently(case: Any) -> bool:
    """By the document's own schema, but that truth values are numbers, and 0 and 1 truth values."""
    if case.media_type != JSON:
        return True  # nearly any text is CSV
    operation = case.operation
    described = operation.schema.raw_schema["paths"][operation.path][operation.method.lower()]
    schema = described["requestBody"]["content"][JSON]["schema"]
    return bool(_LENIENT(schema).is_valid(case.body))


def _is_number(checker: Any, value: Any) -> bool:
    return isinstance(value, (int, float))


def _is_whole(checker: Any, value: Any) -> bool:
    return isinstance(value, (int, float)) and float(value).is_integer()


def _is_truth_value(checker: Any, value: Any) -> bool:
    return isinstance(value, (bool, int, float)) and value in (0, 1)


def _if_inexact(keyword: str) -> Any:
    plain = Draft202012Validator.VALIDATORS[keyword]

    def check(validator: Any, limit: Any, value: Any, schema: Any) -> Any:
        if not isinstance(value, int) or int(float(value)) != value:
            yield from plain(validator, limit, value, schema)

    return check


_LENIENT = validators.extend(
    Draft202012Validator,
    {"minimum": _if_inexact("minimum"), "maximum": _if_inexact("maximum")},
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine_many(
        {"number": _is_number, "integer": _is_whole, "boolean": _is_truth_value}
    ),
)
