"""What is known of a model in service: its metrics, and how they leave the process."""

from infersdk.monitor.collector import PrometheusCollector
from infersdk.monitor.exemplars import Exemplar, Exemplars
from infersdk.monitor.snapshot import (
    Histogram,
    MethodMetrics,
    MetricsSource,
    ModelMetrics,
    RequestMetrics,
)

__all__ = [
    "Exemplar",
    "Exemplars",
    "Histogram",
    "MethodMetrics",
    "MetricsSource",
    "ModelMetrics",
    "PrometheusCollector",
    "RequestMetrics",
]
