"""The native plan: what is merged, what is not and why, and that every answer is the source model's own."""

from __future__ import annotations

import asyncio
import os
import pickle
import re
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import infersdk
from infersdk import (
    Batching,
    ClosedError,
    DeadlineError,
    Execution,
    InputError,
    OverloadedError,
    Predictor,
)
from infersdk.convert.conversion import Conversion
from infersdk.types import Field, Method, Plan, Signature

WAIT_S = 30
MERGE = Batching(enabled=True, max_batch_size=64)


class Model:
    """Sums its rows; a test may hold its next call, and give it other methods."""

    def __init__(self, **methods: Callable[[Any], Any]) -> None:
        self.methods = {"predict": lambda rows: rows.sum(axis=1), **methods}
        self.sizes: list[int] = []
        self.held = False
        self.entered = threading.Event()
        self.opened = threading.Event()

    def answer(self, method: str, rows: Any) -> Any:
        self.sizes.append(len(rows))
        if self.held and not self.entered.is_set():
            self.entered.set()
            assert self.opened.wait(WAIT_S)
        return self.methods[method](rows)


class ModelConverter:
    FRAMEWORK = "Model"

    def call(self, model: Model, method: str, rows: Any) -> Any:
        return model.answer(method, rows)


def served(
    model: Model,
    example: Any = None,
    *,
    batching: Batching = MERGE,
    execution: Execution | None = None,
    **signature: Any,
) -> Predictor:
    fields = tuple(Field(name, "float", "numbers", i) for i, name in enumerate("ab"))
    methods = tuple(Method(name, ()) for name in model.methods)
    given = {"fields": fields, "container": "array", **signature}
    conversion = Conversion(
        Plan("native", "by hand"),
        Signature((), (), methods, **given),
        None,
        None,
        model,
        ModelConverter(),  # type: ignore[arg-type]
        "sums",
    )
    # A test of what is decided must not run out of time on a busy machine.
    execution = execution or Execution(calibration_s=2)
    return Predictor(conversion, batching=batching, execution=execution, example=example)


EXAMPLE = np.random.default_rng(0).normal(size=(40, 2))


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(64) as threads:
        yield threads


def hold(pool: ThreadPoolExecutor, model: Model, predictor: Predictor, row: Any) -> Any:
    """Occupy the model with a call of that row."""
    model.sizes.clear()
    model.held = True
    first = pool.submit(predictor.predict, row)
    assert model.entered.wait(WAIT_S)
    return first


def queued(predictor: Predictor, n_rows: int) -> None:
    """Wait until that many rows wait."""
    pause = threading.Event()
    for _ in range(1000 * WAIT_S):
        if predictor.queue_stats()["queued_rows"] == n_rows:
            return
        pause.wait(0.001)
    raise AssertionError(predictor.queue_stats())


# -- what is decided -------------------------------------------------------------------------------


def test_independent_rows_share_a_call(pool: ThreadPoolExecutor) -> None:
    model = Model()
    predictor = served(model, EXAMPLE)
    calibration = predictor.calibration
    assert calibration.mergeable
    assert calibration.path == "batched"
    assert (calibration.max_batch_size, calibration.instances) == (64, 1)
    assert [point.rows for point in calibration.curve][:4] == [1, 2, 4, 8]
    assert calibration.reason.startswith("the model runs in its own framework; a row takes")
    first = hold(pool, model, predictor, EXAMPLE[0])
    rest = [pool.submit(predictor.predict, row) for row in EXAMPLE[1:31]]
    rest.append(pool.submit(predictor.predict, EXAMPLE[31:40]))
    queued(predictor, 39)
    model.opened.set()
    answers = np.concatenate([future.result(WAIT_S) for future in (first, *rest)])
    np.testing.assert_array_equal(answers, EXAMPLE.sum(axis=1))
    assert model.sizes == [1, 39]


def centered(rows: Any) -> Any:
    return (rows - rows.mean(axis=0)).sum(axis=1)


def random(rows: Any) -> Any:
    return np.random.default_rng().normal(size=len(rows))


def raises_together(rows: Any) -> Any:
    if len(rows) > 1:
        raise RuntimeError("one at a time, please")
    return rows.sum(axis=1)


@pytest.mark.parametrize(
    ("predict", "example", "options", "reason"),
    [
        (centered, EXAMPLE, {}, "depends on the rows beside it"),
        (random, EXAMPLE, {}, "two runs of the same row give different answers"),
        (raises_together, EXAMPLE, {}, "do not run together: one at a time, please"),
        (lambda rows: rows.sum(), EXAMPLE, {}, "a float64 has no rows|answer to one row has shape"),
        (lambda rows: None, EXAMPLE, {}, "is not answered as rows are"),
        (lambda rows: rows.T, EXAMPLE, {}, r"answer to one row has shape \(2, 1\)"),
        (lambda rows: np.zeros(len(rows)), EXAMPLE, {}, "all have the same answer"),
        (None, None, {}, "as there was no example; pass example= to load"),
        (None, EXAMPLE[:1], {}, "nothing shows that its rows are independent"),
        (None, EXAMPLE, {"batching": Batching.off()}, "batching is switched off"),
        (
            None,
            EXAMPLE,
            {"execution": Execution(calibration_s=0)},
            r"switched off \(Execution.calibration_s is 0\)",
        ),
    ],
)
def test_otherwise_each_call_is_its_own(
    predict: Any, example: Any, options: dict[str, Any], reason: str
) -> None:
    model = Model() if predict is None else Model(predict=predict)
    predictor = served(model, example, **options)
    assert not predictor.calibration.mergeable
    assert predictor.calibration.max_batch_size == 1
    calibration = str(predictor.calibration)
    assert re.search(reason, calibration), calibration
    model.sizes.clear()
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(predictor.predict, EXAMPLE))
    assert set(model.sizes) == {1}
    assert predictor.queue_stats() == {}


def test_what_is_quick_needs_no_queue() -> None:
    predictor = served(Model(), EXAMPLE, batching=Batching())
    assert predictor.calibration.mergeable
    assert predictor.calibration.path == "inline"
    np.testing.assert_array_equal(predictor.predict(EXAMPLE), EXAMPLE.sum(axis=1))
    assert predictor.queue_stats() == {}


def test_each_method_is_tested_for_itself(pool: ThreadPoolExecutor) -> None:
    model = Model(transform=centered, predict_proba=lambda rows: np.exp(rows))
    predictor = served(model, EXAMPLE)
    model.sizes.clear()
    with ThreadPoolExecutor(16) as many:
        for method, expected in (
            ("predict_proba", np.exp(EXAMPLE)),
            ("transform", 0 * EXAMPLE[:, 0]),
        ):
            answers = list(many.map(getattr(predictor, method), EXAMPLE))
            np.testing.assert_array_equal(np.concatenate(answers), expected)
    first = hold(pool, model, predictor, EXAMPLE[0])
    methods = [predictor.predict_proba, predictor.predict] * 5
    rest = [pool.submit(method, EXAMPLE[i]) for i, method in enumerate(methods)]
    queued(predictor, 10)
    assert predictor.transform(EXAMPLE[3]).tolist() == [0]  # does not wait
    model.opened.set()
    assert first.result(WAIT_S).tolist() == [EXAMPLE[0].sum()]
    for i, future in enumerate(rest):
        expected = EXAMPLE[i].sum() if i % 2 else np.exp(EXAMPLE[i])
        np.testing.assert_array_equal(future.result(WAIT_S)[0], expected)
    assert sorted(model.sizes) == [1, 1, 5, 5]


@pytest.mark.parametrize(
    "predict",
    [
        lambda rows: (rows.sum(axis=1), {"two": rows * 2}),
        lambda rows: [rows[:, :1], rows[:, 1:]],
        lambda rows: [f"{row[0]:.3f}" for row in rows],
        lambda rows: np.array([f"{row[0]:.{3 + (row[1] > 0)}f}" for row in rows]),
        lambda rows: pytest.importorskip("scipy.sparse").csr_matrix(rows),
        lambda rows: pytest.importorskip("pandas").DataFrame(rows, columns=["x", "y"]),
        lambda rows: np.array([{"a": row[0]} for row in rows]),
    ],
)
def test_answers_of_every_form_are_cut(pool: ThreadPoolExecutor, predict: Any) -> None:
    model = Model(predict=predict)
    predictor = served(model, EXAMPLE)
    assert predictor.calibration.mergeable, predictor.calibration
    first = hold(pool, model, predictor, EXAMPLE[0])
    rest = [pool.submit(predictor.predict, EXAMPLE[i : i + 1 + i % 3]) for i in range(20)]
    queued(predictor, sum(1 + i % 3 for i in range(20)))
    model.opened.set()
    first.result(WAIT_S)
    for i, future in enumerate(rest):
        assert described(future.result(WAIT_S)) == described(predict(EXAMPLE[i : i + 1 + i % 3]))
    assert len(model.sizes) == 2


def described(answer: Any) -> Any:
    """All there is to an answer, to be compared."""
    if isinstance(answer, dict):
        return {key: described(part) for key, part in answer.items()}
    if isinstance(answer, (list, tuple)):
        return [type(answer), *map(described, answer)]
    if hasattr(answer, "iloc"):
        return type(answer), answer.to_dict(), list(answer.index)
    if hasattr(answer, "toarray"):
        return type(answer), answer.toarray().tolist()
    if isinstance(answer, np.ndarray):
        kind = "U" if answer.dtype.kind == "U" else answer.dtype
        return kind, answer.shape, answer.tolist()
    return answer


def test_rows_that_come_later_are_studied_then(source: Any) -> None:
    predictor = served(Model())
    assert not predictor.calibration.mergeable
    predictor.warm_up(EXAMPLE[0])
    assert not predictor.calibration.mergeable
    assert predictor.warm_up(EXAMPLE).mergeable
    # What was found on many rows is not given up for one.
    assert predictor.warm_up(EXAMPLE[0]).mergeable


# -- calls that are merged -------------------------------------------------------------------------


def sums_of_good_rows(rows: Any) -> Any:
    if (rows[:, 0] == 666).any():
        raise ArithmeticError("the number of the beast", len(rows))
    return rows.sum(axis=1)


@pytest.mark.parametrize("bad", [0, 1, 13, 30, 31])
def test_one_bad_row_fails_alone(pool: ThreadPoolExecutor, bad: int) -> None:
    model = Model(predict=sums_of_good_rows)
    predictor = served(model, EXAMPLE)
    first = hold(pool, model, predictor, EXAMPLE[0])
    rows = EXAMPLE[:32].copy()
    rows[bad, 0] = 666
    rest = [pool.submit(predictor.predict, row) for row in rows]
    queued(predictor, 32)
    with pytest.raises(InputError, match="`b`"):
        predictor.predict({"a": 1.0})  # refused before it is queued
    model.opened.set()
    assert first.result(WAIT_S).tolist() == [EXAMPLE[0].sum()]
    for i, future in enumerate(rest):
        if i == bad:
            error = future.exception(WAIT_S)
            assert type(error) is ArithmeticError
            assert error.args == ("the number of the beast", 1)
        else:
            np.testing.assert_array_equal(future.result(WAIT_S), rows[i : i + 1].sum(axis=1))
    assert 32 in model.sizes


def test_deadlines_and_overload(pool: ThreadPoolExecutor) -> None:
    model = Model()
    batching = Batching(enabled=True, max_batch_size=64, max_queue_size=4)
    predictor = served(model, EXAMPLE, batching=batching)
    first = hold(pool, model, predictor, EXAMPLE[0])
    with pytest.raises(DeadlineError, match="sums"):
        predictor.predict(EXAMPLE[1], timeout_s=0.01)
    with pytest.raises(DeadlineError, match="sums"):
        asyncio.run(predictor.apredict(EXAMPLE[1], timeout_s=0.01))
    rest = [pool.submit(predictor.predict, row) for row in EXAMPLE[1:5]]
    queued(predictor, 4)
    with pytest.raises(OverloadedError, match="`sums` is overloaded"):
        predictor.predict(EXAMPLE[5])
    with pytest.raises(OverloadedError):
        asyncio.run(predictor.apredict(EXAMPLE[5]))
    model.opened.set()
    answers = np.concatenate([future.result(WAIT_S) for future in (first, *rest)])
    np.testing.assert_array_equal(answers, EXAMPLE[:5].sum(axis=1))


@pytest.mark.parametrize("merging", [True, False])
def test_tasks_and_cancellations(pool: ThreadPoolExecutor, merging: bool) -> None:
    model = Model()
    predictor = served(model, EXAMPLE if merging else None)
    rows = np.random.default_rng(1).normal(size=(65, 2))

    async def main() -> list[Any]:
        tasks = [asyncio.create_task(predictor.apredict(rows[0]))]
        assert await asyncio.to_thread(model.entered.wait, WAIT_S)
        tasks += [asyncio.create_task(predictor.apredict(row)) for row in rows[1:]]
        await asyncio.sleep(0)
        for task in tasks[1::4]:
            task.cancel()
        await asyncio.sleep(0)
        model.opened.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    model.sizes.clear()
    model.held = True
    for i, answer in enumerate(asyncio.run(main())):
        if i % 4 == 1:
            assert isinstance(answer, asyncio.CancelledError)
        else:
            np.testing.assert_array_equal(answer, rows[i : i + 1].sum(axis=1))
    if merging:
        assert model.sizes == [1, 48]
        assert predictor.queue_stats()["cancelled"] == 16
    else:
        assert set(model.sizes) == {1}
    assert predictor._executor is None  # the queue's own threads do


def test_awaited_calls_end_as_others_do(pool: ThreadPoolExecutor) -> None:
    for example in (EXAMPLE, None):
        predictor = served(Model(predict=sums_of_good_rows), example)

        async def main(predictor: Predictor = predictor) -> list[Any]:
            calls = [predictor.apredict(row) for row in ([1.0, 2.0], [666.0, 1.0], {"a": 1.0})]
            calls.append(predictor.apredict(np.ones((300, 2)), method="predict"))
            return await asyncio.gather(*calls, return_exceptions=True)

        good, bad, unfit, large = asyncio.run(main())
        assert good.tolist() == [3.0]
        assert type(bad) is ArithmeticError
        assert isinstance(unfit, InputError)
        assert large.tolist() == [2.0] * 300
        with pytest.raises(AttributeError, match="no method `transform`"):
            asyncio.run(predictor.apredict([1.0, 2.0], method="transform"))


@pytest.mark.parametrize("merging", [True, False])
def test_closing_while_busy(pool: ThreadPoolExecutor, merging: bool) -> None:
    model = Model()
    predictor = served(model, EXAMPLE if merging else None)
    futures = [hold(pool, model, predictor, EXAMPLE[0])]
    if merging:
        futures += [pool.submit(predictor.predict, row) for row in EXAMPLE[1:20]]
        queued(predictor, 19)
    closing = pool.submit(predictor.close)
    assert not closing.done()
    model.opened.set()
    closing.result(WAIT_S)
    answers = np.concatenate([future.result(0) for future in futures])
    np.testing.assert_array_equal(answers, EXAMPLE[: len(futures)].sum(axis=1))
    with pytest.raises(ClosedError, match="Model `sums` is closed; load it again"):
        predictor.predict(EXAMPLE[0])
    with pytest.raises(ClosedError, match="Model `sums` is closed"):
        asyncio.run(predictor.apredict(EXAMPLE[0]))
    with pytest.raises(ClosedError):
        predictor.warm_up(EXAMPLE)
    predictor.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork")
def test_a_child_of_a_fork(pool: ThreadPoolExecutor) -> None:
    model = Model()
    predictor = served(model, EXAMPLE)
    first = hold(pool, model, predictor, EXAMPLE[0])
    second = pool.submit(predictor.predict, EXAMPLE[1])
    queued(predictor, 1)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            model.held = False
            with ThreadPoolExecutor(8) as own:
                answers = np.concatenate(list(own.map(predictor.predict, EXAMPLE)))
            fine = np.array_equal(answers, EXAMPLE.sum(axis=1))
            fine &= asyncio.run(predictor.apredict([1.0, 2.0])).tolist() == [3.0]
            predictor.close()  # waits for none of the parent's calls
            status = 0 if fine else 2
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    model.opened.set()
    answers = np.concatenate([first.result(WAIT_S), second.result(WAIT_S)])
    np.testing.assert_array_equal(answers, EXAMPLE[:2].sum(axis=1))


def test_rows_of_other_dtypes_do_not_meet(pool: ThreadPoolExecutor) -> None:
    """A column with a missing value is of another dtype, and a model may tell."""
    pandas = pytest.importorskip("pandas")

    def predict(rows: Any) -> Any:
        return np.array([f"{rows.dtypes['a']} {value}" for value in rows["a"]], dtype=object)

    example = pandas.DataFrame({"a": [1, 2, 3, 4]})
    field = Field("a", "int", "numbers", missing="nan", source_dtype="int64")
    model = Model(predict=predict)
    predictor = served(model, example, fields=(field,), container="dataframe")
    assert predictor.calibration.mergeable, predictor.calibration
    first = hold(pool, model, predictor, {"a": 1})
    rows = [{"a": 1}, {"a": None}, {"a": 3}, {"a": float("nan")}, {"a": 5}]
    rest = [pool.submit(predictor.predict, row) for row in rows]
    queued(predictor, 5)
    model.opened.set()
    answers = [future.result(WAIT_S)[0] for future in (first, *rest)]
    ints, floats = ["int64 1", "int64 3", "int64 5"], ["float64 nan"] * 2
    assert answers == ["int64 1", ints[0], floats[0], ints[1], floats[1], ints[2]]
    assert sorted(model.sizes) == [1, 2, 3]


# -- real models -----------------------------------------------------------------------------------


def waves(rows: Any) -> Any:
    """A step that no converter knows."""
    return np.sin(np.asarray(rows)) + np.cos(np.asarray(rows) * 3)


def asked_by_16_threads(
    predictor: Predictor, method: str, calls: list[Any], answers: list[Any], rtol: float
) -> None:
    """Every call's answer is the source model's own, however they meet."""
    with ThreadPoolExecutor(16) as pool:
        for got, expected in zip(pool.map(getattr(predictor, method), calls), answers, strict=True):
            assert type(got) is type(expected)
            assert got.dtype == expected.dtype
            if got.dtype.kind == "f":
                np.testing.assert_allclose(got, expected, rtol=rtol, atol=1e-12)
            else:
                np.testing.assert_array_equal(got, expected)


@pytest.fixture
def no_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    """No part of a scikit-learn model has an ONNX form."""
    pytest.importorskip("sklearn")
    from infersdk.convert import sklearn as converter

    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise infersdk.UnsupportedModelError("no ONNX form")

    monkeypatch.setattr(converter, "to_onnx", refuse)


@pytest.mark.usefixtures("no_graph")
def test_a_pipeline_with_a_step_of_the_users_own() -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("sklearn")
    from sklearn.compose import make_column_transformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

    rng = np.random.default_rng(3)
    frame = pandas.DataFrame(rng.normal(size=(200, 3)), columns=["a", "b", "c"])
    frame["city"] = rng.choice(["Oslo", "Rome", "Kyiv"], 200)
    frame["kind"] = pandas.Categorical(rng.choice(["x", "y"], 200))
    labels = np.where(frame["a"] + (frame["city"] == "Rome") > 0, "yes", "no")
    columns = make_column_transformer(
        (make_pipeline(FunctionTransformer(waves), StandardScaler()), ["a", "b", "c"]),
        (OneHotEncoder(), ["city", "kind"]),
    )
    model = make_pipeline(columns, LogisticRegression()).fit(frame, labels)
    predictor = infersdk.load(
        model, example=frame, execution=Execution(calibration_s=2), batching=MERGE
    )
    assert predictor.plan.kind == "native"
    assert predictor.calibration.mergeable, predictor.calibration
    calls = [frame.iloc[i : i + 1 + i % 2] for i in range(199)]
    for method in ("predict", "predict_proba", "decision_function"):
        answers = [getattr(model, method)(call) for call in calls]
        asked_by_16_threads(predictor, method, calls, answers, 1e-12)
    as_dicts = [call.to_dict("records") for call in calls]
    asked_by_16_threads(predictor, "predict", as_dicts, [model.predict(c) for c in calls], 0)
    stats = predictor.queue_stats()
    assert stats["largest_batch"] > 2, stats


def test_a_torch_module_that_decides_by_values() -> None:
    pytest.importorskip("torch")
    import torch

    class Branches(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(6, 3)

        def forward(self, x: Any) -> Any:
            assert not torch.is_grad_enabled()
            if x.shape[0] > 10_000 and x.sum() > 0:
                return self.layer(x)
            rows = [self.layer(row) if row[0] > 0 else -self.layer(row) for row in x]
            return torch.stack(rows)

    torch.manual_seed(0)
    model = Branches().eval()
    example = torch.randn(32, 6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        predictor = infersdk.load(
            model, example=example, execution=Execution(calibration_s=2), batching=MERGE
        )
    assert predictor.plan.kind == "native"
    assert predictor.calibration.mergeable, predictor.calibration
    rows = torch.randn(100, 6)
    with torch.no_grad():
        answers = [model(rows[i : i + 1]) for i in range(100)]
    with ThreadPoolExecutor(16) as pool:
        for kind in (lambda i: rows[i : i + 1], lambda i: rows[i : i + 1].numpy()):
            got = list(pool.map(lambda i, kind=kind: predictor(kind(i)), range(100)))
            for mine, theirs in zip(got, answers, strict=True):
                assert isinstance(mine, type(kind(0)))
                np.testing.assert_allclose(np.asarray(mine), theirs.numpy(), rtol=1e-5, atol=1e-6)
    assert predictor.queue_stats()["largest_batch"] > 1


@pytest.mark.usefixtures("no_graph")
def test_a_pickled_predictor_studies_again_when_it_is_warmed_up() -> None:
    from sklearn.linear_model import LinearRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    rows = np.random.default_rng(0).normal(size=(60, 2))
    model = make_pipeline(FunctionTransformer(waves), LinearRegression()).fit(rows, rows[:, 0])
    predictor = infersdk.load(
        model, example=rows, execution=Execution(calibration_s=2), batching=MERGE
    )
    assert predictor.plan.kind == "native"
    again = pickle.loads(pickle.dumps(predictor))
    assert not again.calibration.mergeable
    assert again.warm_up(rows).mergeable
    np.testing.assert_array_equal(again.predict(rows), model.predict(rows))
