"""A mark of a model's state, by which it is noticed that a model was changed in place.

``fit`` gives an estimator new attributes, an optimizer writes into the tensors of a module, which count their
changes. Neither says anything about what the objects of a framework written in C hold. A mark is made once a
second at most, where a model is asked, and costs some microseconds.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

__all__ = ["mark_of"]

_MOST_ITEMS = 64
_DEPTH = 4


def mark_of(model: Any) -> Hashable:
    """Return something that is the same as long as the model is not fitted again or written to."""
    mark: list[Any] = []
    if callable(getattr(model, "state_dict", None)) and callable(
        getattr(model, "parameters", None)
    ):
        _tensors(model, mark)
    else:
        _attributes(model, mark, _DEPTH)
    return tuple(mark)


def _tensors(module: Any, mark: list[Any]) -> None:
    mark.append(getattr(module, "training", None))
    for tensor in (*module.parameters(), *module.buffers()):
        mark.append(id(tensor))
        try:
            mark.append(tensor._version)
        except (AttributeError, RuntimeError):  # tensors of inference mode do not count
            mark.append(None)


def _attributes(value: Any, mark: list[Any], depth: int) -> None:
    attributes = getattr(value, "__dict__", None)
    if not depth or not isinstance(attributes, dict):
        return
    # Calls are counted in whole numbers, by pipelines of transformers for instance.
    for name, item in list(attributes.items()):
        if not isinstance(item, int):
            mark.append((name, id(item)))
            _within(item, mark, depth)


def _within(item: Any, mark: list[Any], depth: int) -> None:
    if isinstance(item, (list, tuple)):
        if len(item) <= _MOST_ITEMS:
            for each in item:
                mark.append(id(each))
                if isinstance(each, tuple) or hasattr(type(each), "get_params"):
                    _within(each, mark, depth)
    elif hasattr(type(item), "get_params"):
        _attributes(item, mark, depth - 1)
