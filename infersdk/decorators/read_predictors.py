"""Which Predictors a function reads."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from types import CodeType, MappingProxyType
from typing import Any

from infersdk.runtime import Predictor

__all__ = ["read_predictors"]


def read_predictors(function: Callable[..., Any]) -> Mapping[str, Predictor]:
    """The Predictors in the function's globals, closure and defaults, by the names it has for them.

    Those that it reaches by other ways, as attributes of an object or through functions that it calls, are
    not found.
    """
    while isinstance(function, functools.partial):
        function = function.func
    function = inspect.unwrap(function)
    if not inspect.isroutine(function):
        function = type(function).__call__
    if inspect.ismethod(function):
        function = function.__func__
    if not inspect.isfunction(function):
        return MappingProxyType({})  # compiled
    code = function.__code__
    names = (name for part in _parts(code) for name in part.co_names)
    found = {name: function.__globals__.get(name) for name in names}
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        try:
            found[name] = cell.cell_contents
        except ValueError:
            continue  # not assigned yet
    positional = code.co_varnames[: code.co_argcount]
    defaults = function.__defaults__ or ()
    found.update(zip(positional[len(positional) - len(defaults) :], defaults, strict=True))
    found.update(function.__kwdefaults__ or {})
    predictors = {name: value for name, value in found.items() if isinstance(value, Predictor)}
    return MappingProxyType(predictors)


def _parts(code: CodeType) -> Iterator[CodeType]:
    """The code itself, and the functions and comprehensions inside."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _parts(constant)
