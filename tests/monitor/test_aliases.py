"""The numbers under other servers' names: those servers' types and labels, infersdk's values."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from infersdk.monitor import MethodMetrics
from infersdk.monitor.aliases import ALIASES
from infersdk.monitor.exposition import render
from tests.monitor.snapshots import FixedSource, counted_below, histogram_of, model_metrics
from tests.monitor.test_exposition import OPENMETRICS, assert_histogram, parsed, value_of

LABELS = {"model": "iris", "version": "3"}


def test_without_aliases_there_are_only_own_names() -> None:
    families, _ = parsed(*render(FixedSource([model_metrics()])))
    assert all(name.startswith("infersdk_") for name in families)


def test_triton_counts_calls_rows_runs_and_microseconds() -> None:
    families, series = parsed(*render(FixedSource([model_metrics()]), aliases=["triton"]))
    expected = {
        "nv_inference_request_success": 7,
        "nv_inference_count": 11,
        "nv_inference_exec_count": 3,
        "nv_inference_request_duration_us": 533_000,
        "nv_inference_queue_duration_us": 1_500,
        "nv_inference_compute_infer_duration_us": 4_000,
    }
    for name, value in expected.items():
        assert families[name].type == "counter"
        assert value_of(series, name, LABELS) == value


def test_triton_failures_have_reasons() -> None:
    model = model_metrics()
    errors = {
        "InputError": 1,
        "OverloadedError": 2,
        "DeadlineError": 4,
        "AbandonedError": 8,
        "SessionError": 16,
        "ZeroDivisionError": 32,
    }
    failing = replace(model, methods=(replace(model.methods[0], errors=errors),))
    _, series = parsed(*render(FixedSource([failing]), aliases=["triton"]))
    name = "nv_inference_request_failure"
    found = {
        dict(key)["reason"]: sample.value for (of, key), sample in series.items() if of == name
    }
    assert found == {"REJECTED": 6, "CANCELED": 8, "BACKEND": 16, "OTHER": 33}


def test_kserve_has_one_histogram_for_all_methods_and_versions() -> None:
    models = [model_metrics(), model_metrics(version="4"), model_metrics("other")]
    families, series = parsed(*render(FixedSource(models), aliases=["kserve"]))
    assert families["request_predict_seconds"].type == "histogram"
    both = histogram_of([0.001, 0.002, 0.002, 0.004, 0.008, 0.5, 0.016] * 2)
    assert_histogram(series, "request_predict_seconds", {"model_name": "iris"}, both)


def test_kserve_adds_what_has_different_bounds_where_it_is_exact() -> None:
    one = histogram_of([1, 2, 3, 8, 99], [1, 2, 4, 8])
    other = histogram_of([1, 5, 6, 20], [2, 5, 8])
    methods = tuple(
        MethodMetrics(method=str(place), calls=1, rows=1, errors={}, call_s=call_s)
        for place, call_s in enumerate((one, other))
    )
    model = replace(model_metrics(), methods=methods)
    _, series = parsed(*render(FixedSource([model]), aliases=["kserve"]))
    buckets = {
        float(dict(key)["le"]): sample.value
        for (name, key), sample in series.items()
        if name == "request_predict_seconds_bucket"
    }
    assert buckets == {
        **{bound: counted_below(one, bound) + counted_below(other, bound) for bound in (2.0, 8.0)},
        np.inf: 9,
    }


def test_kserve_leaves_a_model_without_methods_out() -> None:
    families, _ = parsed(
        *render(FixedSource([replace(model_metrics(), methods=())]), aliases=["kserve"])
    )
    assert "request_predict_seconds" not in families


def test_mlserver_has_counters_and_a_summary() -> None:
    families, series = parsed(*render(FixedSource([model_metrics()]), aliases=["mlserver"]))
    assert value_of(series, "model_infer_request_success_total", LABELS) == 7
    assert value_of(series, "model_infer_request_failure_total", LABELS) == 2
    assert families["model_infer_request_duration"].type == "summary"
    assert value_of(series, "model_infer_request_duration_count", LABELS) == 7
    assert value_of(series, "model_infer_request_duration_sum", LABELS) == pytest.approx(0.533)


def test_in_openmetrics_a_counter_of_another_form_keeps_its_name() -> None:
    families, series = parsed(
        *render(FixedSource([model_metrics()]), aliases=["triton"], accept=OPENMETRICS)
    )
    assert families["nv_inference_count"].type == "unknown"
    assert value_of(series, "nv_inference_count", LABELS) == 11


def test_an_alias_that_is_unknown_is_refused() -> None:
    with pytest.raises(ValueError, match="of kserve, mlserver, triton, got 'bentoml'"):
        render(FixedSource(), aliases=["bentoml"])
    with pytest.raises(TypeError, match="got the str 'triton'"):
        render(FixedSource(), aliases="triton")


def test_an_alias_given_twice_is_written_once() -> None:
    source = FixedSource([model_metrics()])
    every = [*ALIASES, *ALIASES]
    assert render(source, aliases=every) == render(source, aliases=list(ALIASES))
