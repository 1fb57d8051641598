"""For the tests of apps that use infersdk: the pytest plugin and the doubles that it hands out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from infersdk.testing.clock import Clock as Clock
    from infersdk.testing.doubles import FakePredictor as FakePredictor

__all__ = ["Clock", "FakePredictor"]


def __getattr__(name: str) -> Any:
    # pytest imports this package in every run of every project; what a test uses is imported by that test.
    if name == "FakePredictor":
        from infersdk.testing.doubles import FakePredictor

        return FakePredictor
    if name == "Clock":
        from infersdk.testing.clock import Clock

        return Clock
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
