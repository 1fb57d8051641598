"""Trees as a graph: thresholds, membership tables, ranks and sums, each against plain numpy."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infersdk.convert.tree_graph import (
    EXACT,
    FEATURES,
    Graph,
    MembershipTables,
    Tree,
    add_ensemble,
    add_logistic,
    add_ranks,
    floor_float32,
)
from infersdk.errors import UnsupportedModelError
from infersdk.types import Method, Signature, TensorSpec

finite = st.floats(allow_nan=False, allow_infinity=False)
finite32 = st.floats(allow_nan=False, width=32)


def run(graph: Graph, output: str, width: int, **feeds: np.ndarray) -> np.ndarray:
    inputs = tuple(
        TensorSpec(name, value.dtype.name, ("N", value.shape[1])) for name, value in feeds.items()
    )
    signature = Signature(
        inputs=inputs,
        outputs=(TensorSpec(output, "float32", ("N", width)),),
        methods=(Method("predict", (output,)),),
    )
    session = onnxruntime.InferenceSession(graph.model(signature).SerializeToString())
    return session.run([output], feeds)[0]


@given(threshold=finite, x=finite32)
def test_a_rounded_threshold_decides_every_float32_as_the_float64_one(threshold, x):
    rounded = floor_float32(np.array([threshold]))
    assert rounded.dtype == np.float32
    assert bool(np.float32(x) <= rounded[0]) == (x <= threshold)


@given(threshold=st.floats(-1e38, 1e38))
def test_the_numbers_around_a_rounded_threshold_fall_on_its_two_sides(threshold):
    at = floor_float32(np.array([threshold]))[0]
    above = np.nextafter(at, np.float32(np.inf))
    assert float(at) <= threshold < float(above)


def stump(column: int, threshold: float, left: float, right: float, *, nan_left: bool) -> Tree:
    return Tree(
        column=np.array([column]),
        threshold=np.array([threshold], dtype=np.float32),
        left=np.array([-1]),
        right=np.array([-2]),
        nan_left=np.array([nan_left]),
        leaf=np.array([[left], [right]]),
        targets=(0,),
    )


@pytest.mark.parametrize(("mode", "at_threshold"), [("BRANCH_LT", 2.0), ("BRANCH_LEQ", 1.0)])
@pytest.mark.parametrize("nan_left", [True, False])
def test_one_split_sends_equal_and_missing_values_where_it_says(mode, at_threshold, nan_left):
    graph = Graph()
    tree = stump(1, 0.5, 1.0, 2.0, nan_left=nan_left)
    out = add_ensemble(graph, FEATURES, [tree], np.array([10.0]), mode=mode)
    rows = np.array([[9, 0.4], [9, 0.5], [9, 0.6], [9, np.nan]], dtype=np.float32)
    answer = run(graph, out, 1, features=rows)
    expected = [1.0, at_threshold, 2.0, 1.0 if nan_left else 2.0]
    np.testing.assert_array_equal(answer[:, 0], 10.0 + np.array(expected))


def test_vector_leaves_add_to_all_targets_and_zeros_need_no_entry():
    graph = Graph()
    tree = Tree(
        column=np.array([0]),
        threshold=np.array([0.0], dtype=np.float32),
        left=np.array([-1]),
        right=np.array([-2]),
        nan_left=np.array([True]),
        leaf=np.array([[0.0, 3.0, 0.0], [0.0, 0.0, 0.0]]),
        targets=(0, 1, 2),
    )
    out = add_ensemble(graph, FEATURES, [tree, tree], np.array([1.0, 0, -1]), mode="BRANCH_LEQ")
    rows = np.array([[-1.0], [1.0]], dtype=np.float32)
    np.testing.assert_array_equal(
        run(graph, out, 3, features=rows), [[1.0, 6.0, -1.0], [1.0, 0.0, -1.0]]
    )


def test_a_target_that_no_tree_reaches_still_gets_its_base():
    graph = Graph()
    tree = stump(0, 0.0, 1.0, 2.0, nan_left=True)
    out = add_ensemble(graph, FEATURES, [tree], np.array([10.0, 20.0]), mode="BRANCH_LEQ")
    rows = np.array([[-1.0], [1.0]], dtype=np.float32)
    np.testing.assert_array_equal(run(graph, out, 2, features=rows), [[11, 20], [12, 20]])


@pytest.mark.parametrize("n_rows", [0, 1, 5])
def test_trees_without_splits_are_a_constant_of_every_length(n_rows):
    graph = Graph()
    empty = np.array([], dtype=np.int64)
    leaf = Tree(
        column=empty,
        threshold=empty.astype(np.float32),
        left=empty,
        right=empty,
        nan_left=empty.astype(bool),
        leaf=np.array([[0.25]]),
        targets=(1,),
    )
    out = add_ensemble(graph, FEATURES, [leaf, leaf], np.array([1.0, 2.0]), mode="BRANCH_LT")
    answer = run(graph, out, 2, features=np.zeros((n_rows, 3), dtype=np.float32))
    np.testing.assert_array_equal(answer, np.tile([1.0, 2.5], (n_rows, 1)).reshape(n_rows, 2))


@pytest.mark.parametrize(("missing", "rounding"), [("missing", "floor"), ("outside", "truncate")])
def test_membership_columns_answer_for_every_kind_of_code(missing, rounding):
    codes = np.array([0, 1, 2, 5, 6, 7, 1e30, -1, -0.5, -3, 1.7, np.nan, np.inf, -np.inf])
    sets = [(2, [1, 5]), (0, [0]), (2, [0, 2, 6]), (2, [])]
    tables = MembershipTables(3, missing=missing, rounding=rounding)
    asked = [tables.column(feature, np.array(members)) for feature, members in sets]
    assert tables.column(2, np.array([5, 1])) == asked[0], "equal sets share a column"
    graph = Graph()
    widened = tables.widen(graph, FEATURES)
    rows = np.column_stack([codes, np.full(len(codes), 9), codes]).astype(np.float32)
    answer = run(graph, widened, 3 + len(sets), features=rows)
    np.testing.assert_array_equal(answer[:, :3], rows)
    whole = np.floor(codes) if rounding == "floor" else np.trunc(codes)
    placed = tables.place(np.array(asked))
    assert sorted(placed) == [3, 4, 5, 6]
    for column, (_, members) in zip(placed, sets, strict=True):
        expected = np.isin(whole, members).astype(np.float32)
        if missing == "missing":
            expected[np.isnan(codes)] = np.nan
        np.testing.assert_array_equal(answer[:, column], expected)


def test_tables_that_would_outgrow_the_trees_are_refused():
    tables = MembershipTables(1, missing="outside", rounding="floor")
    tables.column(0, np.array([1 << 24]))
    with pytest.raises(UnsupportedModelError, match=r"tables of \d+ entries.*as numbers"):
        tables.widen(Graph(), FEATURES)


@given(
    limits=st.lists(finite, min_size=1, max_size=6, unique=True).map(sorted),
    others=st.lists(st.floats(width=64), min_size=1, max_size=6),
)
def test_ranks_decide_float64_values_exactly(limits, others):
    limits = np.unique(np.array(limits))
    values = np.concatenate([limits, np.nextafter(limits, np.inf), others])[:, None]
    graph = Graph()
    out = add_ranks(graph, EXACT, [limits])
    ranks = run(graph, out, 1, exact=values)[:, 0]
    np.testing.assert_array_equal(np.isnan(ranks), np.isnan(values[:, 0]))
    for index, limit in enumerate(limits):
        np.testing.assert_array_equal(ranks <= index, values[:, 0] <= limit)


def test_logistic_keeps_the_digits_of_small_probabilities():
    margin = np.linspace(-80, 80, 321, dtype=np.float32)[:, None]
    graph = Graph()
    out = add_logistic(graph, FEATURES, 0.5)
    expected = 1 / (1 + np.exp(-0.5 * margin.astype(np.float64)))
    np.testing.assert_allclose(run(graph, out, 1, features=margin), expected, rtol=1e-6)
    far = np.array([[-200.0], [200.0], [-np.inf]], dtype=np.float32)
    graph = Graph()
    out = add_logistic(graph, FEATURES)
    np.testing.assert_array_equal(run(graph, out, 1, features=far), [[0], [1], [0]])


def test_an_opset_before_13_is_refused():
    with pytest.raises(UnsupportedModelError, match=r"opset 13 or later.*got 12"):
        Graph(12)
