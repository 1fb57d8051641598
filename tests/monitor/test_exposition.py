"""What is scraped: parsed by Prometheus's own Python library, it is the snapshot again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from infersdk.monitor import Exemplars, Histogram, MethodMetrics, ModelMetrics, RequestMetrics
from infersdk.monitor.exposition import CONTENT_TYPES, negotiate, render
from tests.monitor.snapshots import (
    FixedSource,
    counted_below,
    histogram_of,
    model_metrics,
    snapshots,
)

pytest.importorskip("prometheus_client", reason="its parsers read what is written here")

OPENMETRICS = "application/openmetrics-text; version=1.0.0"

Series = dict[tuple[str, frozenset[tuple[str, str]]], Any]


def parsed(body: bytes, content_type: str) -> tuple[dict[str, Any], Series]:
    """Families by name, and samples by name and labels.

    The library gives counters of the text format names with ``_total``; here they have those of the text.
    """
    from prometheus_client import parser
    from prometheus_client.openmetrics import parser as openmetrics

    read: Callable[[str], Iterable[Any]] = (
        openmetrics.text_string_to_metric_families
        if "openmetrics" in content_type
        else parser.text_string_to_metric_families
    )
    text = body.decode()
    families = {family.name: family for family in read(text)}
    series: Series = {}
    for family in families.values():
        bare = f"# TYPE {family.name} counter\n" in text and "openmetrics" not in content_type
        for sample in family.samples:
            name = sample.name.removesuffix("_total") if bare else sample.name
            key = name, frozenset(sample.labels.items())
            assert key not in series, f"written twice: {key}"
            series[key] = sample
    return families, series


def value_of(series: Series, name: str, labels: Mapping[str, str]) -> float:
    return float(series[name, frozenset(labels.items())].value)


def assert_histogram(
    series: Series, name: str, labels: Mapping[str, str], expected: Histogram
) -> None:
    """Every bucket that is exported has an own bound of the histogram, and the exact count below it.

    A histogram without values is not exported.
    """
    if not expected.count:
        assert (f"{name}_count", frozenset(labels.items())) not in series
        return
    exported = {
        float(dict(key)["le"]): sample.value
        for (sample_name, key), sample in series.items()
        if sample_name == f"{name}_bucket"
        and {pair for pair in key if pair[0] != "le"} == set(labels.items())
    }
    assert set(exported) <= {*expected.bounds.tolist(), np.inf}
    assert exported.pop(np.inf) == expected.count
    for bound, count in exported.items():
        assert count == counted_below(expected, bound)
    assert bool(exported) == bool(len(expected.bounds))
    assert value_of(series, f"{name}_count", labels) == expected.count
    assert value_of(series, f"{name}_sum", labels) == expected.sum


@settings(max_examples=60)
@given(models=snapshots())
@pytest.mark.parametrize("accept", [None, OPENMETRICS])
def test_parsed_text_is_the_snapshot(models: list[ModelMetrics], accept: str | None) -> None:
    _, series = parsed(*render(FixedSource(models), accept=accept, labels={"pid": "71"}))
    for model in models:
        labels = {"model": model.model, "version": model.version, "pid": "71"}
        for name in ("queue", "batch", "run"):
            assert_histogram(
                series, f"infersdk_{name}_duration_seconds", labels, getattr(model, f"{name}_s")
            )
        assert_histogram(series, "infersdk_run_rows", labels, model.run_rows)
        assert value_of(series, "infersdk_queued_rows", labels) == model.queued_rows
        assert value_of(series, "infersdk_running", labels) == model.running
        for method in model.methods:
            inner = {**labels, "method": method.method}
            assert value_of(series, "infersdk_calls_total", inner) == method.calls
            assert value_of(series, "infersdk_rows_total", inner) == method.rows
            assert_histogram(series, "infersdk_call_duration_seconds", inner, method.call_s)
            errors = {
                dict(key)["error"]: sample.value
                for (name, key), sample in series.items()
                if name == "infersdk_call_errors_total"
                and {pair for pair in key if pair[0] != "error"} == set(inner.items())
            }
            zeros = dict.fromkeys(("InputError", "OverloadedError", "DeadlineError"), 0)
            assert errors == {**zeros, **method.errors}
    names = {(dict(key)["model"], dict(key)["version"]) for _, key in series if len(key) > 2}
    assert names == {(model.model, model.version) for model in models}


def test_families_have_types_units_and_help() -> None:
    body, content_type = render(
        FixedSource([model_metrics()]),
        accept=OPENMETRICS,
        requests=RequestMetrics({("rows", "iris", 200): 9}),
    )
    families, _ = parsed(body, content_type)
    assert {name: family.type for name, family in families.items()} == {
        "infersdk_build": "info",
        "infersdk_calls": "counter",
        "infersdk_call_errors": "counter",
        "infersdk_rows": "counter",
        "infersdk_call_duration_seconds": "histogram",
        "infersdk_queue_duration_seconds": "histogram",
        "infersdk_batch_duration_seconds": "histogram",
        "infersdk_run_duration_seconds": "histogram",
        "infersdk_run_rows": "histogram",
        "infersdk_queued_rows": "gauge",
        "infersdk_running": "gauge",
        "infersdk_http_requests": "counter",
    }
    for name, family in families.items():
        assert family.documentation
        assert family.unit == ("seconds" if name.endswith("_seconds") else "")


def test_build_info_has_the_installed_version() -> None:
    from importlib.metadata import version

    for accept in (None, OPENMETRICS):
        _, series = parsed(*render(FixedSource(), accept=accept))
        assert value_of(series, "infersdk_build_info", {"version": version("infersdk")}) == 1


def test_requests_are_counted_by_protocol_model_and_code() -> None:
    requests = RequestMetrics({("rows", "iris", 200): 9, ("oip", "", 404): 2})
    _, series = parsed(*render(FixedSource(), requests=requests))
    name = "infersdk_http_requests_total"
    assert value_of(series, name, {"protocol": "rows", "model": "iris", "code": "200"}) == 9
    assert value_of(series, name, {"protocol": "oip", "model": "", "code": "404"}) == 2


def test_a_source_is_read_once_per_scrape() -> None:
    source = FixedSource([model_metrics()])
    render(source, aliases=("triton", "kserve", "mlserver"))
    assert source.asked == 1


def test_counts_of_numpy_are_written_as_numbers() -> None:
    model = replace(model_metrics(), queued_rows=np.int64(7), running=np.int32(2))  # type: ignore[arg-type]
    _, series = parsed(*render(FixedSource([model])))
    labels = {"model": "iris", "version": "3"}
    assert value_of(series, "infersdk_queued_rows", labels) == 7
    assert value_of(series, "infersdk_running", labels) == 2


def test_a_name_that_cannot_be_encoded_costs_no_scrape() -> None:
    body, _ = render(FixedSource([model_metrics(name="iris\udc80")]))
    assert b'model="iris?"' in body


# -- buckets -------------------------------------------------------------------------------------


def bounds_of(body: bytes, name: str) -> list[float]:
    _, series = parsed(body, CONTENT_TYPES["text"])
    found = {float(dict(key)["le"]) for sample, key in series if sample == f"{name}_bucket"}
    return sorted(found - {np.inf})


def test_fine_histograms_are_coarsened_to_their_own_bounds() -> None:
    body, _ = render(FixedSource([model_metrics()]))
    bounds = bounds_of(body, "infersdk_run_duration_seconds")
    assert len(bounds) == 25
    assert set(bounds) <= set(histogram_of([]).bounds.tolist())
    # Each is the own bound next to a quarter of a decade, so no two are far apart.
    assert bounds[0] == pytest.approx(1e-5, rel=0.1)
    assert bounds[-1] == pytest.approx(10, rel=0.1)
    assert max(high / low for low, high in pairwise(bounds)) < 2.2


def test_methods_that_were_never_asked_have_counters_but_no_buckets() -> None:
    unasked = MethodMetrics(method="run", calls=0, rows=0, errors={}, call_s=histogram_of([]))
    body, _ = render(FixedSource([replace(model_metrics(), methods=(unasked,))]))
    assert b'infersdk_calls_total{model="iris",version="3",method="run"} 0\n' in body
    assert b"infersdk_call_duration_seconds" not in body


def test_bounds_do_not_depend_on_the_counts() -> None:
    idle = replace(model_metrics(), run_s=histogram_of([1.0]))
    busy = replace(model_metrics(), run_s=histogram_of([1e-7, 5.0, 1e6]))
    name = "infersdk_run_duration_seconds"
    assert bounds_of(render(FixedSource([idle]))[0], name) == bounds_of(
        render(FixedSource([busy]))[0], name
    )


def test_few_bounds_are_all_kept() -> None:
    body, _ = render(FixedSource([model_metrics()]))
    assert bounds_of(body, "infersdk_run_rows") == [2.0**power for power in range(15)]


def test_a_value_on_a_bound_is_below_it() -> None:
    model = replace(model_metrics(), run_rows=histogram_of([4, 4], [1, 2, 4, 8]))
    body, _ = render(FixedSource([model]))
    assert b'infersdk_run_rows_bucket{model="iris",version="3",le="2.0"} 0\n' in body
    assert b'infersdk_run_rows_bucket{model="iris",version="3",le="4.0"} 2\n' in body


# -- formats -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, "text"),
        ("", "text"),
        ("*/*", "text"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", "text"),
        ("application/json", "text"),
        ("application/openmetrics-text", "openmetrics"),
        ("application/openmetrics-text; version=1.0.0; charset=utf-8", "openmetrics"),
        ('Application/OpenMetrics-Text; Version="1.0.0"', "openmetrics"),
        ("application/openmetrics-text; version=0.0.1", "text"),
        ("application/openmetrics-text; version=2.0.0, text/plain", "text"),
        ("application/openmetrics-text;q=0", "text"),
        ("application/openmetrics-text;q=high", "text"),
        ("application/openmetrics-text;q=0.2,text/plain;version=0.0.4;q=0.5", "text"),
        ("application/openmetrics-text;q=0.5,text/plain;version=0.0.4;q=0.5", "openmetrics"),
        ("application/openmetrics-text;q=0.5,text/plain;version=1.0.0", "openmetrics"),
        (";;,,=;q", "text"),
        # What Prometheus 2.42 and 3 send.
        (
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
            "text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            "openmetrics",
        ),
        (
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
            "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;"
            "escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
            "openmetrics",
        ),
    ],
)
def test_format_is_negotiated(accept: str | None, expected: str) -> None:
    assert negotiate(accept) == expected
    body, content_type = render(FixedSource(), accept=accept)
    assert content_type == CONTENT_TYPES[negotiate(accept)]
    assert body.endswith(b"# EOF\n") == (expected == "openmetrics")


def test_series_have_the_same_names_and_labels_in_both_formats() -> None:
    source = FixedSource([model_metrics("a"), model_metrics("b")])
    every = ("triton", "kserve", "mlserver")
    _, text = parsed(*render(source, aliases=every))
    _, openmetrics = parsed(*render(source, accept=OPENMETRICS, aliases=every))
    assert {key: sample.value for key, sample in text.items()} == {
        key: sample.value for key, sample in openmetrics.items()
    }


def test_exemplars_are_in_openmetrics_only() -> None:
    exemplars = Exemplars()
    exemplars.record("iris", "predict", 0.0021, "a" * 32)
    exemplars.record("iris", "predict", 99.0, "b" * 32)
    exemplars.record("other", "predict", 0.01, "c" * 32)
    source = FixedSource([model_metrics()])
    text, _ = render(source, exemplars=exemplars)
    assert text == render(source)[0]
    families, _ = parsed(*render(source, accept=OPENMETRICS, exemplars=exemplars))
    found = [
        (float(sample.labels["le"]), sample.exemplar)
        for sample in families["infersdk_call_duration_seconds"].samples
        if sample.exemplar is not None
    ]
    assert [exemplar.labels for _, exemplar in found] == [
        {"trace_id": "a" * 32},
        {"trace_id": "b" * 32},
    ]
    for le, exemplar in found:
        assert exemplar.value <= le
        assert float(exemplar.timestamp) > 1.7e9


# -- labels --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", "a-b", "1a", "__name", "ä", "a\n"])
def test_a_label_must_be_a_label_name(name: str) -> None:
    with pytest.raises(ValueError, match="letters, digits"):
        render(FixedSource(), labels={name: "x"})


@pytest.mark.parametrize("name", ["model", "le", "version", "code"])
def test_a_label_may_not_be_one_of_ours(name: str) -> None:
    with pytest.raises(ValueError, match=f"`{name}` is one of the metrics' own"):
        render(FixedSource(), labels={name: "x"})
