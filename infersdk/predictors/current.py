"""``current_predictors``: the models of whichever app is at work.

An app that is asked is known to its framework, so each adapter registers a resolver that asks it. Where no
app is at work (a task, a script, a thread of one's own) and the process has models of one app only, these
are meant.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from infersdk.predictors.registry import Predictors, all_predictors
from infersdk.runtime import Predictor

__all__ = ["CurrentPredictors", "add_resolver", "current_predictors"]

Resolver = Callable[[], Predictors | None]

_resolvers: list[Resolver] = []
_last_resolvers: list[Resolver] = []


def add_resolver(resolver: Resolver, *, last: bool = False) -> None:
    """Register a function that knows which app is at work.

    Parameters
    ----------
    resolver : callable
        Returns its Predictors, or None where none of its apps is at work. Adding one again does nothing.
    last : bool
        Ask it after all others: for a framework that has one app in a process, always at work.
    """
    if resolver in _resolvers or resolver in _last_resolvers:
        return
    (_last_resolvers if last else _resolvers).append(resolver)


class CurrentPredictors(Mapping[str, Predictor]):
    """The models of the app at work, by name: ``current_predictors["churn"].predict(row)``."""

    __slots__ = ()

    def get_predictors(self) -> Predictors:
        """Return the app's Predictors themselves.

        Raises
        ------
        RuntimeError
            No app is at work and the process has models of none or of several.
        """
        for resolver in (*_resolvers, *_last_resolvers):
            found = resolver()
            if found is not None:
                return found
        known = all_predictors()
        if len(known) == 1:
            return known[0]
        if not known:
            raise RuntimeError(
                "No models are declared in this process. Declare them first, e.g. "
                "InferSDK(app, models={'churn': 'churn.onnx'}) or Predictors({'churn': 'churn.onnx'})"
            )
        raise RuntimeError(
            f"{len(known)} apps of this process have declared models and none of them is at work here, so it "
            "is not clear whose are meant. Use the app's own Predictors, or its context "
            "(`with app.app_context():` in Flask)"
        )

    def __getitem__(self, name: str) -> Predictor:
        return self.get_predictors()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.get_predictors())

    def __len__(self) -> int:
        return len(self.get_predictors())

    def __contains__(self, name: object) -> bool:
        return name in self.get_predictors()

    def __repr__(self) -> str:
        return "<infersdk current_predictors>"


current_predictors = CurrentPredictors()
