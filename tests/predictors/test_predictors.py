"""Predictors: the models of an app, opened once in each process."""

from __future__ import annotations

import asyncio
import multiprocessing
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import infersdk
from infersdk.errors import ClosedError, UnknownModelError
from infersdk.predictors import (
    ModelConfig,
    Predictors,
    add_resolver,
    current_predictors,
    override,
    registry,
)
from infersdk.predictors import current as current_module

pytest.importorskip("sklearn", reason="the models are scikit-learn's")

ROW = [5.1, 3.5, 1.4, 0.2]


@pytest.fixture(scope="module")
def model() -> Any:
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    X, y = load_iris(return_X_y=True)
    return LogisticRegression(max_iter=500).fit(X, y)


@pytest.fixture(scope="module")
def path(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "iris.onnx"
    infersdk.convert(model).save(path)
    return path


@pytest.fixture
def predictors(path: Path) -> Iterator[Predictors]:
    predictors = Predictors({"iris": path})
    yield predictors
    predictors.close()


@pytest.fixture(autouse=True)
def _no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process of its own: other tests' models may not be collected yet."""
    monkeypatch.setattr(registry, "_all", weakref.WeakValueDictionary())


def test_declaring_opens_nothing_and_asking_opens_once(path: Path, model: Any) -> None:
    opened = []

    def source() -> Path:
        opened.append(1)
        return path

    with_source = Predictors({"iris": source, "other": "does/not/exist.onnx"})
    assert list(with_source) == ["iris", "other"]
    assert len(with_source) == 2
    assert "iris" in with_source
    assert with_source.state == "new"
    assert opened == []
    answers = with_source["iris"].predict_proba([ROW])
    np.testing.assert_allclose(answers, model.predict_proba([ROW]), rtol=1e-6)
    assert with_source["iris"] is with_source["iris"]
    assert opened == [1]
    assert with_source["iris"].name == "iris"
    with_source.close()


def test_open_opens_and_warms_all_of_them(predictors: Predictors) -> None:
    assert not predictors.is_ready
    predictors.open()
    assert predictors.is_ready
    assert predictors.health() == {"state": "open", "models": {"iris": {"state": "open"}}}
    first = predictors["iris"]
    predictors.open()
    assert predictors["iris"] is first


def test_the_rows_to_warm_up_with_are_checked_at_the_start(path: Path) -> None:
    predictors = Predictors({"iris": {"source": path, "warm_up_rows": [[1.0, 2.0]]}})
    with pytest.raises(infersdk.InputError) as caught:
        predictors.open()
    assert caught.value.__notes__ == ["while warming up model `iris`"]
    assert predictors.health()["models"]["iris"] == {"state": "failed", "error": "InputError"}
    predictors.close()


def test_a_model_that_fails_is_named_and_tried_again(tmp_path: Path, path: Path) -> None:
    late = tmp_path / "late.onnx"
    predictors = Predictors({"iris": path, "late": late})
    with pytest.raises(infersdk.ArtifactError) as caught:
        predictors.open()
    assert "while opening model `late`" in caught.value.__notes__
    assert predictors.state == "failed"
    assert predictors.health()["models"]["late"]["state"] == "failed"
    assert predictors["iris"].predict([ROW]).tolist() == [0]
    late.write_bytes(path.read_bytes())
    predictors.open()
    assert predictors.is_ready
    assert predictors.health()["models"]["late"] == {"state": "open"}
    predictors.close()


def test_close_takes_no_more_and_frees_what_was_loaded_here_only(path: Path) -> None:
    own = infersdk.load(path)
    predictors = Predictors({"loaded": path, "given": own})
    loaded = predictors["loaded"]
    predictors.open()
    predictors.close()
    predictors.close()
    assert predictors.state == "closed"
    with pytest.raises(ClosedError, match="`loaded` is closed"):
        predictors["loaded"]
    with pytest.raises(ClosedError):
        loaded.predict([ROW])
    assert own.predict([ROW]).tolist() == [0]
    with pytest.raises(ClosedError):
        predictors.open()
    own.close()


def test_renew_begins_again_after_close_and_otherwise_does_nothing(
    predictors: Predictors, path: Path
) -> None:
    predictors.renew()
    assert predictors.state == "new"
    first = predictors["iris"]
    predictors.open()
    predictors.renew()
    assert predictors.state == "open"
    assert predictors["iris"] is first
    for _ in range(2):
        predictors.close()
        predictors.renew()
        assert predictors.health() == {"state": "new", "models": {"iris": {"state": "new"}}}
        predictors.open()
        assert predictors.is_ready
        assert predictors["iris"] is not first
        assert predictors["iris"].predict([ROW]).tolist() == [0]
    with pytest.raises(ClosedError):
        first.predict([ROW])
    predictors.close()
    predictors.renew()
    predictors.add("second", path)
    assert predictors["second"].predict([ROW]).tolist() == [0]  # at first use, as in the beginning


def test_an_unknown_name_says_what_there_is(predictors: Predictors) -> None:
    with pytest.raises(UnknownModelError, match="No model `churn` is declared; there is `iris`"):
        predictors["churn"]
    with pytest.raises(KeyError):
        predictors["churn"]
    assert predictors.get("churn") is None


@pytest.mark.parametrize("name", ["", "a b", "a/b", ".hidden", "ä/.."])
def test_names_that_are_no_names(name: str, path: Path) -> None:
    with pytest.raises(ValueError, match="name of letters"):
        Predictors({name: path})


def test_a_name_is_declared_once(predictors: Predictors, path: Path) -> None:
    with pytest.raises(ValueError, match="`iris` is declared already"):
        predictors.add("iris", path)
    predictors.open()
    predictors.add("second", path)
    assert not predictors.is_ready
    assert predictors["second"].predict([ROW]).tolist() == [0]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"source": "a.onnx", "batch": {}}, "did you mean `batching`"),
        ({"example": 1}, "need `source`"),
        ({"source": "a.onnx", "batching": {"max_batchsize": 3}}, "did you mean `max_batch_size`"),
        ({"source": "a.onnx", "batching": {"max_batch_size": 0}}, "whole number from 1"),
        ({"source": None}, "got None"),
        ({"source": "a.onnx", "methods": []}, "methods to be names"),
    ],
)
def test_settings_that_are_wrong_are_named_with_their_model(
    value: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=f"Model `churn`: .*{message}"):
        Predictors({"churn": value})


def test_options_reach_the_model(path: Path) -> None:
    config = ModelConfig.of(
        {"source": path, "batching": {"timeout_s": 3.0}, "execution": {"threads": 1}}
    )
    with Predictors({"iris": config}) as predictors:
        assert predictors["iris"].batching.timeout_s == 3.0
        assert predictors["iris"].execution.threads == 1


def test_a_method_that_the_model_lacks_is_found_when_it_is_opened(path: Path) -> None:
    with pytest.raises(TypeError, match="no method `transform`; it has: predict, "):
        Predictors({"iris": {"source": path, "methods": "transform"}}).open()


def test_a_model_itself_and_a_function_that_loads_one(model: Any) -> None:
    with Predictors({"model": model, "loader": lambda: infersdk.load(model)}) as predictors:
        for name in predictors:
            assert predictors[name].predict([ROW]).tolist() == [0]


def test_many_threads_open_one_model_once(path: Path) -> None:
    opened = []
    barrier = threading.Barrier(8)

    def source() -> Path:
        opened.append(1)
        return path

    predictors = Predictors({"iris": source})
    found: list[Any] = []

    def ask() -> None:
        barrier.wait()
        found.append(predictors["iris"])

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(opened) == 1
    assert len({id(predictor) for predictor in found}) == 1
    assert len(found) == 8
    predictors.close()


def test_from_asyncio(path: Path) -> None:
    async def run() -> list[int]:
        predictors = Predictors({"iris": path})
        await predictors.aopen()
        answer: list[int] = (await predictors["iris"].apredict([ROW])).tolist()
        await predictors.aclose()
        assert predictors.state == "closed"
        return answer

    assert asyncio.run(run()) == [0]


def _in_child(predictors: Predictors, answers: Any) -> None:
    state = predictors.state
    predictors.open()
    answers.put((state, predictors.state, predictors["iris"].predict([ROW]).tolist()))


@pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="there is no fork here"
)
def test_a_child_of_a_fork_has_models_of_its_own(predictors: Predictors) -> None:
    predictors.open()
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        # As if a thread were opening a model: in the child it does not exist, and would never let go.
        with predictors._lock:
            held.set()
            done.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(60)
    child = context.Process(target=_in_child, args=(predictors, answers))
    child.start()
    done.set()
    holder.join()
    assert answers.get(timeout=60) == ("new", "open", [0])
    child.join(60)
    assert child.exitcode == 0


# -- the app at work ------------------------------------------------------------------------------


def test_the_only_models_of_the_process_are_meant(predictors: Predictors) -> None:
    assert current_predictors.get_predictors() is predictors
    assert current_predictors["iris"].predict([ROW]).tolist() == [0]
    assert list(current_predictors) == ["iris"]
    assert "iris" in current_predictors
    assert len(current_predictors) == 1


def test_of_two_apps_the_one_at_work_is_meant(predictors: Predictors, path: Path) -> None:
    other = Predictors({"other": path})
    with pytest.raises(RuntimeError, match="2 apps of this process"):
        current_predictors.get_predictors()
    at_work: list[Predictors | None] = [None]

    def resolver() -> Predictors | None:
        return at_work[0]

    add_resolver(resolver)
    add_resolver(resolver)
    try:
        assert current_module._resolvers.count(resolver) == 1
        at_work[0] = other
        assert list(current_predictors) == ["other"]
        at_work[0] = predictors
        assert list(current_predictors) == ["iris"]
    finally:
        current_module._resolvers.remove(resolver)
    other.close()
    assert current_predictors.get_predictors() is predictors


def test_without_any_models_it_says_how_to_declare_them() -> None:
    with pytest.raises(RuntimeError, match="Declare them first"):
        len(current_predictors)


# -- other Predictors for tests -------------------------------------------------------------------


def test_an_override_needs_no_file(path: Path) -> None:
    predictors = Predictors({"churn": "does/not/exist.onnx"})
    double = infersdk.load(path)
    with predictors.override("churn", double):
        predictors.open()
        assert predictors.is_ready
        assert predictors["churn"] is double
    with pytest.raises(infersdk.ArtifactError):
        predictors["churn"]
    with pytest.raises(UnknownModelError), predictors.override("other", double):
        pass
    predictors.close()
    assert double.predict([ROW]).tolist() == [0]
    double.close()


def test_an_override_of_the_process_holds_for_apps_made_later(path: Path) -> None:
    double = infersdk.load(path)
    with override("churn", double):
        predictors = Predictors({"churn": "does/not/exist.onnx"}, opening="now")
        predictors.prepare()
        assert predictors["churn"] is double
        assert predictors.is_open("churn")
    assert not predictors.is_open("churn")
    predictors.close()
    double.close()


# -- when models are opened -----------------------------------------------------------------------


def test_a_plain_process_opens_at_first_use_and_now_means_now(path: Path) -> None:
    for opening, state in (("auto", "new"), ("lazy", "new"), ("now", "open")):
        predictors = Predictors({"iris": path}, opening=opening)  # type: ignore[arg-type]
        predictors.prepare()
        assert predictors.state == state
        predictors.close()
    with pytest.raises(ValueError, match="'auto', 'now' or 'lazy'"):
        Predictors(opening="later")  # type: ignore[arg-type]
