"""A fake is a Predictor in all but its model."""

from __future__ import annotations

import asyncio
import pickle
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import infersdk
from infersdk.testing import FakePredictor
from infersdk.testing.clock import Clock
from infersdk.types import Field

OSLO, ROME = {"city": "Oslo"}, {"city": "Rome"}
Fakes = Callable[..., FakePredictor]


# ---- answers -----------------------------------------------------------------------------------


def test_it_is_a_predictor(fake_predictor: Fakes) -> None:
    fake = fake_predictor("yes")
    assert isinstance(fake, infersdk.Predictor)
    assert repr(fake) == "<Predictor `fake`: native plan, predict, predict_proba>"
    assert [method.name for method in fake.signature.methods] == ["predict", "predict_proba"]


def test_one_answer_for_every_row(fake_predictor: Fakes) -> None:
    fake = fake_predictor("yes", fields={"city": str})
    assert fake.predict(OSLO).tolist() == ["yes"]
    assert fake([OSLO, ROME]).tolist() == ["yes", "yes"]


def test_what_is_not_scripted_is_neutral(fake_predictor: Fakes) -> None:
    fake = fake_predictor(methods=["predict", "predict_proba", "decision_function"])
    assert fake.predict([[1, 2], [3, 4]]).tolist() == [0, 0]
    assert fake.predict_proba([1, 2]).tolist() == [[0.5, 0.5]]
    assert fake.decision_function([1, 2]).tolist() == [0.0]


def test_answers_in_turn_go_to_rows(fake_predictor: Fakes) -> None:
    fake = fake_predictor([1, 2, 3])
    assert fake.predict([[0], [0]]).tolist() == [1, 2]
    assert fake.predict([0]).tolist() == [3]
    with pytest.raises(
        AssertionError, match="was given 3 answers for `predict` and is asked for number 4"
    ):
        fake.predict([0])


def test_answers_by_row(fake_predictor: Fakes) -> None:
    fake = fake_predictor({(31.0, "Oslo"): 1, ...: 0}, fields={"age": float, "city": str})
    rows = [{"age": 31, "city": "Oslo"}, {"age": 32, "city": "Oslo"}]
    assert fake.predict(rows).tolist() == [1, 0]


def test_a_row_without_an_answer_is_named(fake_predictor: Fakes) -> None:
    fake = fake_predictor({"Oslo": 1}, fields={"city": str})
    with pytest.raises(
        AssertionError, match=r"no answer for `predict` to \{'city': 'Rome'\}.*the key \.\.\."
    ):
        fake.predict(ROME)


def test_answers_of_a_function_of_the_rows(fake_predictor: Fakes) -> None:
    fake = fake_predictor(lambda rows: [len(row["city"]) for row in rows], fields={"city": str})
    assert fake.predict([OSLO, {"city": "Bergen"}]).tolist() == [4, 6]


def test_a_function_must_answer_every_row(fake_predictor: Fakes) -> None:
    fake = fake_predictor(lambda rows: [1])
    with pytest.raises(AssertionError, match="an answer for each of 2 rows, got 1 answers"):
        fake.predict([[1], [2]])


def test_answers_by_method(fake_predictor: Fakes) -> None:
    fake = fake_predictor({"predict": "yes", "predict_proba": (0.1, 0.9)})
    assert fake.predict([1]).tolist() == ["yes"]
    assert fake.predict_proba([[1], [2]]).tolist() == [[0.1, 0.9], [0.1, 0.9]]
    with pytest.raises(AttributeError, match="has no method `transform`"):
        fake.transform([1])


def test_answers_of_several_parts(fake_predictor: Fakes) -> None:
    fake = fake_predictor({"__call__": lambda rows: [{"a": i} for i in range(len(rows))]})
    assert fake([[1], [2]])["a"].tolist() == [0, 1]


def test_the_script_may_change(fake_predictor: Fakes) -> None:
    fake = fake_predictor(1)
    fake.script(2, faults=[None, KeyError("x")])
    assert fake.predict([0]).tolist() == [2]
    with pytest.raises(ValueError, match="Expected answers of the methods predict, predict_proba"):
        fake.script({"transform": 1})


@pytest.mark.parametrize("container", ["dict", "dicts", "array", "frame", "series", "text"])
def test_without_fields_rows_of_any_kind_are_taken(fake_predictor: Fakes, container: str) -> None:
    pd = pytest.importorskip("pandas")
    rows: dict[str, tuple[Any, int]] = {
        "dict": ({"a": 1}, 1),
        "dicts": ([{"a": 1}, {"b": 2}], 2),
        "array": (np.zeros((3, 2)), 3),
        "frame": (pd.DataFrame({"a": [1, 2]}), 2),
        "series": (pd.Series({"a": 1}), 1),
        "text": ("a text", 1),
    }
    given, n_rows = rows[container]
    fake = fake_predictor("yes")
    assert fake.predict(given).tolist() == ["yes"] * n_rows
    assert fake.calls[0].n_rows == n_rows
    assert fake.check(given) == []


# ---- rows --------------------------------------------------------------------------------------


def test_rows_are_refused_as_by_any_predictor(fake_predictor: Fakes) -> None:
    fake = fake_predictor(1, name="churn", fields={"age": "float", "city": "string"})
    with pytest.raises(infersdk.InputError, match="`age`, row 1, model `churn`") as caught:
        fake.predict([{"age": 1, "city": "Oslo"}, {"age": "old", "city": "Oslo"}])
    assert (caught.value.field, caught.value.row) == ("age", 1)
    assert [error.field for error in fake.check([{"age": "old"}])] == ["age", "city"]
    assert not fake.runs


def test_rows_are_noted_as_the_model_would_see_them(fake_predictor: Fakes) -> None:
    fields = [
        Field("age", "int", None, missing="nan"),
        Field("member", "bool", None),
        Field("city", "string", None, missing="empty"),
    ]
    fake = fake_predictor(1, fields=fields)
    fake.predict([{"age": 31, "member": True, "city": None}, (None, False, "Oslo")])
    assert fake.calls[0].rows == [
        {"age": 31, "member": True, "city": None},
        {"age": None, "member": False, "city": "Oslo"},
    ]
    assert type(fake.calls[0].rows[0]["age"]) is int
    assert fake.calls[0].rows[0]["member"] is True


def test_it_stands_for_a_real_model(fake_predictor: Fakes, predictor_factory: Any) -> None:
    real = predictor_factory("classifier", fields=["a", "b"], labels=["no", "yes"])
    fake = fake_predictor("yes", signature=real)
    row = {"a": 1.0, "b": 2.0}
    assert fake.predict(row).shape == real.predict(row).shape
    assert [m.name for m in fake.signature.methods] == [m.name for m in real.signature.methods]
    for bad in ({"a": 1}, {"a": 1, "b": "x"}, [1, 2, 3]):
        with pytest.raises(infersdk.InputError) as ours:
            fake.predict(bad)
        with pytest.raises(infersdk.InputError) as theirs:
            real.predict(bad)
        assert str(ours.value).replace("`fake`", "") == str(theirs.value).replace(
            "`classifier`", ""
        )


def test_it_stands_for_a_model_over_tensors(fake_predictor: Fakes, predictor_factory: Any) -> None:
    real = predictor_factory("network", n_features=3)
    fake = fake_predictor(lambda rows: [row["x"] * 2 for row in rows], signature=real)
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert np.array_equal(fake(x), 2 * x)
    with pytest.raises(infersdk.InputError):
        fake(np.zeros((2, 4), np.float32))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fields": {"age": "number"}}, "Expected field `age` to be float, int, bool or string"),
        ({"faults": 3}, "Expected faults to be an exception"),
        ({"faults": "no"}, "Expected faults to be an exception"),
    ],
)
def test_what_it_is_told_is_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        FakePredictor(1, **options)


# ---- faults ------------------------------------------------------------------------------------


def test_every_call_fails(fake_predictor: Fakes) -> None:
    fake = fake_predictor(1, faults=infersdk.OverloadedError("full", retry_after_s=3, model="x"))
    for _ in range(2):
        with pytest.raises(infersdk.OverloadedError, match="full") as caught:
            fake.predict([1])
        assert caught.value.retry_after_s == 3
    assert [type(call.error) for call in fake.calls] == [infersdk.OverloadedError] * 2


def test_calls_fail_by_number(fake_predictor: Fakes) -> None:
    fake = fake_predictor(1, faults={2: infersdk.DeadlineError})
    fake.predict([1])
    with pytest.raises(infersdk.DeadlineError):
        fake.predict([1])
    fake.predict([1])


def test_calls_fail_in_turn(fake_predictor: Fakes) -> None:
    fake = fake_predictor(1, faults=[KeyError("a"), None])
    with pytest.raises(KeyError, match="a"):
        fake.predict([1])
    fake.predict([1])
    fake.predict([1])


def test_rows_that_do_not_fit_are_refused_before_a_fault(fake_predictor: Fakes) -> None:
    fake = fake_predictor(1, fields=["age"], faults=infersdk.SessionError("broken"))
    with pytest.raises(infersdk.InputError):
        fake.predict({"age": "old"})


def test_a_bad_row_fails_its_own_call_only(fake_predictor: Fakes) -> None:
    fake = fake_predictor(
        lambda rows: [row["n"] for row in rows],
        fields={"n": int},
        faults=lambda row: infersdk.SessionError("bad row") if row["n"] == 3 else None,
    )
    outcomes: dict[int, Any] = {}

    def call(n: int) -> None:
        try:
            outcomes[n] = fake.predict({"n": n}).tolist()
        except infersdk.SessionError as error:
            outcomes[n] = str(error)

    with fake.busy():
        threads = [threading.Thread(target=call, args=(n,)) for n in range(6)]
        for thread in threads:
            thread.start()
        fake.wait_for_queued(6)
    for thread in threads:
        thread.join()
    assert outcomes == {n: "bad row" if n == 3 else [n] for n in range(6)}


# ---- the queue ---------------------------------------------------------------------------------


def test_calls_that_come_together_share_a_run(fake_predictor: Fakes) -> None:
    fake = fake_predictor(lambda rows: [row["n"] for row in rows], fields={"n": int})
    answers: list[Any] = [None] * 5

    def call(n: int) -> None:
        answers[n] = fake.predict({"n": n}).tolist()

    with fake.busy():
        threads = [threading.Thread(target=call, args=(n,), name=f"caller-{n}") for n in range(5)]
        for thread in threads:
            thread.start()
        fake.wait_for_queued(5)
    for thread in threads:
        thread.join()
    assert answers == [[n] for n in range(5)]
    assert [run.n_rows for run in fake.runs] == [5]
    assert sorted(call.thread for call in fake.calls) == [f"caller-{n}" for n in range(5)]
    assert fake.queue_stats()["largest_batch"] == 5


def test_methods_do_not_share_a_run(fake_predictor: Fakes) -> None:
    fake = fake_predictor()
    with fake.busy():
        threads = [
            threading.Thread(target=f, args=([1],)) for f in (fake.predict, fake.predict_proba)
        ]
        for thread in threads:
            thread.start()
        fake.wait_for_queued(2)
    for thread in threads:
        thread.join()
    assert sorted(run.method for run in fake.runs) == ["predict", "predict_proba"]


def test_a_call_to_a_busy_model_expires(fake_predictor: Fakes) -> None:
    fake = fake_predictor(1)
    with fake.busy(), pytest.raises(infersdk.DeadlineError):
        fake.predict([1], timeout_s=0.001)
    assert not fake.runs
    assert isinstance(fake.calls[0].error, infersdk.DeadlineError)
    assert fake.predict([1]).tolist() == [1]


def test_how_long_it_was_busy_teaches_nothing(fake_predictor: Fakes, infersdk_clock: Clock) -> None:
    """Or a call while it is busy again would be refused, by what it seems to cost."""
    fake = fake_predictor(1)
    with fake.busy():
        infersdk_clock.advance(100)
    fake.predict([1])
    with fake.busy():
        caller = threading.Thread(target=fake.predict, args=([1],), kwargs={"timeout_s": 60})
        caller.start()
        fake.wait_for_queued()
    caller.join()
    assert [call.error for call in fake.calls] == [None, None]


def test_warming_up_is_no_call(fake_predictor: Fakes) -> None:
    fake = fake_predictor([1])
    fake.warm_up([[1], [2]])
    assert not fake.calls


def test_a_full_queue_refuses(fake_predictor: Fakes) -> None:
    fake = fake_predictor(1, batching=infersdk.Batching(max_queue_size=1))
    with fake.busy():
        waiting = threading.Thread(target=fake.predict, args=([1],))
        waiting.start()
        fake.wait_for_queued()
        with pytest.raises(infersdk.OverloadedError, match="queue is full"):
            fake.predict([1])
    waiting.join()


def test_several_instances_are_busy_together(fake_predictor: Fakes) -> None:
    fake = fake_predictor(1, instances=3)
    with fake.busy():
        assert fake.queue_stats()["running"] == 3
        with pytest.raises(infersdk.DeadlineError):
            fake.predict([1], timeout_s=0.001)


def test_without_batching_nobody_waits(fake_predictor: Fakes) -> None:
    fake = fake_predictor(1, batching=infersdk.Batching.off())
    assert fake.predict([1]).tolist() == [1]
    with pytest.raises(RuntimeError, match="never wait for each other"), fake.busy():
        pass


def test_awaited_calls(fake_predictor: Fakes) -> None:
    fake = fake_predictor(lambda rows: [row["n"] for row in rows], fields={"n": int})

    async def main() -> list[Any]:
        calls = [asyncio.create_task(fake.apredict({"n": n}), name=f"call-{n}") for n in range(8)]
        return [answer.tolist() for answer in await asyncio.gather(*calls)]

    assert asyncio.run(main()) == [[n] for n in range(8)]
    assert sorted(str(call.task) for call in fake.calls) == [f"call-{n}" for n in range(8)]
    assert sum(run.n_rows for run in fake.runs) == 8


def test_an_awaited_call_may_be_cancelled(fake_predictor: Fakes) -> None:
    fake = fake_predictor(1)

    async def main() -> None:
        with fake.busy():
            call = asyncio.create_task(fake.apredict([1]))
            await asyncio.to_thread(fake.wait_for_queued)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call

    asyncio.run(main())
    assert not fake.runs
    assert isinstance(fake.calls[0].error, asyncio.CancelledError)


def test_waiting_for_callers_that_do_not_come(fake_predictor: Fakes) -> None:
    with pytest.raises(TimeoutError, match="Expected 1 rows to wait for `fake`, got 0"):
        fake_predictor(1).wait_for_queued(timeout_s=0.01)


def test_answers_are_not_mixed_up_under_fire(fake_predictor: Fakes, hammer: Any) -> None:
    fake = fake_predictor(lambda rows: [row["n"] for row in rows], fields={"n": int})
    rows = [{"n": n} for n in range(97)]
    answers = hammer(lambda row: (row["n"], fake.predict(row).item()), inputs=rows)
    assert all(asked == answered for asked, answered in answers)
    assert len(fake.calls) == len(answers)
    assert sum(run.n_rows for run in fake.runs) == len(answers)


# ---- life --------------------------------------------------------------------------------------


def test_closed_it_answers_nobody() -> None:
    fake = FakePredictor(1, name="churn")
    fake.close()
    for call in (fake.predict, lambda row: asyncio.run(fake.apredict(row))):
        with pytest.raises(infersdk.ClosedError, match="`churn` is closed"):
            call([1])
    fake.close()


def test_closing_ends_a_latency_that_nobody_waits_out() -> None:
    fake = FakePredictor(1, latency_s=3600)
    caller = threading.Thread(target=fake.predict, args=([1],))
    caller.start()
    while not fake.runs:
        pass
    fake.close()
    caller.join(10)
    assert not caller.is_alive()


def test_closing_ends_a_latency_on_a_held_clock() -> None:
    with Clock() as clock:
        fake = FakePredictor(1, latency_s=1)
        caller = threading.Thread(target=fake.predict, args=([1],))
        caller.start()
        clock.wait_for_sleepers()
        fake.close()
        caller.join(10)
        assert not caller.is_alive()


def test_it_can_be_pickled() -> None:
    with (
        FakePredictor({"Oslo": 1, ...: 0}, fields={"city": "string"}, name="churn") as fake,
        pickle.loads(pickle.dumps(fake)) as again,
    ):
        assert again.predict([OSLO, ROME]).tolist() == [1, 0]
        assert again.name == "churn"
        assert not fake.calls


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="needs fork")
def test_it_answers_in_the_child_of_a_fork(fake_predictor: Fakes) -> None:
    import os

    fake = fake_predictor([1, 2])
    fake.predict([0])
    child = os.fork()
    if child == 0:
        os._exit(0 if fake.predict([0]).tolist() == [2] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
