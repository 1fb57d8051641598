"""The exception tree: what each class is, and that it survives a process boundary."""

from __future__ import annotations

import pickle
import re

import pytest

from infersdk import errors
from infersdk.errors import (
    ArtifactError,
    ClosedError,
    ConversionError,
    DeadlineError,
    InferSDKError,
    InputError,
    MissingDependencyError,
    OverloadedError,
    ParityError,
    SessionError,
    UnsupportedModelError,
)

ALL = [getattr(errors, name) for name in errors.__all__]


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (InputError, ValueError),
        (ConversionError, ValueError),
        (UnsupportedModelError, TypeError),
        (UnsupportedModelError, ConversionError),
        (ParityError, ConversionError),
        (ArtifactError, ValueError),
        (MissingDependencyError, ImportError),
        (SessionError, RuntimeError),
        (OverloadedError, RuntimeError),
        (DeadlineError, TimeoutError),
        (ClosedError, RuntimeError),
    ],
)
def test_each_error_is_also_the_builtin_a_caller_expects(error, builtin):
    assert issubclass(error, builtin)
    assert issubclass(error, InferSDKError)


def test_all_lists_every_exception_of_the_module():
    defined = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, Exception)
    }
    assert set(errors.__all__) == defined
    assert errors.__all__ == sorted(errors.__all__)


def test_the_tree_in_the_docstring_names_every_class():
    drawn = set(re.findall(r"\b[A-Z]\w+Error\b", errors.__doc__))
    assert set(errors.__all__) <= drawn


def test_mismatch_says_expected_given_where_and_what_to_do():
    error = InputError.mismatch(
        expected="float32",
        given="'abc'",
        model="churn",
        field="age",
        row=3,
        hint="Pass a number",
    )
    assert str(error) == "Expected float32, got 'abc' - `age`, row 3, model `churn`. Pass a number"
    assert (error.model, error.field, error.row) == ("churn", "age", 3)
    assert (error.expected, error.given) == ("float32", "'abc'")


def test_mismatch_leaves_out_what_is_unknown():
    assert str(InputError.mismatch(expected="a dict", given="int")) == "Expected a dict, got int"
    assert str(InputError.mismatch(expected="a", given="b", row=0)) == "Expected a, got b - row 0"


def test_input_error_survives_pickling_with_its_fields():
    error = InputError.mismatch(expected="a", given="b", model="m", field="f", row=2)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is InputError
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)


@pytest.mark.parametrize("error", [kind for kind in ALL if kind is not InputError])
def test_every_other_error_survives_pickling(error):
    copy = pickle.loads(pickle.dumps(error("message")))
    assert type(copy) is error
    assert str(copy) == "message"


def test_parity_error_carries_its_report():
    report = object()
    assert ParityError("differs", report).report is report
    assert ParityError("differs").report is None


def test_session_error_carries_model_and_code():
    error = SessionError("refused", model="churn", code=7)
    assert (error.model, error.code) == ("churn", 7)


def test_missing_dependency_names_the_extra_to_install():
    error = MissingDependencyError.for_extra("skl2onnx", "sklearn", "Converting a model")
    assert 'pip install "infersdk[sklearn]"' in str(error)
    assert "`skl2onnx`" in str(error)
    assert str(error).startswith("Converting a model needs")
