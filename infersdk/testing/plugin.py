"""The pytest plugin: pytest finds it by its entry point.

It is loaded in every run of every project that has infersdk installed, so it only declares: what a fixture
needs is imported by the fixture, and a test that uses nothing of it pays nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from infersdk.runtime import Predictor
    from infersdk.testing.clock import Clock
    from infersdk.testing.doubles import FakePredictor
    from infersdk.testing.hammer import Hammer
    from infersdk.testing.latency import LatencyReport
    from infersdk.testing.traffic import RecordedPredictor, TrafficReport

_FAKES = "infersdk_fake_models"
_OFFLINE = "infersdk_no_model_downloads"
_ALLOWED = "infersdk_allow_hosts"

_stack = pytest.StashKey[ExitStack]()


# -- what is declared ----------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini(
        _FAKES,
        "Names of models that are fakes in the whole run: the files of these need not exist.",
        type="args",
        default=[],
    )
    parser.addini(
        _OFFLINE,
        "Whether every test must do without the network, unless it is marked model_downloads.",
        type="bool",
        default=False,
    )
    parser.addini(
        _ALLOWED,
        "Other machines that tests without the network may connect to all the same: databases, queues.",
        type="args",
        default=[],
    )


def pytest_configure(config: pytest.Config) -> None:
    for line in (
        "infersdk_models(**models): let fakes answer for an app's models, by name: an answer, a dict of "
        "the parameters of FakePredictor under the key `fake`, or a Predictor (infersdk)",
        "no_model_downloads: the test fails if something reaches for the network (infersdk)",
        "model_downloads: the test may use the network although the project's tests must not (infersdk)",
    ):
        config.addinivalue_line("markers", line)


def pytest_sessionstart(session: pytest.Session) -> None:
    # Before collection, which imports the apps.
    names = session.config.getini(_FAKES)
    if not names:
        return
    from infersdk.predictors import override
    from infersdk.testing.doubles import FakePredictor

    stack = session.config.stash[_stack] = ExitStack()
    for name in names:
        stack.enter_context(override(name, stack.enter_context(FakePredictor(name=name))))


def pytest_report_header(config: pytest.Config) -> str | None:
    names = config.getini(_FAKES)
    return f"infersdk: fakes for {', '.join(names)}" if names else None


def pytest_unconfigure(config: pytest.Config) -> None:
    stack = config.stash.get(_stack, None)
    if stack is not None:
        stack.close()


def pytest_itemcollected(item: pytest.Item) -> None:
    if not isinstance(item, pytest.Function):
        return
    # First of all: other fixtures may open models, or reach for the network.
    if item.get_closest_marker("infersdk_models"):
        item.fixturenames.insert(0, "_infersdk_models")
    wanted = item.get_closest_marker("no_model_downloads") or (
        item.config.getini(_OFFLINE) and not item.get_closest_marker("model_downloads")
    )
    if wanted:
        item.fixturenames.insert(0, "no_model_downloads")


@pytest.fixture
def _infersdk_models(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let fakes answer for the models that the marker names."""
    from infersdk.predictors import override
    from infersdk.runtime import Predictor
    from infersdk.testing.doubles import FakePredictor

    models: dict[str, Any] = {}
    for marker in reversed(list(request.node.iter_markers("infersdk_models"))):
        for argument in marker.args:
            models.update(argument)
        models.update(marker.kwargs)
    with ExitStack() as stack:
        for name, value in models.items():
            if not isinstance(value, Predictor):
                options = value["fake"] if _has_options(value) else {"answers": value}
                value = stack.enter_context(FakePredictor(**{"name": name, **options}))
            stack.enter_context(override(name, value))
        yield


def _has_options(value: Any) -> bool:
    return isinstance(value, dict) and set(value) == {"fake"} and isinstance(value["fake"], dict)


# -- models --------------------------------------------------------------------------------------


@pytest.fixture
def fake_predictor() -> Iterator[Callable[..., FakePredictor]]:
    """Make Predictors whose answers the test scripts: ``fake_predictor("yes", fields=["age"])``.

    A fake checks rows, queues, batches and refuses as any Predictor does; only its model is a script. It is
    told its ``answers``, ``fields`` or ``signature``, ``methods``, ``latency_s`` and ``faults``, and keeps what
    it was asked in ``calls`` and ``runs``; see ``infersdk.testing.FakePredictor``. All are closed after the test.
    """
    from infersdk.testing.doubles import FakePredictor

    with ExitStack() as stack:

        def make(answers: Any = None, **options: Any) -> FakePredictor:
            return stack.enter_context(FakePredictor(answers, **options))

        yield make


@pytest.fixture
def predictor_factory() -> Iterator[Callable[..., Predictor]]:
    """Make small real Predictors: ``predictor_factory("classifier", n_features=4)``.

    "classifier", "regressor" and "network" are tiny ONNX models with made-up weights, which need no framework;
    their options are ``n_features``, ``labels``, ``fields``, ``seed``, ``name``, ``execution`` and ``batching``.
    Anything else is a model or path for ``infersdk.load``, with its options. All are closed after the test.
    """
    from infersdk.testing.factory import make_predictor

    with ExitStack() as stack:

        def make(model: Any = "classifier", **options: Any) -> Predictor:
            return stack.enter_context(make_predictor(model, **options))

        yield make


@pytest.fixture
def use_predictor() -> Iterator[Callable[[str, Any], Predictor]]:
    """Let a Predictor answer for a model of the app: ``use_predictor("churn", fake)``.

    Every app of the process that has declared a model of that name gets it until the test is over; the declared
    model is not opened, and its file need not exist. What is no Predictor is the answer of a fake that is made.
    """
    from infersdk.predictors import override
    from infersdk.runtime import Predictor
    from infersdk.testing.doubles import FakePredictor

    with ExitStack() as stack:

        def use(name: str, predictor: Any) -> Predictor:
            if not isinstance(predictor, Predictor):
                predictor = stack.enter_context(FakePredictor(predictor, name=name))
            stack.enter_context(override(name, predictor))
            used: Predictor = predictor
            return used

        yield use


# -- judging -------------------------------------------------------------------------------------


@pytest.fixture
def assert_parity() -> Callable[..., None]:
    """Check that a Predictor answers as its source does: ``assert_parity(predictor, model, rows)``.

    Both may also be paths of model files. Keywords: ``rtol``, ``atol``, ``methods``. The message shows the rows
    that differ, and both answers.
    """
    from infersdk.testing.parity import assert_parity as check

    return check


@pytest.fixture
def assert_latency() -> Callable[..., LatencyReport]:
    """Check that one function is not slower than another: ``assert_latency(new, old, at_most=1.2)``.

    Both are measured in turn, in this run, on the same ``inputs``, and only their ratio is judged; it fails only
    on clear evidence, and measures up to ``budget_s`` to find some.
    """
    from infersdk.testing.latency import assert_latency as check

    return check


@pytest.fixture
def hammer() -> Hammer:
    """Call a function from many threads at once: ``hammer(function, threads=8, calls=50)``.

    ``await hammer.tasks(function)`` does it from asyncio tasks. Gives all answers, or raises all errors as one
    ExceptionGroup; threads that do not end are an AssertionError that shows where they are.
    """
    from infersdk.testing.hammer import Hammer

    return Hammer()


# -- time ----------------------------------------------------------------------------------------


@pytest.fixture
def infersdk_clock() -> Iterator[Clock]:
    """Hold the clock of deadlines and fakes' latencies: ``infersdk_clock.advance(0.5)``.

    Time stands still until the test advances it, so that a call expires when the test says so. Fakes wait on it
    for their ``latency_s``; with ``infersdk_clock.automatic = True`` that passes at once.
    """
    from infersdk.testing.clock import Clock

    with Clock() as clock:
        yield clock


# -- traffic and network -------------------------------------------------------------------------


@pytest.fixture
def record_traffic(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[Callable[..., RecordedPredictor]]:
    """Record what is asked of a Predictor: ``use_predictor("churn", record_traffic(churn, path))``.

    Gives a twin of the Predictor that answers as it does and writes each call to a file of JSON lines, by default
    one in ``tmp_path``; ``.path`` says which. Under xdist the worker's name goes into a path that is given.
    """
    from infersdk.testing.traffic import record_traffic as record

    with ExitStack() as stack:

        def make(
            predictor: Predictor, path: str | os.PathLike[str] | None = None, **options: Any
        ) -> RecordedPredictor:
            if path is None:
                path = tmp_path / f"{predictor.name}.jsonl"
            else:
                path = _of_worker(Path(path), request.config)
            recorded = record(predictor, path, **options)
            stack.callback(recorded.finish)
            return recorded

        yield make


def _of_worker(path: Path, config: pytest.Config) -> Path:
    worker = getattr(config, "workerinput", {}).get("workerid")
    return path if worker is None else path.with_name(f"{path.stem}-{worker}{path.suffix}")


@pytest.fixture
def replay() -> Callable[..., TrafficReport]:
    """Make recorded calls again: ``report = replay(path, predictor); assert report.passed, report``.

    Answers are compared with those of the recording, within ``rtol`` and ``atol``.
    """
    from infersdk.testing.traffic import replay_traffic

    return replay_traffic


@pytest.fixture
def no_model_downloads(pytestconfig: pytest.Config) -> Iterator[None]:
    """Fail whatever reaches for the network, naming who wanted what.

    Connections within the machine, and to those of the ini option ``infersdk_allow_hosts``, are allowed. Also a
    marker, and for all tests the ini option ``infersdk_no_model_downloads``, from which the marker
    ``model_downloads`` excepts one.
    """
    from infersdk.testing.downloads import no_downloads

    with no_downloads(pytestconfig.getini(_ALLOWED)):
        yield
