"""What is known of a model in service: its metrics, and how they leave the process."""

from infersdk.monitor.snapshot import Histogram, MethodMetrics, MetricsSource, ModelMetrics

__all__ = ["Histogram", "MethodMetrics", "MetricsSource", "ModelMetrics"]
