"""Row independence: what may be merged, told by graphs whose rows are known to meet or not to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper, parser

from infersdk._native import Session
from infersdk.errors import ClosedError, InputError, SessionError
from infersdk.options import Batching
from infersdk.runtime.row_independence import (
    REDUCED_PRECISION,
    Verdict,
    check,
    check_padding,
    first_words,
    why_no_batch_axis,
)
from infersdk.types import TensorSpec

BUDGET_S = 30.0
"""Enough on any machine: what time does is told by a clock of the tests' own."""


def session(text: str, **weights: np.ndarray) -> Session:
    model = parser.parse_model(
        f'<ir_version: 10, opset_import: ["": 21, "ai.onnx.ml": 3]> graph {text}'
    )
    for name, value in weights.items():
        model.graph.initializer.append(numpy_helper.from_array(value, name))
    return Session(model.SerializeToString(), name="tested")


def weights(*shape: int, seed: int = 0, dtype: str = "float32") -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def floats(n_rows: int, *shape: int) -> list[np.ndarray]:
    return [weights(n_rows, *shape, seed=n_rows)]


def mlp(axis: str) -> Session:
    return session(
        f"(float[{axis}, 3] x) => (float[{axis}, 2] y)"
        "{ h = Gemm(x, w1, b1) r = Relu(h) y = MatMul(r, w2) }",
        w1=weights(3, 8),
        b1=weights(8, seed=1),
        w2=weights(8, 2, seed=2),
    )


# -- rows that do not meet -----------------------------------------------------------------------

INDEPENDENT = {
    "softmax over features": "(float[b, 3] x) => (float[b, 3] y) { y = Softmax<axis = 1>(x) }",
    "argmax": "(float[b, 3] x) => (int64[b] y) { y = ArgMax<axis = 1, keepdims = 0>(x) }",
    "float16": "(float16[b, 3] x) => (float16[b, 3] y) { y = Softmax<axis = 1>(x) }",
    "float64": "(double[b, 3] x) => (double[b] y) { a = Constant<value_ints = [1]>() y = ReduceSum<keepdims = 0>(x, a) }",
    "whole numbers": "(int64[b, 3] x) => (int64[b, 3] y) { y = Mul(x, x) }",
    "one whole number": "(int64[b] x) => (int64[b] y) { y = Neg(x) }",
    "bools": "(bool[b, 2] x) => (bool[b, 2] y) { y = Not(x) }",
    "texts": "(string[b, 2] x) => (string[b, 2] y) { y = Identity(x) }",
    "not a number": "(float[b, 3] x) => (float[b, 3] y) { y = Log(x) }",
    "two inputs": "(float[b, 2] x, float[b, 1] z) => (float[b, 2] y, float[b, 1] w) { y = Mul(x, z) w = Neg(z) }",
    "a constant beside": (
        "(float[b, 2] x) => (float[b, 2] y, float[b, 2] zero) { y = Neg(x) zero = Sub(x, x) }"
    ),
    "a dynamic length": "(float[b, L] x) => (float[b, L] y) { y = Softmax<axis = 1>(x) }",
    "a length of at least 20": (
        "(float[b, L] x) => (float[b, 1] y)"
        "{ i = Constant<value_ints = [20]>() y = Gather<axis = 1>(x, i) }"
    ),
    "a threshold that few rows pass": (
        "(float[b, 1] x) => (bool[b, 1] y) { c = Constant<value_float = 12.0>() y = Greater(x, c) }"
    ),
}


@pytest.mark.parametrize("text", INDEPENDENT.values(), ids=INDEPENDENT)
@pytest.mark.parametrize("axis", ["batch", "N", "?"])
def test_rows_that_do_not_meet_may_share_a_run(text: str, axis: str) -> None:
    tested = session(text.replace("[b", f"[{axis}"))
    verdict = check(tested, None, budget_s=BUDGET_S)
    assert verdict.mergeable
    assert verdict.reason[0] in "2345"
    assert verdict.reason[1:] == " rows answered together as they did alone"


@pytest.mark.parametrize("axis", ["batch", "N", "?"])
@pytest.mark.parametrize("n_rows", [0, 1, 2, 3, 7, 500])
def test_the_examples_rows_are_tested(axis: str, n_rows: int) -> None:
    verdict = check(mlp(axis), floats(n_rows, 3), budget_s=BUDGET_S)
    assert verdict.mergeable
    n_tested = n_rows if 1 < n_rows < 5 else 5
    assert verdict.reason == f"{n_tested} rows answered together as they did alone"
    assert str(verdict) == f"may share a run: {verdict.reason}"


# -- rows that meet ------------------------------------------------------------------------------

DEPENDENT = {
    "softmax over the batch": "y = Softmax<axis = 0>(x)",
    "sum over the batch": "a = Constant<value_ints = [0]>() s = ReduceSum(x, a) y = Add(x, s)",
    "mean over the batch": "a = Constant<value_ints = [0]>() m = ReduceMean(x, a) y = Sub(x, m)",
    "maximum over everything": "m = ReduceMax<keepdims = 0>(x) y = Div(x, m)",
    "running sum": "a = Constant<value_int = 0>() y = CumSum(x, a)",
    "the batch turned around": (
        "s = Constant<value_ints = [-1]>() e = Constant<value_ints = [-1000]>()"
        "a = Constant<value_ints = [0]>() y = Slice(x, s, e, a, s)"
    ),
    "the number of rows": ("h = Shape<start = 0, end = 1>(x) f = Cast<to = 1>(h) y = Mul(x, f)"),
    "the best over the batch": (
        "i = ArgMax<axis = 0, keepdims = 1>(x) f = Cast<to = 1>(i) y = Add(x, f)"
    ),
    "a common scale of quantization": (
        "q, s, z = DynamicQuantizeLinear(x) y = DequantizeLinear(q, s, z)"
    ),
    "a share of the mean": (
        "a = Constant<value_ints = [0]>() m = ReduceMean(x, a) c = Constant<value_float = 0.01>()"
        "s = Mul(m, c) y = Sub(x, s)"
    ),
}


@pytest.mark.parametrize("body", DEPENDENT.values(), ids=DEPENDENT)
@pytest.mark.parametrize("axis", ["batch", "N", "?"])
@pytest.mark.parametrize(
    "rows", [None, *(floats(n, 3) for n in (1, 2, 20))], ids=["none", 1, 2, 20]
)
def test_rows_that_meet_may_not_whatever_the_axis_is_called(
    body: str, axis: str, rows: Any
) -> None:
    tested = session(f"(float[{axis}, 3] x) => (float[{axis}, 3] y) {{ {body} }}")
    verdict = check(tested, rows, budget_s=BUDGET_S)
    assert verdict == Verdict(False, "a row's output `y` depends on the rows beside it")
    assert str(verdict).startswith("may not share a run: ")


_ROW_WISE = ("Relu(a)", "Sigmoid(a)", "Softmax<axis = 1>(a)", "Add(a, x)", "MatMul(a, w)", "Neg(a)")


@given(
    steps=st.lists(st.sampled_from(_ROW_WISE), min_size=1, max_size=5),
    mixed=st.sampled_from(
        [None, "ReduceMean(a, zero)", "CumSum(a, zero0)", "Softmax<axis = 0>(a)"]
    ),
    place=st.integers(0, 5),
)
def test_one_step_that_mixes_rows_decides(steps: list[str], mixed: str | None, place: int) -> None:
    if mixed is not None:
        steps = [*steps[:place], mixed, *steps[place:]]
    body, last = "", "x"
    for i, step in enumerate(steps):
        # A share of what came before is added, so that no step hides it.
        body += f"s{i} = {step.replace('(a', f'({last}')} p{i} = Mul({last}, share) "
        body += f"v{i} = Add(s{i}, p{i}) "
        last = f"v{i}"
    tested = session(
        f"(float[b, 3] x) => (float[b, 3] y) {{ {body} y = Add({last}, x) }}",
        w=weights(3, 3),
        share=np.array(0.7, np.float32),
        zero=np.array([0]),
        zero0=np.array(0),
    )
    assert check(tested, None, budget_s=BUDGET_S).mergeable is (mixed is None)


@pytest.mark.parametrize(
    ("dtype", "share", "mergeable"),
    [
        ("float16", 1e-3, True),
        ("float16", 0.5, False),
        ("float", 1e-7, True),
        ("float", 1e-2, False),
        ("double", 1e-12, True),
        ("double", 1e-7, False),
    ],
)
def test_how_close_is_close_depends_on_the_dtype(dtype: str, share: float, mergeable: bool) -> None:
    numpy_dtype = {"float": "float32", "double": "float64"}.get(dtype, dtype)
    tested = session(
        f"({dtype}[b, 3] x) => ({dtype}[b, 3] y)"
        "{ m = ReduceMean(x, zero) s = Mul(m, share) y = Add(x, s) }",
        zero=np.array([0]),
        share=np.array(share, numpy_dtype),
    )
    assert check(tested, None, budget_s=BUDGET_S).mergeable is mergeable
    strict = {numpy_dtype: (0.0, 0.0)}
    assert not check(tested, None, budget_s=BUDGET_S, tolerances=strict).mergeable


def test_texts_that_are_split_into_as_many_words_as_the_longest_has() -> None:
    text = (
        '(string[b] x) => (string[b, K] y, int64[b] n) { y, n = StringSplit<delimiter = " ">(x) }'
    )
    verdict = check(session(text), None, budget_s=BUDGET_S)
    assert verdict == Verdict(False, "a row's output `y` depends on the rows beside it")


def test_steps_of_a_sequence_are_not_rows() -> None:
    # As PyTorch's recurrent layers have it by default: time first, the batch second.
    tested = session(
        "(float[time, 1, 3] x) => (float[time, 1, 1, 2] y) { y = RNN<hidden_size = 2>(x, w, r) }",
        w=weights(1, 2, 3),
        r=weights(1, 2, 2, seed=1),
    )
    verdict = check(tested, None, budget_s=BUDGET_S)
    assert verdict == Verdict(False, "a row's output `y` depends on the rows beside it")


class Rounding:
    """A session that rounds to ten bits when it is given more than one row, as a GPU may."""

    inputs = outputs = (TensorSpec("x", "float32", ("b", 3)),)

    def __init__(self, influence: float) -> None:
        self.influence = influence

    def run_ordered(self, inputs: Sequence[Any]) -> list[Any]:
        (x,) = inputs
        if len(x) > 1:
            x = (x.view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32)
        return [x + np.float32(self.influence) * x.mean(axis=0)]


def test_what_reduced_precision_allows_hides_no_influence() -> None:
    assert not check(Rounding(0), None, budget_s=BUDGET_S).mergeable
    allowed = REDUCED_PRECISION
    assert check(Rounding(0), None, budget_s=BUDGET_S, tolerances=allowed).mergeable
    assert not check(Rounding(2e-3), None, budget_s=BUDGET_S, tolerances=allowed).mergeable


def test_float64_made_of_float32_is_compared_as_float32() -> None:
    text = "(FLOAT[b, 64] x) => (double[b, 64] y) { h = MatMul(x, w) y = Cast<to = 11>(h) }"
    single = session(text.replace("FLOAT", "float"), w=weights(64, 64))
    x = weights(5, 64)
    together, alone = single.run_ordered([x])[0], single.run_ordered([x[:1]])[0]
    assert together.dtype == np.float64
    np.testing.assert_allclose(together[:1], alone, atol=1e-4)
    assert check(single, None, budget_s=BUDGET_S).mergeable


def test_batch_normalization_in_training_is_found() -> None:
    # ONNX Runtime even moves the running mean along in place, so that a row's answer depends on all
    # rows that came before.
    tested = session(
        "(float[b, 3] x) => (float[b, 3] y)"
        "{ y, m, v = BatchNormalization<training_mode = 1>(x, one, zero, mean, variance) }",
        one=np.ones(3, np.float32),
        zero=np.zeros(3, np.float32),
        mean=np.zeros(3, np.float32),
        variance=np.ones(3, np.float32),
    )
    verdict = check(tested, None, budget_s=BUDGET_S)
    assert not verdict.mergeable
    assert "depends on the rows beside it" in verdict.reason or "two runs" in verdict.reason


def test_random_answers_are_told_from_rows_that_meet() -> None:
    tested = session("(float[b, 3] x) => (float[b, 3] y) { y = RandomNormalLike(x) }")
    verdict = check(tested, None, budget_s=BUDGET_S)
    assert verdict == Verdict(False, "two runs of the same row give different answers")


@pytest.mark.parametrize("axis", ["b", "N"])
def test_a_size_that_is_written_into_the_graph_is_found(axis: str) -> None:
    tested = session(
        f"(float[{axis}, 4] x) => (float[{axis}, 4] y)"
        "{ n = IsNaN(x) c = Cast<to = 7>(n) z = ReduceMax<keepdims = 0>(c)"
        "  s = Add(shape, z) y = Reshape(x, s) }",
        shape=np.array([1, 4]),
    )
    verdict = check(tested, floats(5, 4), budget_s=BUDGET_S)
    assert not verdict.mergeable
    assert "rows that run alone do not run together" in verdict.reason
    assert "\n" not in verdict.reason


# -- axes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other", "is_axis"),
    [
        ("unk__1", "unk__2", True),
        ("p2o.DynamicDimension.0", "p2o.DynamicDimension.7", True),
        ("unk__1", "batch", True),
        ("unk", "batch", False),
    ],
)
def test_names_that_an_exporter_made_up_say_nothing(one: str, other: str, is_axis: bool) -> None:
    tested = Fake(
        inputs=(TensorSpec("x", "float32", (one, 3)),),
        outputs=(TensorSpec("y", "float32", (other, 3)),),
    )
    assert (why_no_batch_axis(tested) is None) == is_axis


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("(float[1, 3] x) => (float[1, 3] y) { y = Neg(x) }", "axis 0 of input `x` has the fixed size 1"),
        ("(float[b, 3] x, float[3] z) => (float[b, 3] y) { y = Add(x, z) }", "axis 0 of input `z`"),
        ("(float[b, 3] x) => (float y) { y = ReduceSum<keepdims = 0>(x) }", "output `y` is a single number"),
        ("(float[b, 3] x) => (float[3] y) { a = Constant<value_ints = [0]>() y = ReduceSum<keepdims = 0>(x, a) }", "axis 0 of output `y` has the fixed size 3"),
        ("(float[b, 3] x, float z) => (float[b, 3] y) { y = Add(x, z) }", "input `z` is a single number"),
        ("() => (float[b] y) { y = Constant<value_floats = [1.0]>() }", "the graph has no inputs"),
        ("(float[b, 3] x, float[c, 3] z) => (float[b, 3] y, float[c, 3] w) { y = Neg(x) w = Neg(z) }", "axis 0 is named `b` in input `x` and `c` in input `z`"),
        ("(float[N, 3] x) => (float[M, 3] y) { y = Neg(x) }", "axis 0 is named `N` in input `x` and `M` in output `y`"),
        ("(float[N, 3] x) => (int64[2, K] y) { y = NonZero(x) }", "axis 0 of output `y` has the fixed size 2"),
        ("(seq(float[b]) x) => (float[b] y) { y = ConcatFromSequence<axis = 0>(x) }", "input `x` is not a tensor but a sequence"),
        ("(int64[b, 1] x) => (int64[b, 1] y, seq(int64[b]) s) { y = Neg(x) s = SequenceConstruct(x) }", "output `s` is not a tensor"),
        ("(float[b, 2] x) => (seq(map(int64, float)) y) { y = ai.onnx.ml.ZipMap<classlabels_int64s = [0, 1]>(x) }", "output `y` is not a tensor but a sequence of map"),
    ],
)  # fmt: skip
def test_without_one_batch_axis_nothing_is_tried(text: str, reason: str) -> None:
    tested = session(text)
    missing = why_no_batch_axis(tested)
    assert missing is not None
    assert reason in missing
    assert check(tested, None, budget_s=BUDGET_S) == Verdict(False, missing)


def test_an_unknown_rank_has_no_batch_axis() -> None:
    tested = Fake(outputs=(TensorSpec("y", "float32", None),))
    assert why_no_batch_axis(tested) == "output `y` has an unknown number of axes"


def test_axes_without_a_name_may_be_the_named_one() -> None:
    tested = session("(float[b, 3] x, float[?, 3] z) => (float[?, 3] y) { y = Add(x, z) }")
    assert why_no_batch_axis(tested) is None
    assert check(tested, None, budget_s=BUDGET_S).mergeable


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        # Found in the batch, not made of it: as many columns as non-zeros, rows as axes.
        ("(float[?, 3] x) => (int64[?, ?] y) { n = NonZero(x) y = Identity(n) }", "output `y` has "),
        ("(float[?] x) => (float[?] y) { y = Unique(x) }", "depends on the rows beside it"),
        ("(float[?] x) => (float[?] y) { y = Concat<axis = 0>(x, x) }", "output `y` has shape (2,) for 1 row"),
        (
            "(float[?] x) => (float[?] y) { t = Constant<value_ints = [3]>() o = Constant<value = bool {1}>()"
            "  y = Loop(t, o) <body = loop (int64 i, bool c) => (bool again, float[?] z)"
            "  { again = Identity(c) z = Identity(x) }> }",
            "output `y`",
        ),
    ],
    ids=["NonZero", "Unique", "Concat", "Loop"],
)  # fmt: skip
def test_a_first_axis_that_is_not_the_batch_is_found(text: str, reason: str) -> None:
    try:
        tested = session(text)
    except SessionError as error:
        pytest.skip(f"this ONNX Runtime refuses the graph: {error}")
    verdict = check(tested, None, budget_s=BUDGET_S)
    assert not verdict.mergeable
    assert reason in verdict.reason or reason in (why_no_batch_axis(tested) or "")


# -- a test that proves nothing ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "rows", "reason"),
    [
        ("(float[b, 3] x) => (float[b, 3] y) { y = Sub(x, x) }", None, "all have the same answer"),
        ("(float[b, 3] x) => (float[b, 3] y) { y = Sub(x, x) }", floats(9, 3), "same answer"),
        (
            "(int64[b, 1] x) => (float[b, 1, 2] y) { o = Constant<value_int = 9>() i = Add(x, o) y = Gather(w, i) }",
            None,
            "the rows to test with did not run",
        ),
        ("(float[b, 0] x) => (float[b, 0] y) { y = Neg(x) }", None, "no distinct rows"),
    ],
    ids=["equal", "equal examples", "out of range", "empty"],
)
def test_a_test_that_proves_nothing_leaves_the_axis_name_to_decide(
    text: str, rows: Any, reason: str
) -> None:
    foreign = check(session(text, w=weights(3, 2)), rows, budget_s=BUDGET_S)
    assert not foreign.mergeable
    assert foreign.reason.startswith("nothing shows that its rows are independent: ")
    assert reason in foreign.reason
    ours = check(session(text.replace("[b", "[N"), w=weights(3, 2)), rows, budget_s=BUDGET_S)
    assert ours.mergeable
    assert ours.reason.startswith("the conversion proved its rows independent; ")
    assert reason in ours.reason


def test_an_example_runs_where_made_up_rows_do_not() -> None:
    text = (
        "(int64[b, 1] x) => (float[b, 1, 2] y)"
        "{ o = Constant<value_int = 9>() i = Sub(x, o) y = Gather(w, i) }"
    )
    tested = session(text, w=weights(3, 2))
    rows = [np.array([[9], [10], [11]])]
    assert check(tested, rows, budget_s=BUDGET_S).mergeable
    assert not check(tested, rows, budget_s=0).mergeable


def test_repeated_rows_are_counted_once() -> None:
    fake = Fake()
    rows = [np.repeat(floats(2, 3)[0], 10, axis=0)]
    assert check(fake, rows, budget_s=1.0).reason == "2 rows answered together as they did alone"


# -- time ----------------------------------------------------------------------------------------


@dataclass
class Fake:
    """A session whose rows are independent and cost what the test says, on a clock of its own."""

    inputs: tuple[Any, ...] = (TensorSpec("x", "float32", ("b", 3)),)
    outputs: tuple[Any, ...] = (TensorSpec("y", "float32", ("b", 3)),)
    first_run_s: float = 0.0
    row_s: float = 0.0
    now: float = 100.0
    sizes: list[int] = field(default_factory=list)

    def run_ordered(self, inputs: Sequence[Any]) -> list[Any]:
        self.now += self.row_s * len(inputs[0]) + (0 if self.sizes else self.first_run_s)
        self.sizes.append(len(inputs[0]))
        return [-inputs[0]]

    def clock(self) -> float:
        return self.now


def test_rows_run_alone_together_in_other_orders_and_beside_others() -> None:
    fake = Fake()
    assert check(fake, floats(9, 3), clock=fake.clock).mergeable
    assert fake.sizes == [1, 1, 2, 1, 1, 1, 5, 7, 2, 5, 5]


@given(row_s=st.floats(1e-6, 0.3), budget_s=st.floats(1e-3, 0.5), first_run_s=st.floats(0, 3))
def test_the_test_ends_in_time(row_s: float, budget_s: float, first_run_s: float) -> None:
    fake = Fake(row_s=row_s, first_run_s=first_run_s)
    verdict = check(fake, floats(9, 3), budget_s=budget_s, clock=fake.clock)
    # A second run is always made: the first tells nothing about those that follow.
    assert fake.now - 100 <= first_run_s + row_s + max(budget_s, row_s) + 1e-6
    assert verdict.mergeable is (2 in fake.sizes)
    if not verdict.mergeable:
        assert "raise Execution.calibration_s to" in verdict.reason


def test_raising_the_time_as_told_is_enough() -> None:
    fake = Fake(row_s=0.06)
    verdict = check(fake, None, budget_s=0.1, clock=fake.clock)
    assert "a row takes 0.06 s, too long" in verdict.reason
    named_s = float(verdict.reason.split()[-1])
    fake = Fake(row_s=0.06)
    assert check(fake, None, budget_s=named_s / 2, clock=fake.clock).mergeable


def test_without_time_nothing_runs() -> None:
    fake = Fake()
    verdict = check(fake, None, budget_s=0, clock=fake.clock)
    assert fake.sizes == []
    assert not verdict.mergeable
    assert "Execution.calibration_s is 0" in verdict.reason
    named = (TensorSpec("x", "float32", ("N", 3)),)
    assert check(Fake(inputs=named, outputs=named), None, budget_s=0).mergeable


def test_a_closed_session_says_so() -> None:
    tested = mlp("b")
    tested.close()
    with pytest.raises(ClosedError):
        check(tested, None)


# -- filling up ----------------------------------------------------------------------------------


def attention(masked: bool = True) -> Session:
    """One attention layer over tokens, with what each token and what the whole text becomes."""
    weigh = "Add(scores, blocked)" if masked else "Identity(scores)"
    return session(
        f"""(int64[N, L] ids, int64[N, L] mask) => (float[N, L, 4] tokens, float[N, 4] text)
        {{
            e = Gather(embedding, ids)
            q = MatMul(e, wq)
            k = MatMul(e, wk)
            t = Transpose<perm = [0, 2, 1]>(k)
            scores = MatMul(q, t)
            m = Cast<to = 1>(mask)
            m1 = Unsqueeze(m, one)
            off = Sub(unit, m1)
            blocked = Mul(off, much)
            s = {weigh}
            p = Softmax<axis = -1>(s)
            tokens = MatMul(p, e)
            m2 = Unsqueeze(m, two)
            kept = Mul(tokens, m2)
            total = ReduceSum<keepdims = 0>(kept, one)
            n = ReduceSum(m, one)
            text = Div(total, n)
        }}""",
        embedding=weights(7, 4),
        wq=weights(4, 4, seed=1),
        wk=weights(4, 4, seed=2),
        one=np.array([1]),
        two=np.array([2]),
        unit=np.array(1, np.float32),
        much=np.array(-1e9, np.float32),
    )


def texts() -> list[np.ndarray]:
    ids = np.random.default_rng(3).integers(1, 7, (4, 6))
    mask = np.arange(6) < np.array([[6], [4], [2], [5]])
    return [ids * mask, mask.astype(np.int64)]


@pytest.mark.parametrize("rows", [None, texts()], ids=["made up", "texts"])
def test_rows_of_a_masked_transformer_may_be_filled_up(rows: Any) -> None:
    tested = attention()
    assert check(tested, rows, budget_s=BUDGET_S).mergeable
    for fill in (0, {"ids": 0, "mask": 0}, {"ids": 5, "mask": False}):
        verdicts = check_padding(tested, rows, Batching(pad={"L": fill}), budget_s=BUDGET_S)
        assert verdicts == {
            "L": Verdict(True, "rows filled up along axis `L` answered as they did before")
        }


@pytest.mark.parametrize("rows", [None, texts()], ids=["made up", "texts"])
def test_rows_that_notice_being_filled_up_are_left_alone(rows: Any) -> None:
    unmasked = check_padding(
        attention(masked=False), rows, Batching(pad={"L": 0}), budget_s=BUDGET_S
    )
    seen = check_padding(
        attention(), rows, Batching(pad={"L": {"ids": 0, "mask": 1}}), budget_s=BUDGET_S
    )
    for verdicts in (unmasked, seen):
        assert not verdicts["L"].mergeable
        assert "of a row filled up along axis `L` is another one" in verdicts["L"].reason


@pytest.mark.parametrize(
    ("text", "fill", "mergeable"),
    [
        ("(float[b, L] x) => (float[b, L] y) { y = Neg(x) }", 0.0, True),
        ("(float[b, L] x) => (float[b, L] y) { y = Neg(x) }", float("nan"), True),
        ("(string[b, L] x) => (string[b, L] y) { y = Identity(x) }", "", True),
        ("(float[b, L] x) => (float[b, 1] y) { y = ReduceSum(x, one) }", 0, True),
        ("(float[b, L] x) => (float[b, 1] y) { y = ReduceMean(x, one) }", 0, False),
        ("(float[b, L] x) => (float[b, 1] y) { y = ReduceMax(x, one) }", float("-inf"), True),
        ("(float[b, L] x) => (float[b, 1] y) { y = ReduceMax(x, one) }", 0, False),
        ("(float[b, L] x) => (float[b, 1] y) { y = ReduceMin(x, one) }", 0, False),
        ("(float[b, L] x) => (float[b, 1] y) { r = Relu(x) y = ReduceMax(r, one) }", 0, True),
        # Cut back, the last of the answers would be missing, and the fill there instead.
        ("(float[b, L] x) => (float[b, L] y) { y = Slice(x, last, far, one, last) }", 0, False),
        # The output's axis has no name, so that nobody knows where to cut.
        ("(float[b, L] x) => (float[b, M] y) { y = Neg(x) }", 0, False),
        ("(float[b, L, 2] x, float[b, L] z) => (float[b, 2] y) { u = Unsqueeze(z, two) p = Mul(x, u) y = ReduceSum<keepdims = 0>(p, one) }", 0, True),
        ("(float[b, L] x) => (float[c, L] y) { y = Neg(x) }", 0, False),
    ],
)  # fmt: skip
def test_filling_up_is_tried(text: str, fill: Any, mergeable: bool) -> None:
    tested = session(
        text, one=np.array([1]), two=np.array([2]), last=np.array([-1]), far=np.array([-1000])
    )
    verdicts = check_padding(tested, None, Batching(pad={"L": fill}), budget_s=BUDGET_S)
    assert {axis: verdict.mergeable for axis, verdict in verdicts.items()} == {"L": mergeable}


def test_a_length_that_the_graph_was_made_for_is_found() -> None:
    tested = session("(float[b, L] x) => (float[b, L] y) { y = Add(x, w) }", w=weights(1, 4))
    verdict = check_padding(tested, floats(3, 4), Batching(pad={"L": 0}), budget_s=BUDGET_S)["L"]
    assert not verdict.mergeable
    assert "rows filled up along axis `L` do not run" in verdict.reason


def test_each_axis_has_its_own_verdict() -> None:
    tested = session(
        "(float[b, L] x, float[b, K] z) => (float[b, 1] y, float[b, 1] w)"
        "{ y = ReduceSum(x, one) w = ReduceMean(z, one) }",
        one=np.array([1]),
    )
    verdicts = check_padding(tested, None, Batching(pad={"L": 0, "K": 0}), budget_s=BUDGET_S)
    assert verdicts["L"].mergeable
    assert not verdicts["K"].mergeable
    assert check_padding(tested, None, Batching()) == {}


@pytest.mark.parametrize(
    ("pad", "complaint"),
    [
        ({"length": 0}, "names axis `length`; .* by name: `L`"),
        ({"b": 0}, "names axis `b`"),
        ({"L": {"ids": 0}}, r"a fill value for each input with that axis \(ids, mask\), got ids"),
        ({"L": {"ids": 0, "mask": 0, "x": 0}}, "got ids, mask, x"),
        ({"L": "a"}, "must be of dtype int64 for input `ids`, got 'a'"),
        ({"L": 0.5}, "must be of dtype int64 for input `ids`, got 0.5"),
        ({"L": float("nan")}, "must be of dtype int64 for input `ids`, got nan"),
        ({"L": None}, "must be of dtype int64 for input `ids`, got None"),
    ],
)
def test_a_fill_that_does_not_fit_is_refused(pad: Any, complaint: str) -> None:
    tested = session(
        "(int64[b, L] ids, float[b, L] mask) => (int64[b, L] y, float[b, L] z)"
        "{ y = Neg(ids) z = Neg(mask) }"
    )
    with pytest.raises(ValueError, match=complaint):
        check_padding(tested, None, Batching(pad=pad))


@given(row_s=st.floats(1e-6, 0.3), budget_s=st.floats(1e-3, 0.5))
def test_filling_up_is_tested_in_time(row_s: float, budget_s: float) -> None:
    specs = (TensorSpec("x", "float32", ("b", "L")),)
    fake = Fake(inputs=specs, outputs=specs, row_s=row_s)
    batching = Batching(pad={"L": 0})
    verdict = check_padding(fake, floats(9, 3), batching, budget_s=budget_s, clock=fake.clock)["L"]
    assert fake.now - 100 <= row_s + max(budget_s, row_s) + 1e-6
    assert verdict.mergeable is (fake.sizes == [1, 1, 1, 3, 4])
    if not verdict.mergeable:
        assert "too long" in verdict.reason
    nothing = check_padding(fake, None, batching, budget_s=0)["L"]
    assert nothing == Verdict(False, "the test was switched off (Execution.calibration_s is 0)")


def test_a_run_that_fails_after_the_first_is_told_in_one_line() -> None:
    class Moody(Fake):
        def run_ordered(self, inputs: Sequence[Any]) -> list[Any]:
            if self.sizes:
                raise InputError("no more\nthan one")
            return super().run_ordered(inputs)

    verdict = check(Moody(), floats(9, 3))
    assert verdict.reason.endswith("the rows to test with did not run: no more")
    assert first_words(SessionError("x" * 500)) == "x" * 197 + "..."
    assert first_words(SessionError("")) == "SessionError"
