"""What OpenTelemetry's real SDK collects is what the models have counted."""

from __future__ import annotations

import os
import signal
import sys
import threading
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("opentelemetry.sdk")

from infersdk import InputError, Predictor, Predictors
from infersdk.monitor import Histogram, ModelMetrics
from infersdk.monitor.families import Buckets, families
from infersdk.monitor.otel_metrics import QUANTILES, Readings, quantile
from tests.monitor.otel import Series, telemetry
from tests.monitor.snapshots import FixedSource, histogram_of, model_metrics

ROW = [5.1, 3.5, 1.4, 0.2]


def of(series: Series, **attributes: str) -> dict[str, float]:
    """The values with these attributes, ``_`` for the first ``.``, by what else they have."""
    wanted = {(name.replace("_", ".", 1), value) for name, value in attributes.items()}
    return {
        " ".join(str(value) for name, value in key if (name, value) not in wanted): found
        for key, found in series.items()
        if wanted <= set(key)
    }


# -- against snapshots ---------------------------------------------------------------------------


def test_every_number_of_the_page_is_there() -> None:
    models = [model_metrics("iris"), model_metrics("wine")]
    with telemetry(FixedSource(models)) as on:
        collected = on.metrics()
    n_checked = 0
    for family in families(models):
        name = {
            "infersdk_calls_total": "infersdk.calls",
            "infersdk_call_errors_total": "infersdk.call.errors",
            "infersdk_rows_total": "infersdk.rows",
            "infersdk_call_duration_seconds": "infersdk.call.duration",
            "infersdk_queue_duration_seconds": "infersdk.queue.duration",
            "infersdk_batch_duration_seconds": "infersdk.batch.duration",
            "infersdk_run_duration_seconds": "infersdk.run.duration",
            "infersdk_run_rows": "infersdk.run.rows",
            "infersdk_queued_rows": "infersdk.queued_rows",
            "infersdk_running": "infersdk.running",
            "infersdk_build_info": None,
        }[family.name]
        if name is None:
            continue
        for labels, value in family.series:
            names = {"error": "error.type", "version": "infersdk.model_version"}
            own = [(names.get(key, f"infersdk.{key}"), text) for key, text in labels]
            n_checked += 1
            if not isinstance(value, Buckets):
                assert collected[name][tuple(sorted(own))] == value
                continue
            assert collected[f"{name}.sum"][tuple(sorted(own))] == value.sum
            assert collected[f"{name}.count"][tuple(sorted(own))] == value.counts[-1]
            bounds = (*map(repr, value.bounds), "+Inf")
            for bound, count in zip(bounds, value.counts, strict=True):
                key = tuple(sorted([*own, ("le", bound)]))
                assert collected[f"{name}.bucket"][key] == count
    assert n_checked > 20


def test_instruments_say_what_they_are() -> None:
    with telemetry(FixedSource([model_metrics()])) as on:
        data = on.reader.get_metrics_data()
        assert data is not None
        (scope,) = data.resource_metrics[0].scope_metrics
    found = {metric.name: (metric.unit, type(metric.data).__name__) for metric in scope.metrics}
    assert scope.scope.name == "infersdk"
    assert found["infersdk.calls"] == ("{call}", "Sum")
    assert found["infersdk.call.duration.sum"] == ("s", "Sum")
    assert found["infersdk.call.duration.quantile"] == ("s", "Gauge")
    assert found["infersdk.run.rows.sum"] == ("{row}", "Sum")
    metrics = {metric.name: metric.data for metric in scope.metrics}
    assert metrics["infersdk.call.duration.bucket"].is_monotonic
    assert not metrics["infersdk.queued_rows"].is_monotonic
    assert all(metric.description for metric in scope.metrics)


def test_one_collection_is_one_reading() -> None:
    source = FixedSource([model_metrics()])
    with telemetry(source) as on:
        assert source.asked == 0
        for n in (1, 2, 3):
            on.metrics()
            assert source.asked == n


def test_models_that_two_apps_have_are_added_up() -> None:
    one, other = FixedSource([model_metrics()]), FixedSource([model_metrics()])
    with telemetry([one, other]) as on:
        collected = on.metrics()
    with telemetry(one) as alone:
        expected = alone.metrics()
    for name, series in collected.items():
        for key, value in series.items():
            times = 1 if name.endswith(".quantile") else 2
            assert value == pytest.approx(expected[name][key] * times)


# -- quantiles -----------------------------------------------------------------------------------


@given(
    st.lists(st.floats(1e-6, 10), min_size=1, max_size=200),
    st.sampled_from([0.01, 0.5, 0.9, 0.99, 1.0]),
)
def test_a_quantile_is_as_right_as_its_bucket(values: list[float], share: float) -> None:
    found = quantile(histogram_of(values), share)
    exact = np.quantile(values, share, method="inverted_cdf")
    assert found is not None
    assert exact / 2 ** (1 / 8) - 1e-9 <= found <= exact * 2 ** (1 / 8) + 1e-9


def test_quantiles_of_nothing_and_of_what_is_beyond_every_bound() -> None:
    assert quantile(histogram_of([]), 0.5) is None
    assert quantile(histogram_of([5.0, 7.0], bounds=[1.0, 2.0]), 0.5) == 2.0


def _with_calls(call_s: Histogram) -> ModelMetrics:
    model = model_metrics()
    return replace(model, methods=(replace(model.methods[0], call_s=call_s),))


def test_quantiles_are_of_about_the_last_minute_however_often_they_are_read() -> None:
    now = [0.0]
    values: list[float] = [1.0] * 100
    readings = Readings(lambda: [_with_calls(histogram_of(values))], lambda: now[0])

    def median() -> float:
        found = readings.of("infersdk.call.duration.quantile")
        (one,) = [o.value for o in found if (o.attributes or {})["quantile"] == "0.5"]
        return one

    assert median() == pytest.approx(1, rel=0.1)
    for second in range(1, 61):
        now[0] = second
        values = values + [0.01] * 10
        assert median() == pytest.approx(0.01, rel=0.1)  # since the first reading
    for second in range(61, 180):
        now[0] = second
        values = values + [0.1] * 10
        median()
        median()
    assert median() == pytest.approx(0.1, rel=0.1)
    assert len(readings._recent._kept) <= 15
    # Nothing was called for two minutes; then the model was opened again.
    for now[0] in (200, 230, 260, 290, 320):
        readings.of("infersdk.call.duration.quantile")
    assert readings.of("infersdk.call.duration.quantile") == []
    values = [3.0]
    assert median() == pytest.approx(3, rel=0.1)


# -- against models ------------------------------------------------------------------------------


def test_what_models_count_is_collected(artifact: Path) -> None:
    with telemetry() as on, Predictors({"flowers": artifact}) as models:
        for n_rows in (1, 2, 3):
            models["flowers"].predict([ROW] * n_rows)
        with pytest.raises(InputError):
            models["flowers"].predict("no flower")
        models["flowers"].predict_proba(ROW)
        collected = on.metrics()
        (counted,) = models.metrics()
    # Other apps of this process have no model that is called so.
    ours = {"infersdk_model": "flowers"}
    assert of(collected["infersdk.calls"], **ours, infersdk_method="predict") == {"1": 4}
    assert of(collected["infersdk.rows"], **ours, infersdk_method="predict") == {"1": 6}
    errors = of(collected["infersdk.call.errors"], **ours, error_type="InputError")
    assert errors["predict 1"] == 1
    (method,) = [one for one in counted.methods if one.method == "predict"]
    found = of(collected["infersdk.call.duration.sum"], **ours, infersdk_method="predict")
    assert found["1"] == pytest.approx(method.call_s.sum)
    assert of(collected["infersdk.run.rows.sum"], **ours) == {"1": 7}
    quantiles = of(collected["infersdk.call.duration.quantile"], **ours, infersdk_method="predict")
    assert len(quantiles) == len(QUANTILES)
    assert 0 < quantiles["1 0.5"] <= quantiles["1 0.99"] <= counted.methods[0].call_s.sum


def test_models_of_one_app_alone(artifact: Path) -> None:
    with (
        Predictors({"one": artifact}) as one,
        Predictors({"other": artifact}) as other,
        telemetry(one) as on,
    ):
        one["one"].predict(ROW)
        other["other"].predict(ROW)
        names = {dict(key)["infersdk.model"] for key in on.metrics()["infersdk.calls"]}
    assert names == {"one"}


# -- forks ---------------------------------------------------------------------------------------


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="this system has no safe fork")
@pytest.mark.slow
def test_forks_while_metrics_are_read_leave_children_that_can(
    predictor: Predictor, queueing: Predictor
) -> None:
    with Predictors({"iris": predictor, "queueing": queueing}) as models, telemetry(models) as on:
        stop = threading.Event()

        def read() -> None:
            while not stop.is_set():
                on.metrics()

        def call() -> None:
            while not stop.is_set():
                models["queueing"].predict(ROW)
                models["iris"].predict(ROW)

        threads = [threading.Thread(target=work) for work in (read, call, call)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(40):
                assert _child_passes(models)
        finally:
            stop.set()
            for thread in threads:
                thread.join()


def _child_passes(models: Predictors) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        status = 1
        try:
            signal.alarm(30)
            status = _in_child(models)
        finally:
            os._exit(status)
    return os.waitpid(pid, 0)[1] == 0


def _in_child(models: Predictors) -> int:
    """The SDK's own locks are its affair; ours are read without them."""
    from infersdk.monitor import opentelemetry

    for name in models:
        models[name].predict([ROW] * 2)
    active: Any = opentelemetry._active
    rows = active.readings.of("infersdk.rows")
    return 0 if sum(one.value for one in rows) == 4 else 1
