"""Every source of metrics in this process, for exporters that are told of none."""

from __future__ import annotations

import weakref

from infersdk.monitor.snapshot import MetricsSource

__all__ = ["add_source", "all_sources"]

_sources: weakref.WeakValueDictionary[int, MetricsSource] = weakref.WeakValueDictionary()


def add_source(source: MetricsSource) -> None:
    """Tell of a source. It is not kept alive.

    Parameters
    ----------
    source : MetricsSource
    """
    _sources[id(source)] = source


def all_sources() -> list[MetricsSource]:
    """Those that are in use, oldest first."""
    return list(_sources.values())
