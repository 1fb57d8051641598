"""The parity check and what follows from it, on small models whose faults are put in by hand.

The source model is a numpy function and the graph is written beside it, so that every test knows what
must be found.
"""

from __future__ import annotations

import re
import warnings
from datetime import UTC, datetime, timedelta, timezone
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from infersdk.artifact import Artifact
from infersdk.convert import parity, registry
from infersdk.convert import rows as row_access
from infersdk.convert.compare import Comparison, compare, leaves, scales
from infersdk.convert.conversion import convert_model
from infersdk.convert.registry import Written
from infersdk.errors import (
    ConversionError,
    InputError,
    MissingDependencyError,
    ParityError,
    UnsupportedModelError,
)
from infersdk.types import Field, Labels, Method, Plan, Signature, TensorSpec

N_FEATURES = 3
RNG = np.random.default_rng(3)
WEIGHT = RNG.normal(size=(N_FEATURES, 2))
EXAMPLE = RNG.normal(size=(50, N_FEATURES))
CLASSES = ("no", "yes")


class Linear:
    """A source model: scores by a product, probabilities by a softmax, labels by the larger one.

    The hooks change what it answers, or what its graph answers, so that the two differ as a test asks.
    """

    def __init__(self, **hooks):
        self.hooks = hooks
        self.calls = 0

    def scores(self, rows):
        self.calls += 1
        rows = np.asarray(rows, dtype=np.float64)
        if "refuse" in self.hooks:
            self.hooks["refuse"](rows)
        scores = rows @ WEIGHT
        return self.hooks["scores"](scores, rows) if "scores" in self.hooks else scores

    def decision_function(self, rows):
        return self.scores(rows)

    def predict_proba(self, rows):
        scores = self.scores(rows)
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)

    def predict(self, rows):
        return np.array(CLASSES, dtype=object)[self.scores(rows).argmax(axis=1)]


def linear_graph(model: Linear):
    product = model.hooks.get("product", ["x64", "weight", "scores"])
    nodes = [
        helper.make_node("Cast", ["features"], ["x64"], to=TensorProto.DOUBLE),
        helper.make_node("MatMul", product[:2], [product[2]]),
        *model.hooks.get("nodes", ()),
        helper.make_node("Softmax", ["scores"], ["shares"], axis=1),
        helper.make_node("Cast", ["shares"], ["probabilities"], to=TensorProto.FLOAT),
        helper.make_node("ArgMax", ["scores"], ["label"], axis=1, keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", N_FEATURES])],
        [
            helper.make_tensor_value_info("label", TensorProto.INT64, ["N"]),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 2]),
            helper.make_tensor_value_info("scores", TensorProto.DOUBLE, ["N", 2]),
        ],
        [
            numpy_helper.from_array(model.hooks.get("weight", WEIGHT), "weight"),
            *model.hooks.get("more", ()),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def linear_signature(model: Linear) -> Signature:
    methods = (
        Method("predict", ("label",), form="labels", labels=Labels(CLASSES, "object")),
        Method("predict_proba", ("probabilities",), dtype="float64", head="proba"),
        Method("decision_function", ("scores",), head="scores"),
    )
    return Signature(
        inputs=(TensorSpec("features", "float32", ("N", N_FEATURES)),),
        outputs=(
            TensorSpec("label", "int64", ("N",)),
            TensorSpec("probabilities", "float32", ("N", 2)),
            TensorSpec("scores", "float64", ("N", 2)),
        ),
        methods=model.hooks.get("methods", methods),
        fields=tuple(
            Field(f"f{i}", "float", "features", i, missing=model.hooks.get("missing", "refuse"))
            for i in range(N_FEATURES)
        ),
        container="array",
    )


def make_converter(**changes) -> SimpleNamespace:
    """A converter for Linear, with any of its functions exchanged."""
    names = {
        "FRAMEWORK": "numpy",
        "EXTRA": "none",
        "can_convert": lambda model: isinstance(model, Linear),
        "infer_signature": lambda model, example=None: linear_signature(model),
        "to_onnx": lambda model, signature, *, example=None, opset=None: Written(
            linear_graph(model), ("scores are exact",)
        ),
        "call": lambda model, method, rows: getattr(model, method)(rows),
        "edge_rows": lambda model, signature, example, *, n_rows, rng: None,
    }
    return SimpleNamespace(**(names | changes))


def edge_rows_of(rows):
    return {"edge_rows": lambda model, signature, example, *, n_rows, rng: rows}


def check(model: Linear, example=EXAMPLE, *, converter=None, **options):
    artifact = Artifact(
        linear_graph(model),
        signature=linear_signature(model),
        plan=Plan("onnx", "test"),
        name="linear",
    )
    return parity.check(artifact, model, converter or make_converter(), example, **options)


def result(report, name):
    (method,) = [method for method in report.methods if method.method == name]
    return method


@pytest.fixture
def registered(monkeypatch):
    """Register a converter for Linear for one test."""

    def register(**changes):
        converter = make_converter(**changes)
        monkeypatch.setattr(registry, "_registered", [converter])
        return converter

    register()
    return register


# -- what agrees ---------------------------------------------------------------------------------------


def test_an_equal_model_passes_with_its_numbers():
    report = check(Linear())
    assert report.passed
    assert (report.n_example_rows, report.n_edge_rows) == (50, 0)
    assert [method.method for method in report.methods] == [
        "predict",
        "predict_proba",
        "decision_function",
    ]
    assert result(report, "predict").label_flips == 0
    assert result(report, "predict_proba").label_flips is None
    # Inputs are rounded to float32, which is what a Predictor does with them.
    assert 0 < result(report, "decision_function").max_abs_error < 1e-6
    assert (report.rtol, report.atol) == (1e-4, 1e-5)


def as_lists(rows):
    return rows.tolist()


def as_one_list(rows):
    return rows[0].tolist()


def as_dicts(rows):
    return [{f"f{i}": value for i, value in enumerate(row)} for row in rows.tolist()]


def as_one_dict(rows):
    return as_dicts(rows)[0]


def as_frame(rows):
    pandas = pytest.importorskip("pandas")
    # In another order, which the names put right.
    return pandas.DataFrame(rows, columns=["f0", "f1", "f2"])[["f2", "f0", "f1"]]


def as_sparse(rows):
    return pytest.importorskip("scipy.sparse").csr_matrix(rows)


def as_float32(rows):
    return rows.astype(np.float32)


@pytest.mark.parametrize(
    "form", [as_lists, as_one_list, as_dicts, as_one_dict, as_frame, as_sparse, as_float32]
)
def test_the_example_may_have_any_form_a_predictor_takes(form):
    report = check(Linear(), form(EXAMPLE))
    assert report.passed, report
    assert report.n_example_rows == (1 if "one" in form.__name__ else 50)


def test_edge_rows_are_compared_without_an_example():
    report = check(Linear(), None, converter=make_converter(**edge_rows_of(EXAMPLE[:7])))
    assert report.passed
    assert (report.n_example_rows, report.n_edge_rows) == (0, 7)


def test_without_any_rows_there_is_no_report():
    assert check(Linear(), None) is None


def test_long_examples_are_sampled():
    rows = RNG.normal(size=(5000, N_FEATURES))
    report = check(Linear(), rows, max_example_rows=300)
    assert report.n_example_rows == 300
    assert "300 of the 5000 example rows were sampled" in report.notes


def test_the_same_rows_are_sampled_each_time():
    rows = RNG.normal(size=(5000, N_FEATURES))
    assert check(Linear(), rows) == check(Linear(), rows)


def test_time_limits_how_many_rows_are_compared():
    rows = RNG.normal(size=(2000, N_FEATURES))
    seconds = iter(range(100))
    report = check(Linear(), rows, max_seconds=0.5, clock=lambda: next(seconds))
    assert report.n_example_rows == 512
    assert any("512 of 2000 example rows were compared" in note for note in report.notes)


def test_converters_are_asked_for_edge_rows_with_everything_they_need():
    asked = {}

    def edge_rows(model, signature, example, *, n_rows, rng):
        asked.update(model=model, fields=signature.fields, example=example, n_rows=n_rows)
        return rng.normal(size=(4, N_FEATURES))

    model = Linear()
    report = check(model, converter=make_converter(edge_rows=edge_rows), max_edge_rows=9)
    assert report.n_edge_rows == 4
    assert asked["model"] is model
    assert asked["example"] is EXAMPLE
    assert asked["n_rows"] == 9
    assert len(asked["fields"]) == N_FEATURES


def test_missing_values_agree_with_missing_values():
    rows = EXAMPLE.copy()
    rows[::5, 1] = np.nan
    model = Linear(missing="nan", methods=(Method("decision_function", ("scores",)),))
    assert check(model, rows).passed


# -- what differs --------------------------------------------------------------------------------------


def test_one_flipped_label_fails():
    def flip(scores, rows):
        scores[rows[:, 0] == EXAMPLE[17, 0]] *= -1
        return scores

    report = check(Linear(scores=flip))
    method = result(report, "predict")
    assert not method.passed
    assert method.label_flips == 1
    assert method.mismatched_rows == 1
    assert "example row 17" in method.message
    ours = CLASSES[int((EXAMPLE[17] @ WEIGHT).argmax())]
    theirs = CLASSES[1 - CLASSES.index(ours)]
    assert f"{ours!r} instead of {theirs!r}" in method.message
    assert report.label_flips == 1


def test_a_flip_past_the_first_chunk_is_found_in_its_row():
    rows = RNG.normal(size=(1500, N_FEATURES))

    def flip(scores, given):
        scores[given[:, 0] == rows[1400, 0]] *= -1
        return scores

    method = result(check(Linear(scores=flip), rows), "predict")
    assert (method.label_flips, method.mismatched_rows) == (1, 1)
    assert "row 1400" in method.message


def test_a_flip_on_edge_rows_fails_too():
    edges = RNG.normal(size=(6, N_FEATURES))

    def flip(scores, rows):
        scores[rows[:, 0] == edges[2, 0]] *= -1
        return scores

    report = check(Linear(scores=flip), converter=make_converter(**edge_rows_of(edges)))
    method = result(report, "predict")
    assert (method.passed, method.label_flips) == (False, 1)
    assert "edge row 2" in method.message


def test_a_flip_where_the_source_is_undecided_fails_and_is_explained():
    """The scores tie to one part in 1e9; the source's rounding picks one class, the graph's the other."""
    rows = EXAMPLE.copy()
    rows[5] = 0.0

    def undecided(scores, given):
        scores[(given == 0).all(axis=1)] = [0.0, 1e-9]
        return scores

    method = result(check(Linear(scores=undecided), rows), "predict")
    assert (method.passed, method.label_flips) == (False, 1)
    assert (
        "in 1 of these rows the source's own two best scores are within the tolerance"
        in method.message
    )


def test_a_clear_flip_is_not_explained_away():
    def flip(scores, rows):
        scores[rows[:, 0] == EXAMPLE[17, 0]] *= -1
        return scores

    assert "within the tolerance" not in result(check(Linear(scores=flip)), "predict").message


def test_a_small_difference_passes_and_a_larger_one_fails():
    for size, passed in ((3e-6, True), (1e-3, False)):
        report = check(Linear(scores=lambda scores, rows, size=size: scores + size))
        method = result(report, "decision_function")
        assert method.passed == passed
        assert method.max_abs_error == pytest.approx(size, rel=0.2)


def test_tolerances_can_be_set():
    model = Linear(scores=lambda scores, rows: scores + 1e-3)
    assert not check(model).passed
    report = check(model, atol=1e-2)
    assert report.passed
    assert report.atol == 1e-2


def test_one_row_far_off_fails_however_many_are_right():
    def spike(scores, rows):
        scores[rows[:, 0] == EXAMPLE[3, 0], 1] += 0.5
        return scores

    method = result(check(Linear(scores=spike)), "decision_function")
    assert (method.passed, method.mismatched_rows) == (False, 1)
    assert method.max_abs_error == pytest.approx(0.5, abs=1e-4)


def test_methods_are_judged_one_by_one():
    model = Linear()
    model.predict_proba = lambda rows: Linear.predict_proba(model, rows) + 0.01
    report = check(model)
    assert [method.passed for method in report.methods] == [True, False, True]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.astype(np.float32), "expected dtype float32, got float64"),
        (lambda a: a[:, :1], r"expected an array of shape \(50, 1\)"),
        (lambda a: (a, a), r"expected an answer made of \[0\], \[1\], got one array"),
        (lambda a: {"p": a}, r"expected an answer made of \['p'\]"),
    ],
)
def test_another_kind_of_answer_fails(change, message):
    model = Linear()
    model.decision_function = lambda rows: change(Linear.decision_function(model, rows))
    method = result(check(model), "decision_function")
    assert not method.passed
    assert method.mismatched_rows == 50
    assert re.search(message, method.message)


def test_a_source_that_answers_differently_each_time_is_found_out():
    rng = np.random.default_rng(0)
    report = check(Linear(scores=lambda scores, rows: scores + rng.normal(size=scores.shape)))
    assert (
        "answers the same rows differently each time" in result(report, "decision_function").message
    )


def test_a_row_that_answers_otherwise_alone_fails():
    """The graph takes the batch's mean away; in a batch both do so, alone only the graph does."""
    mean = [
        helper.make_node("ReduceMean", ["raw", "rows_axis"], ["mean"], keepdims=1),
        helper.make_node("Sub", ["raw", "mean"], ["scores"]),
    ]
    hooks = {
        "product": ["x64", "weight", "raw"],
        "nodes": mean,
        "more": [numpy_helper.from_array(np.array([0]), "rows_axis")],
    }

    def as_the_graph_does(scores, rows):
        return scores - scores.mean(axis=0)

    def only_in_a_batch(scores, rows):
        return scores - scores.mean(axis=0) if len(scores) > 1 else scores

    same = check(Linear(scores=as_the_graph_does, **hooks))
    assert same.passed, same
    assert any("depends on the other rows" in note for note in same.notes)
    other = check(Linear(scores=only_in_a_batch, **hooks))
    assert not result(other, "decision_function").passed
    assert "when it comes alone" in result(other, "decision_function").message


# -- rows that are refused -------------------------------------------------------------------------------


def refuse_nan(rows):
    if np.isnan(rows).any():
        raise ValueError("Input contains NaN")


def test_edge_rows_that_the_source_refuses_are_left_out():
    edges = RNG.normal(size=(40, N_FEATURES))
    edges[[3, 17, 18], 0] = np.nan
    model = Linear(refuse=refuse_nan, missing="nan")
    report = check(model, converter=make_converter(**edge_rows_of(edges)))
    assert report.passed
    assert report.n_edge_rows == 37
    assert "the source model refuses some of the edge rows; they were left out" in report.notes


def test_edge_rows_that_the_signature_refuses_are_left_out_and_named():
    edges = RNG.normal(size=(20, N_FEATURES))
    edges[4, 0] = np.nan
    report = check(Linear(), converter=make_converter(**edge_rows_of(edges)))
    assert report.n_edge_rows == 19
    assert any("the signature refuses some of the edge rows" in note for note in report.notes)


def test_edge_rows_that_are_all_refused_prove_nothing():
    edges = np.full((20, N_FEATURES), np.nan)
    converter = make_converter(**edge_rows_of(edges))
    assert check(Linear(refuse=refuse_nan), None, converter=converter) is None


def test_an_example_that_the_source_refuses_is_the_users_to_mend():
    rows = EXAMPLE.copy()
    rows[0, 0] = np.nan
    with pytest.raises(InputError, match="refuses the example: ValueError: Input contains NaN"):
        check(Linear(refuse=refuse_nan, missing="nan"), rows)


def test_an_example_that_the_signature_refuses_is_named_by_its_field():
    rows = EXAMPLE.copy()
    rows[2, 1] = np.nan
    with pytest.raises(InputError, match="f1"):
        check(Linear(), rows)


def test_an_empty_example_is_refused():
    with pytest.raises(InputError, match="at least one row"):
        check(Linear(), EXAMPLE[:0])


def test_a_method_that_the_source_cannot_answer_fails_alone():
    model = Linear()

    def broken(rows):
        raise AttributeError("probability is not available")

    model.predict_proba = broken
    report = check(model)
    assert [method.passed for method in report.methods] == [True, False, True]
    assert "AttributeError: probability is not available" in result(report, "predict_proba").message


# -- comparing -------------------------------------------------------------------------------------------


def differences(ours, theirs, *, rtol=1e-4, atol=1e-5, n_rows=None):
    found = Comparison()
    theirs = leaves(theirs)
    n_rows = len(theirs[0].value) if n_rows is None else n_rows
    compare(
        found,
        leaves(ours),
        theirs,
        rtol=rtol,
        atol=atol,
        scale=scales([theirs]),
        n_rows=n_rows,
        part="example",
    )
    return found


finite = st.floats(-1e6, 1e6)
numbers = st.lists(st.floats(width=64), min_size=1, max_size=20)


@given(numbers)
def test_equal_numbers_always_agree(values):
    found = differences(np.array(values), np.array(values), rtol=0, atol=0)
    assert not found.problems
    assert found.max_abs_error == 0.0


@given(st.lists(finite, min_size=2, max_size=2), st.lists(finite, min_size=2, max_size=2))
def test_small_numbers_agree_as_numpys_isclose_says(ours, theirs):
    # The scale is 1 while the median is below it.
    theirs = np.array([*theirs, 0.0, 0.0, 0.0])
    ours = np.array([*ours, 0.0, 0.0, 0.0])
    found = differences(ours, theirs, rtol=1e-3, atol=1e-2)
    expected = ~np.isclose(ours, theirs, rtol=1e-3, atol=1e-2)
    assert {row for _, row in found.rows} == set(np.flatnonzero(expected))


@pytest.mark.parametrize(
    ("ours", "theirs", "agree"),
    [
        (np.nan, np.nan, True),
        (np.inf, np.inf, True),
        (-np.inf, -np.inf, True),
        (np.inf, -np.inf, False),
        (np.nan, 1.0, False),
        (1.0, np.nan, False),
        (np.inf, 1.0, False),
        (1.0, np.inf, False),
        (np.nan, np.inf, False),
        (0.0, -0.0, True),
    ],
)
def test_special_numbers(ours, theirs, agree):
    found = differences(np.array([ours, 1.0]), np.array([theirs, 1.0]))
    assert bool(found.problems) is not agree
    if not agree:
        assert found.max_abs_error == np.inf


def test_large_answers_widen_the_absolute_tolerance():
    theirs = np.full(101, 1e6)
    theirs[0] = 0.0
    ours = theirs.copy()
    ours[0] = 5.0
    found = differences(ours, theirs)
    assert not found.problems
    assert found.eased == 1
    ours[0] = 11.0
    assert differences(ours, theirs).rows == {("example", 0)}


def test_a_few_huge_answers_do_not_excuse_small_ones():
    theirs = np.ones(101)
    theirs[:5] = 1e12
    ours = theirs.copy()
    ours[50] = 1.001
    assert differences(ours, theirs).rows == {("example", 50)}


def test_a_large_column_does_not_excuse_a_small_one():
    theirs = np.column_stack([np.full(50, 1e9), np.full(50, 0.5)])
    ours = theirs.copy()
    ours[7, 1] = 0.501
    assert differences(ours, theirs).rows == {("example", 7)}


@pytest.mark.parametrize(
    "values",
    [
        np.array([1, 2, 3]),
        np.array([True, False, True]),
        np.array(["a", "b", "c"]),
        np.array(["a", "b", "c"], dtype=object),
        np.array([10**12, 2, 3], dtype=np.int64),
    ],
)
def test_discrete_answers_must_be_equal(values):
    assert differences(values, values).flips == 0
    other = values.copy()
    other[1] = values[0]
    found = differences(other, values)
    assert found.flips == 1
    assert found.rows == {("example", 1)}


def test_text_of_another_length_is_the_same_kind():
    assert not differences(np.array(["a"], dtype="<U9"), np.array(["a"])).problems
    assert differences(np.array(["a"], dtype=object), np.array(["a"])).problems


def test_a_row_counts_once_however_many_of_its_labels_flip():
    ours, theirs = np.zeros((4, 3), dtype=int), np.zeros((4, 3), dtype=int)
    ours[2] = 1
    assert differences(ours, theirs).flips == 1


@pytest.mark.parametrize("size", [0.0, 1.0])
def test_sparse_answers_are_compared_without_filling_them(size):
    sparse = pytest.importorskip("scipy.sparse")
    theirs = sparse.random(40, 200_000, density=1e-5, format="csr", random_state=0)
    ours = theirs.copy()
    ours.data = ours.data + 1e-7
    if size:
        ours = ours.tolil()
        ours[11, 3] = size
        ours = ours.tocsr()
    found = differences(ours, theirs, n_rows=40)
    assert found.rows == ({("example", 11)} if size else set())
    assert found.max_abs_error == pytest.approx(size or 1e-7)


def test_a_number_that_only_the_source_stores_is_compared():
    sparse = pytest.importorskip("scipy.sparse")
    theirs = sparse.csr_matrix(np.eye(3))
    found = differences(sparse.csr_matrix((3, 3)), theirs, n_rows=3)
    assert len(found.rows) == 3


def test_sparse_and_dense_answers_differ():
    sparse = pytest.importorskip("scipy.sparse")
    found = differences(np.eye(3), sparse.csr_matrix(np.eye(3)), n_rows=3)
    assert "expected a sparse matrix" in found.problems[0]


@pytest.mark.parametrize(
    "wrap", [lambda a, b: (a, b), lambda a, b: [a, b], lambda a, b: {"a": a, "b": b}]
)
def test_each_part_of_an_answer_is_compared(wrap):
    good, bad = np.zeros(3), np.array([0.0, 1.0, 0.0])
    found = differences(wrap(good, bad), wrap(good, good))
    assert found.rows == {("example", 1)}
    assert any(f"at {where}" in found.problems[0] for where in ("[1]", "['b']"))


def test_an_answer_without_rows_fails_as_a_whole():
    found = differences(np.array(1.0), np.array(2.0), n_rows=4)
    assert len(found.rows) == 4


def test_half_precision_of_torch_is_compared_by_value_and_named():
    torch = pytest.importorskip("torch")
    values = torch.tensor([1.0, 2.0], dtype=torch.bfloat16)
    (leaf,) = leaves(values)
    assert leaf.dtype == "bfloat16"
    assert not differences(values, values.clone()).problems
    assert "expected dtype bfloat16" in differences(values.float(), values).problems[0]


def test_tensors_of_a_model_being_trained_can_be_read():
    torch = pytest.importorskip("torch")
    assert not differences(torch.ones(2, requires_grad=True) * 2, torch.full((2,), 2.0)).problems


@given(st.lists(finite, min_size=1, max_size=30))
def test_the_scale_is_the_median_of_the_answers(values):
    (scale,) = scales([leaves(np.array(values))])
    assert scale == max(1.0, float(np.median(np.abs(values))))


def test_the_scale_ignores_what_is_not_finite():
    (scale,) = scales([leaves(np.array([np.nan, np.inf, 100.0]))])
    assert scale == 100.0
    (scale,) = scales([leaves(np.array([np.nan, np.nan]))])
    assert scale == 1.0


# -- rows ------------------------------------------------------------------------------------------------


def frame(rows):
    return pytest.importorskip("pandas").DataFrame(rows, columns=["a", "b"])


ROWS = np.arange(10.0).reshape(5, 2)


@pytest.mark.parametrize(
    ("rows", "values"),
    [
        (ROWS, lambda taken: taken),
        (ROWS.tolist(), np.array),
        ((ROWS, ROWS + 1), lambda taken: taken[1] - 1),
        ({"x": ROWS, "y": ROWS}, lambda taken: taken["y"]),
        (frame(ROWS), lambda taken: taken.to_numpy()),
    ],
    ids=["array", "list", "tuple", "dict", "frame"],
)
def test_rows_are_counted_and_taken_in_any_container(rows, values):
    index = np.array([4, 0, 0])
    assert row_access.count(rows) == 5
    taken = row_access.take(rows, index)
    assert type(taken) is type(rows)
    np.testing.assert_array_equal(values(taken), ROWS[index])


def tensors(*shapes):
    inputs = tuple(TensorSpec(f"x{i}", "float32", shape) for i, shape in enumerate(shapes))
    return Signature(inputs, (), ())


@pytest.mark.parametrize(
    ("rows", "signature", "expected"),
    [
        ((ROWS,), tensors(("N", 2)), True),
        ((ROWS, ROWS), tensors(("N", 2), (None, 2)), True),
        ({"x0": ROWS}, tensors(("N", 2)), True),
        ((ROWS,), tensors((5, 2)), False),
        ((ROWS,), tensors(None), False),
        ((ROWS, ROWS[:1]), tensors(("N", 2), ("N", 2)), False),
        ((ROWS, np.float32(1)), tensors(("N", 2), ()), False),
        (["a", "b"], Signature((), (), (), container="text"), True),
    ],
)
def test_tensors_are_split_only_along_an_open_axis_of_rows(rows, signature, expected):
    assert row_access.can_split(rows, signature) is expected


def test_a_model_of_fixed_shape_is_compared_as_a_whole():
    graph = helper.make_graph(
        [helper.make_node("Neg", ["x"], ["y"])],
        "fixed",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4, 2])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    signature = Signature(
        (TensorSpec("x", "float32", (4, 2)),),
        (TensorSpec("y", "float32", (4, 2)),),
        (Method("__call__", ("y",)),),
    )
    artifact = Artifact(model, signature=signature, plan=Plan("onnx", "test"))
    shapes = []

    def call(model, method, rows):
        shapes.append(rows.shape)
        return -rows

    report = parity.check(
        artifact, None, make_converter(call=call), np.ones((4, 2), np.float32), max_example_rows=2
    )
    assert report.passed
    assert set(shapes) == {(4, 2)}


def test_a_frame_is_compared_in_batches_and_as_lone_dicts(monkeypatch):
    """Through the real scikit-learn converter, with text, whole numbers and missing values."""
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("skl2onnx")
    from sklearn.compose import make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    rng = np.random.default_rng(0)
    rows = pandas.DataFrame(
        {
            "age": rng.integers(18, 90, 300),
            "city": rng.choice(["Oslo", "Rome", "Bern"], 300),
            "income": rng.normal(5, 2, 300),
        }
    )
    rows.loc[::7, "income"] = np.nan
    target = (rows["age"] > 50) | (rows["city"] == "Oslo")
    columns = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), ["city"]), (SimpleImputer(), ["age", "income"])
    )
    model = make_pipeline(columns, LogisticRegression(max_iter=2000)).fit(rows, target)

    asked = []
    bind = parity.Binder.bind

    def watch(binder, given):
        asked.append(type(given).__name__)
        return bind(binder, given)

    monkeypatch.setattr(parity.Binder, "bind", watch)
    conversion = convert_model(model, example=rows)
    assert conversion.plan.kind == "onnx", conversion.plan
    assert conversion.parity.passed
    assert conversion.parity.n_example_rows == 300
    assert {"DataFrame", "dict"} <= set(asked)


# -- half precision ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "passed"), [(5e-3, True), (5e-2, False)])
def test_half_precision_models_get_wider_tolerances(size, passed):
    graph = helper.make_graph(
        [helper.make_node("Neg", ["x"], ["y"])],
        "half",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT16, ["N", 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT16, ["N", 2])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    signature = Signature(
        (TensorSpec("x", "float16", ("N", 2)),),
        (TensorSpec("y", "float16", ("N", 2)),),
        (Method("predict", ("y",)),),
    )
    artifact = Artifact(model, signature=signature, plan=Plan("onnx", "test"))
    converter = make_converter(call=lambda model, method, rows: (-rows - size).astype(np.float16))
    rows = np.full((4, 2), 0.25, dtype=np.float16)
    report = parity.check(artifact, None, converter, rows)
    assert (report.rtol, report.atol) == (1e-2, 1e-2)
    assert report.passed == passed


# -- the whole way -------------------------------------------------------------------------------------------


def test_a_proven_model_is_served_as_onnx(registered, tmp_path):
    converter = registered()
    model = Linear()
    now = datetime(2026, 11, 22, 12, 30, 15, tzinfo=UTC)
    conversion = convert_model(model, example=EXAMPLE, name="churn", clock=lambda: now)
    assert conversion.plan == Plan("onnx", "converted from numpy", ("scores are exact",))
    assert conversion.source is model
    assert conversion.converter is converter
    assert conversion.parity.passed
    assert conversion.artifact.parity == conversion.parity
    assert conversion.artifact.name == conversion.name == "churn"
    provenance = conversion.artifact.provenance
    assert provenance.framework == "numpy"
    assert provenance.source.endswith("Linear")
    assert provenance.created == "2026-11-22T12:30:15Z"
    assert dict(provenance.versions)["numpy"] == np.__version__
    opened = Artifact.open(conversion.artifact.save(tmp_path / "churn.onnx"))
    assert opened.provenance == provenance
    assert opened.plan == conversion.plan
    np.testing.assert_array_equal(conversion.call("predict", EXAMPLE), model.predict(EXAMPLE))


def test_another_clock_zone_is_written_as_utc(registered):
    oslo = datetime(2026, 11, 22, 13, 0, tzinfo=timezone(timedelta(hours=1)))
    conversion = convert_model(Linear(), example=EXAMPLE, clock=lambda: oslo)
    assert conversion.artifact.provenance.created == "2026-11-22T12:00:00Z"


WRONG = {"scores": lambda scores, rows: -scores}


def test_a_mismatch_falls_back_to_the_source(registered):
    conversion = convert_model(Linear(**WRONG), example=EXAMPLE)
    assert conversion.plan.kind == "native"
    assert "predict differs in 50 rows (50 other labels)" in conversion.plan.reason
    assert conversion.artifact is None
    assert not conversion.parity.passed
    assert conversion.signature.methods == linear_signature(Linear()).methods


def test_a_mismatch_raises_when_asked(registered):
    with pytest.raises(ParityError, match="answers differently as ONNX") as caught:
        convert_model(Linear(**WRONG), example=EXAMPLE, name="churn", on_mismatch="raise")
    assert caught.value.report.label_flips == 50
    assert "`churn`" in str(caught.value)


def test_a_mismatch_warns_when_asked(registered):
    with pytest.warns(UserWarning, match="answers differently as ONNX"):
        conversion = convert_model(Linear(**WRONG), example=EXAMPLE, on_mismatch="warn")
    assert conversion.plan.kind == "onnx"
    assert conversion.artifact is not None
    assert any("predict differs in 50 rows" in note for note in conversion.plan.notes)


def test_a_method_that_differs_is_left_out(registered):
    model = Linear()
    model.predict_proba = lambda rows: Linear.predict_proba(model, rows) + 0.01
    conversion = convert_model(model, example=EXAMPLE)
    assert conversion.plan.kind == "onnx"
    names = [method.name for method in conversion.signature.methods]
    assert names == ["predict", "decision_function"]
    assert conversion.artifact.signature == conversion.signature
    assert any("left out: predict_proba differs" in note for note in conversion.plan.notes)
    with pytest.raises(ParityError):
        convert_model(model, example=EXAMPLE, on_mismatch="raise")


def refusing(error):
    def to_onnx(model, signature, *, example=None, opset=None):
        raise error

    return to_onnx


@pytest.mark.parametrize("on_mismatch", ["fallback", "warn"])
@pytest.mark.parametrize(
    "error",
    [
        ConversionError("a callback has no ONNX form"),
        UnsupportedModelError("a callback has no ONNX form"),
        RuntimeError("a callback has no ONNX form"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_model_that_cannot_be_written_falls_back(registered, error, on_mismatch):
    registered(to_onnx=refusing(error))
    conversion = convert_model(Linear(), example=EXAMPLE, on_mismatch=on_mismatch)
    assert conversion.plan.kind == "native"
    assert "a callback has no ONNX form" in conversion.plan.reason
    assert conversion.parity is None
    assert conversion.artifact is None
    assert conversion.call("predict", EXAMPLE).shape == (50,)


@pytest.mark.parametrize("error", [ConversionError("no ONNX form"), RuntimeError("no ONNX form")])
def test_a_model_that_cannot_be_written_raises_when_asked(registered, error):
    registered(to_onnx=refusing(error))
    with pytest.raises(ConversionError, match="no ONNX form"):
        convert_model(Linear(), example=EXAMPLE, on_mismatch="raise")


def test_a_missing_exporter_is_never_hidden_by_the_fallback(registered):
    error = ModuleNotFoundError("No module named 'skl2onnx'", name="skl2onnx")
    registered(to_onnx=refusing(error))
    with pytest.raises(MissingDependencyError, match=r"infersdk\[none\]"):
        convert_model(Linear(), example=EXAMPLE)


def broken_graph(model, signature, *, example=None, opset=None):
    proto = linear_graph(model)
    proto.graph.node[1].op_type = "NoSuchOperator"
    return Written(proto)


def other_graph(model, signature, *, example=None, opset=None):
    proto = linear_graph(model)
    proto.graph.output[0].name = proto.graph.node[-1].output[0] = "class"
    return Written(proto)


@pytest.mark.parametrize(
    ("to_onnx", "message"),
    [(broken_graph, "NoSuchOperator"), (other_graph, "expected the graph's outputs")],
)
def test_a_graph_that_does_not_run_falls_back(registered, to_onnx, message):
    registered(to_onnx=to_onnx)
    conversion = convert_model(Linear(), example=EXAMPLE)
    assert conversion.plan.kind == "native"
    assert "does not run" in conversion.plan.reason
    assert message in conversion.plan.reason
    with pytest.raises(ConversionError, match="does not run"):
        convert_model(Linear(), example=EXAMPLE, on_mismatch="raise")


def test_an_unproven_model_says_so(registered):
    with pytest.warns(UserWarning, match="not proven.*example="):
        conversion = convert_model(Linear())
    assert conversion.plan.kind == "onnx"
    assert conversion.parity is None
    assert any("not proven" in note for note in conversion.plan.notes)
    assert conversion.artifact.plan == conversion.plan


def test_a_proven_model_warns_of_nothing(registered):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        convert_model(Linear(), example=EXAMPLE)


def test_an_unfitted_model_is_refused(registered):
    def infer_signature(model, example=None):
        raise UnsupportedModelError("it is not fitted")

    registered(infer_signature=infer_signature)
    with pytest.raises(UnsupportedModelError, match="not fitted"):
        convert_model(Linear(), example=EXAMPLE)


def test_an_unknown_wish_is_refused(registered):
    with pytest.raises(ValueError, match="'fallback', 'raise' or 'warn', got 'ignore'"):
        convert_model(Linear(), example=EXAMPLE, on_mismatch="ignore")


def test_the_converter_gets_example_and_opset(registered):
    asked = {}

    def to_onnx(model, signature, *, example=None, opset=None):
        asked.update(example=example, opset=opset)
        return Written(linear_graph(model))

    registered(to_onnx=to_onnx)
    convert_model(Linear(), example=EXAMPLE, opset=18)
    assert asked["example"] is EXAMPLE
    assert asked["opset"] == 18


# -- models that are ONNX already ------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["path", "bytes", "proto"])
def test_an_onnx_model_is_taken_as_it_is(tmp_path, form):
    proto = linear_graph(Linear())
    path = tmp_path / "plain.onnx"
    path.write_bytes(proto.SerializeToString())
    model = {"path": path, "bytes": path.read_bytes(), "proto": proto}[form]
    conversion = convert_model(model, name="plain")
    assert conversion.plan == Plan("onnx", "the model is ONNX already")
    assert conversion.parity is None
    assert conversion.name == "plain"
    assert [spec.name for spec in conversion.signature.outputs] == [
        "label",
        "probabilities",
        "scores",
    ]


def test_a_saved_conversion_brings_its_proof(registered, tmp_path):
    saved = convert_model(Linear(), example=EXAMPLE, name="churn")
    path = saved.artifact.save(tmp_path / "churn.onnx")
    opened = convert_model(str(path))
    assert opened.parity == saved.parity
    assert opened.plan == saved.plan
    assert opened.signature == saved.signature
    assert opened.name == "churn"


def test_a_method_that_was_not_written_is_left_out(registered):
    def without_scores(model, signature, *, example=None, opset=None):
        proto = linear_graph(model)
        del proto.graph.output[2]
        return Written(proto, ("decision_function has no ONNX form",))

    registered(to_onnx=without_scores)
    conversion = convert_model(Linear(), example=EXAMPLE)
    assert [method.name for method in conversion.signature.methods] == ["predict", "predict_proba"]
    assert conversion.parity.passed
    assert "decision_function has no ONNX form" in conversion.plan.notes


def test_axes_that_the_exporter_fixed_are_fixed_in_the_signature(registered):
    def of_one_row(model, signature, *, example=None, opset=None):
        proto = linear_graph(model)
        for value in (*proto.graph.input, *proto.graph.output):
            value.type.tensor_type.shape.dim[0].dim_value = 1
        return Written(proto)

    registered(to_onnx=of_one_row)
    conversion = convert_model(Linear(), example=EXAMPLE[:1])
    assert conversion.signature.inputs == (TensorSpec("features", "float32", (1, N_FEATURES)),)
    assert conversion.signature.outputs[0].shape == (1,)
