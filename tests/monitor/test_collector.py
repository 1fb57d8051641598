"""The collector, in a registry of prometheus_client and with that library's own exposition."""

from __future__ import annotations

import builtins
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from infersdk.errors import MissingDependencyError
from infersdk.monitor import Exemplars, ModelMetrics, PrometheusCollector
from infersdk.monitor.exposition import CONTENT_TYPES, render
from tests.monitor.snapshots import FixedSource, model_metrics, snapshots
from tests.monitor.test_exposition import OPENMETRICS, parsed, value_of
from tests.web.servers import ROOT

prometheus_client = pytest.importorskip("prometheus_client")


def exposed(registry: Any, accept: str = "") -> tuple[bytes, str]:
    """As prometheus_client answers a scrape."""
    from prometheus_client.exposition import choose_encoder

    encoder, content_type = choose_encoder(accept)
    return encoder(registry), content_type


@settings(max_examples=30)
@given(models=snapshots())
@pytest.mark.parametrize("accept", ["", OPENMETRICS])
def test_a_registry_exposes_the_same_series(models: list[ModelMetrics], accept: str) -> None:
    source = FixedSource(models)
    registry = prometheus_client.CollectorRegistry()
    registry.register(
        PrometheusCollector(source, aliases=("kserve", "mlserver"), labels={"pid": "7"})
    )
    _, theirs = parsed(*exposed(registry, accept))
    _, ours = parsed(
        *render(source, accept=accept, aliases=("kserve", "mlserver"), labels={"pid": "7"})
    )
    assert {key: sample.value for key, sample in theirs.items()} == {
        key: sample.value for key, sample in ours.items()
    }


def test_it_stands_beside_an_apps_own_metrics() -> None:
    registry = prometheus_client.CollectorRegistry()
    orders = prometheus_client.Counter("orders", "Orders", registry=registry)
    registry.register(PrometheusCollector(FixedSource([model_metrics()])))
    orders.inc(3)
    _, series = parsed(*exposed(registry))
    assert value_of(series, "orders_total", {}) == 3
    labels = {"model": "iris", "version": "3", "method": "predict"}
    assert value_of(series, "infersdk_calls_total", labels) == 8
    assert registry.get_sample_value("infersdk_rows_total", labels) == 10


def test_tritons_names_are_kept() -> None:
    registry = prometheus_client.CollectorRegistry()
    registry.register(PrometheusCollector(FixedSource([model_metrics()]), aliases=["triton"]))
    for accept in ("", OPENMETRICS):
        _, series = parsed(*exposed(registry, accept))
        labels = {"model": "iris", "version": "3"}
        assert value_of(series, "nv_inference_request_success", labels) == 7


def test_exemplars_are_exposed() -> None:
    exemplars = Exemplars()
    exemplars.record("iris", "predict", 0.002, "a" * 32)
    registry = prometheus_client.CollectorRegistry()
    registry.register(PrometheusCollector(FixedSource([model_metrics()]), exemplars=exemplars))
    families, _ = parsed(*exposed(registry, OPENMETRICS))
    found = [
        sample.exemplar
        for sample in families["infersdk_call_duration_seconds"].samples
        if sample.exemplar is not None
    ]
    assert [(one.labels, one.value) for one in found] == [({"trace_id": "a" * 32}, 0.002)]


def test_registering_reads_no_model_and_starts_no_thread() -> None:
    source = FixedSource()
    before = threading.active_count()
    registry = prometheus_client.CollectorRegistry(auto_describe=True)
    registry.register(PrometheusCollector(source, aliases=["triton", "kserve"]))
    assert source.asked == 0
    exposed(registry)
    assert source.asked == 1
    assert threading.active_count() == before


def test_registering_twice_is_refused_by_the_registry() -> None:
    registry = prometheus_client.CollectorRegistry()
    registry.register(PrometheusCollector(FixedSource()))
    with pytest.raises(ValueError, match="infersdk_calls"):
        registry.register(PrometheusCollector(FixedSource()))


def test_labels_may_be_asked_for_at_each_scrape() -> None:
    process = {"pid": "1"}
    registry = prometheus_client.CollectorRegistry()
    registry.register(PrometheusCollector(FixedSource([model_metrics()]), labels=lambda: process))
    assert b'pid="1"' in exposed(registry)[0]
    process = {"pid": "2"}
    assert b'pid="2"' in exposed(registry)[0]
    assert b'pid="1"' not in exposed(registry)[0]


def test_what_is_not_possible_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="got 'bentoml'"):
        PrometheusCollector(FixedSource(), aliases=["bentoml"])
    with pytest.raises(ValueError, match="`model` is one of the metrics' own"):
        PrometheusCollector(FixedSource(), labels={"model": "x"})


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real_import = builtins.__import__

    def no_prometheus(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.partition(".")[0] == "prometheus_client":
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", no_prometheus)
    with pytest.raises(MissingDependencyError, match=r"infersdk\[prometheus\]"):
        PrometheusCollector(FixedSource())
    # Our own exposition does without.
    assert render(FixedSource())[1] == CONTENT_TYPES["text"]


def test_importing_the_monitor_does_not_import_the_package() -> None:
    subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, infersdk.monitor.exposition; assert 'prometheus_client' not in sys.modules",
        ],
        check=True,
        timeout=60,
    )


MULTIPROCESS = """
import os, sys
from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from infersdk.monitor import PrometheusCollector
from tests.monitor.snapshots import FixedSource, model_metrics

orders = Counter("orders", "Orders")
models = PrometheusCollector(
    FixedSource([model_metrics()]), labels=lambda: {"pid": str(os.getpid())}
)
sys.stdout.flush()
if child := os.fork():
    assert os.waitpid(child, 0)[1] == 0
orders.inc()
registry = CollectorRegistry()
MultiProcessCollector(registry)
registry.register(models)
body = generate_latest(registry).decode()
assert f'infersdk_rows_total{{method="predict",model="iris",pid="{os.getpid()}",version="3"}} 10.0' in body, body
if child:
    assert "orders_total 2.0" in body, body
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="workers are forked")
def test_it_works_beside_multiprocess_metrics_and_after_a_fork(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-c", MULTIPROCESS],
        env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)},
        check=True,
        timeout=60,
    )
