"""Every type goes through JSON text and comes back equal; reports say what they should."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infersdk.types import (
    Field,
    Labels,
    MapSpec,
    Method,
    MethodParity,
    OptionalSpec,
    ParityReport,
    Plan,
    SequenceSpec,
    Signature,
    TensorSpec,
    value_spec_from_json,
)

names = st.text(max_size=8)
scalars = st.one_of(
    st.text(max_size=8),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.booleans(),
)
dims = st.one_of(st.integers(0, 2**40), names, st.none())
tensors = st.builds(
    TensorSpec,
    name=names,
    dtype=st.sampled_from(["float32", "string", "int64", "bfloat16"]),
    shape=st.none() | st.lists(dims, max_size=4).map(tuple),
)
values = st.recursive(
    tensors,
    lambda inner: st.one_of(
        st.builds(SequenceSpec, names, inner),
        st.builds(MapSpec, names, st.sampled_from(["int64", "string"]), inner),
        st.builds(OptionalSpec, names, inner),
    ),
    max_leaves=4,
)
labels = st.builds(
    Labels, st.lists(scalars, max_size=4).map(tuple), st.sampled_from(["int64", "object", "<U10"])
)
methods = st.builds(
    Method,
    name=names,
    outputs=st.lists(names, min_size=1, max_size=3).map(tuple),
    form=st.sampled_from(["array", "labels", "sparse", "tuple", "list", "dict"]),
    dtype=st.none() | st.sampled_from(["float64", "int64"]),
    shape=st.none() | st.lists(st.integers(0, 9), max_size=3).map(tuple),
    labels=st.none() | labels,
    keys=st.none() | st.lists(names, max_size=3).map(tuple),
    head=names,
)
fields = st.builds(
    Field,
    name=names,
    dtype=st.sampled_from(["float", "int", "bool", "string"]),
    input=st.none() | names,
    column=st.integers(0, 100),
    missing=st.sampled_from(["refuse", "nan", "empty"]),
    categories=st.none() | st.lists(scalars, max_size=4).map(tuple),
    unknown=st.sampled_from(["allow", "refuse"]),
    encoding=st.sampled_from(["value", "code"]),
    source_dtype=st.none() | names,
)
signatures = st.builds(
    Signature,
    inputs=st.lists(values, max_size=3).map(tuple),
    outputs=st.lists(values, max_size=3).map(tuple),
    methods=st.lists(methods, max_size=3).map(tuple),
    fields=st.lists(fields, max_size=3).map(tuple),
    container=st.sampled_from(["dataframe", "array", "text", "tensors"]),
)
errors = st.floats(min_value=0, allow_nan=False)
reports = st.builds(
    ParityReport,
    n_example_rows=st.integers(0, 5000),
    n_edge_rows=st.integers(0, 5000),
    methods=st.lists(
        st.builds(
            MethodParity,
            method=names,
            max_abs_error=errors,
            max_rel_error=errors,
            label_flips=st.none() | st.integers(0, 50),
            mismatched_rows=st.integers(0, 50),
            passed=st.booleans(),
            message=names,
        ),
        max_size=3,
    ).map(tuple),
    rtol=errors,
    atol=errors,
    notes=st.lists(names, max_size=2).map(tuple),
)
plans = st.builds(
    Plan, st.sampled_from(["onnx", "native"]), names, st.lists(names, max_size=2).map(tuple)
)


def through_text(data):
    """What a file holds: JSON text, so that tuples and numpy numbers cannot slip through."""
    return json.loads(json.dumps(data))


@given(values)
def test_value_specs_round_trip(spec):
    assert value_spec_from_json(through_text(spec.to_json())) == spec


@given(signatures)
def test_signatures_round_trip(signature):
    copy = Signature.from_json(through_text(signature.to_json()))
    assert copy == signature
    assert hash(copy) == hash(signature)


@given(labels)
def test_labels_keep_the_type_of_each_value(original):
    copy = Labels.from_json(through_text(original.to_json()))
    # 1, 1.0 and True are equal in Python and three different answers to a user.
    assert [type(value) for value in copy.values] == [type(value) for value in original.values]
    assert copy == original


@given(reports)
def test_parity_reports_round_trip(report):
    assert ParityReport.from_json(through_text(report.to_json())) == report


@given(plans)
def test_plans_round_trip(plan):
    assert Plan.from_json(through_text(plan.to_json())) == plan


def test_infinite_errors_round_trip():
    report = ParityReport(
        1, 0, (MethodParity("predict", math.inf, math.inf, 1, 1, False),), 1e-4, 1e-5
    )
    assert ParityReport.from_json(through_text(report.to_json())) == report


def test_an_unknown_kind_of_value_is_refused():
    with pytest.raises(ValueError, match="got 'opaque'"):
        value_spec_from_json({"kind": "opaque", "name": "x"})


def test_a_method_is_found_by_its_name():
    signature = Signature((), (), (Method("predict", ("y",)), Method("transform", ("z",))))
    assert signature.method("transform") is signature.methods[1]
    assert signature.method("score") is None


@given(reports)
def test_a_report_passes_only_if_every_method_does(report):
    assert report.passed == (not any(not method.passed for method in report.methods))
    assert report.label_flips == sum(m.label_flips for m in report.methods if m.label_flips)
    assert report.max_abs_error == max([m.max_abs_error for m in report.methods] + [0.0])


def test_a_report_reads_as_text():
    good = MethodParity("predict", 0.0, 0.0, 0, 0, True)
    bad = MethodParity("predict_proba", 0.25, 0.5, None, 3, False, "row 7 is 0.5 instead of 0.25")
    assert str(ParityReport(10, 5, (good,), 1e-4, 1e-5)).startswith(
        "parity: equal on 10 example and 5 edge rows (rtol 0.0001, atol 1e-05)"
    )
    text = str(ParityReport(10, 5, (good, bad), 1e-4, 1e-5, ("sampled",)))
    assert "DIFFERENT" in text
    assert "row 7 is 0.5 instead of 0.25" in text
    assert text.endswith("- sampled")


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        (TensorSpec("x", "float32", ("N", 13)), "float32 (N, 13)"),
        (TensorSpec("x", "int64", ("N",)), "int64 (N,)"),
        (TensorSpec("x", "string", (None, 2)), "string (?, 2)"),
        (TensorSpec("x", "bool", ()), "bool ()"),
        (TensorSpec("x", "bool", None), "bool of any shape"),
        (SequenceSpec("s", TensorSpec("", "float32", (2,))), "sequence of float32 (2,)"),
        (MapSpec("m", "int64", TensorSpec("", "float32", ())), "map of int64 to float32 ()"),
        (OptionalSpec("o", TensorSpec("", "float32", ())), "optional float32 ()"),
    ],
)
def test_specs_read_as_text(spec, text):
    assert str(spec) == text


def test_a_plan_reads_as_text():
    assert str(Plan("native", "it has a callback", ("a", "b"))) == (
        "native: it has a callback\n  - a\n  - b"
    )
