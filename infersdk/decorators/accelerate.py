"""``@accelerate``: a function that asks models, with those models converted while it serves.

The function keeps its code, its names and its namespaces; only the places where it asks a model are looked
at (`call_sites`). What is asked there, wherever it came from, is watched, converted, compared and then
replaced in that one call (`watched_model`). No module, class or model is changed, and nothing runs twice but
the model.

What comes back is a plain function, not an object that wraps one: Flask, Django and FastAPI treat functions
by what they are (coroutine, generator, method, signature), and a call of it costs nothing more than before.
"""

from __future__ import annotations

import ast
import functools
import inspect
import logging
import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from types import CodeType, FunctionType, MethodType
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, overload

from infersdk.decorators.acceleration_report import AccelerationReport
from infersdk.decorators.call_sites import (
    ASKING,
    CALL,
    CHANGING,
    NoSourceError,
    Place,
    decorators,
    with_sites,
)
from infersdk.decorators.watched_model import Options, WatchedModel, is_model
from infersdk.options import Batching, Execution
from infersdk.runtime import Predictor

__all__ = ["AcceleratedFunction", "accelerate"]

logger = logging.getLogger("infersdk.accelerate")

_MOST_WRAPPERS = 64
_MOST_CODES = 4096
_MOST_NAMED = 8

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class AcceleratedFunction(Protocol[P, R_co]):
    """A function that :func:`accelerate` has given back: the same, and some attributes more."""

    @property
    def __name__(self) -> str: ...
    @property
    def function(self) -> Callable[P, R_co]:
        """The function as it was."""

    @property
    def predictors(self) -> Mapping[str, Predictor]:
        """The Predictors that there are by now, by the name of their model."""

    def report(self) -> AccelerationReport:
        """Say what became of each model."""

    def refresh(self) -> None:
        """Forget all Predictors and start over, also with models that were given up."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...
    @overload
    def __get__(self, instance: None, owner: Any = None, /) -> AcceleratedFunction[P, R_co]: ...
    @overload
    def __get__(
        self: AcceleratedFunction[Concatenate[Any, Q], R], instance: object, owner: Any = None, /
    ) -> Callable[Q, R]: ...


class _Decorator(Protocol):
    def __call__(self, function: Callable[P, R], /) -> AcceleratedFunction[P, R]: ...


@overload
def accelerate(function: Callable[P, R], /) -> AcceleratedFunction[P, R]: ...
@overload
def accelerate(
    *,
    example: Any = None,
    shadow_calls: int = 100,
    background: bool = True,
    execution: Execution | None = None,
    batching: Batching | None = None,
) -> _Decorator: ...
def accelerate(
    function: Callable[..., Any] | None = None,
    /,
    *,
    example: Any = None,
    shadow_calls: int = 100,
    background: bool = True,
    execution: Execution | None = None,
    batching: Batching | None = None,
) -> Any:
    """Let a function's models run as ONNX, once they have been seen to answer the same.

    The function is otherwise as it was. A model that it asks, wherever it has it from, answers itself at
    first; the rows of its first 20 calls are what it is converted with, in a thread. Then it and its
    Predictor both answer the next `shadow_calls` calls, and the function gets the model's answer. After
    that the Predictor answers. A difference, a model that cannot be converted, or errors that come again
    leave the model in its place; ``function.report()`` says so, and the log ``infersdk.accelerate``.

    Looked at are ``predict``, ``predict_proba``, ``predict_log_proba``, ``decision_function``,
    ``score_samples``, ``encode`` and calls of the model itself, in the function, and in functions of the
    same module that it calls.

    Parameters
    ----------
    function : callable
        A function or method, plain or async, or a generator; its source must be at hand.
    example : rows, or dict of str to rows, optional
        Rows as the model takes them. With these it is converted at the first call. For several models a
        dict by the expressions that the function uses: ``{"model": X, "self.scorer": Z}``.
    shadow_calls : int
        Calls of each method that are compared before the Predictor answers; at least 1.
    background : bool
        Convert in a thread, while the model goes on to answer; False: within a call.
    execution, batching : Execution, Batching, optional
        As for :func:`load`.

    Returns
    -------
    AcceleratedFunction or, without a function, a decorator
        A function with the attributes ``function`` (as it was), ``predictors``, ``report`` and ``refresh``.

    Raises
    ------
    TypeError
        Not a function: a class, a model, an object that is called.
    ValueError
        `shadow_calls` is not a whole number from 1.

    Examples
    --------
    >>> import infersdk
    >>> @infersdk.accelerate
    ... def score(row: list[float]) -> float:
    ...     return float(model.predict_proba([row])[0, 1])
    """
    if not isinstance(shadow_calls, int) or isinstance(shadow_calls, bool) or shadow_calls < 1:
        raise ValueError(
            f"accelerate(shadow_calls=) must be a whole number from 1, got {shadow_calls!r}"
        )
    options = Options(shadow_calls, bool(background), execution, batching)
    if function is None:
        return functools.partial(_decorate, options=options, example=example)
    return _decorate(function, options=options, example=example)


def _decorate(function: Any, /, *, options: Options, example: Any) -> Any:
    if isinstance(function, (staticmethod, classmethod)):
        inner = _decorate(function.__func__, options=options, example=example)
        return type(function)(inner)
    if isinstance(function, functools.partial):
        # Django's method_decorator makes one of a bound method at each request.
        inner = _of_all_calls(function.func, options, example)
        made = functools.partial(inner, *function.args, **function.keywords)
        made.__dict__.update(function.__dict__)
        return made
    if isinstance(function, MethodType):
        inner = _of_all_calls(function.__func__, options, example)
        acceleration = _acceleration_of(inner)
        owner = sys.modules.get(type(function.__self__).__module__)
        if acceleration is not None and owner is not None:
            acceleration.follow_in(vars(owner))
        return MethodType(inner, function.__self__)
    if not isinstance(function, FunctionType):
        raise TypeError(_refusal(function))
    if _acceleration_of(function) is not None:
        return function
    return _Acceleration(function.__qualname__, options, example).take(function)


def _acceleration_of(function: Any) -> _Acceleration | None:
    # Decorators above copy the attributes to functions of their own.
    known = getattr(getattr(function, "report", None), "__self__", None)
    return known if isinstance(known, _Acceleration) and known.accelerated is function else None


_by_function: weakref.WeakKeyDictionary[Any, list[tuple[Options, Any]]] = (
    weakref.WeakKeyDictionary()
)


def _of_all_calls(function: Any, options: Options, example: Any) -> Any:
    """The one accelerated function behind all partial objects and bound methods of a function."""
    if not isinstance(function, FunctionType):
        return _decorate(function, options=options, example=example)
    made = _by_function.setdefault(function, [])
    for known_options, accelerated in made:
        if known_options == options:
            return accelerated
    accelerated = _decorate(function, options=options, example=example)
    made.append((options, accelerated))
    return accelerated


def _refusal(given: Any) -> str:
    kind = type(given).__qualname__
    start = "accelerate takes a function that asks a model, got "
    if isinstance(given, type):
        return start + f"the class `{given.__qualname__}`. Decorate the method that asks the model"
    if is_model(given):
        return start + f"a model, `{kind}`. Use infersdk.load(model), or decorate what calls it"
    if hasattr(given, "__wrapped__") or hasattr(given, "function"):
        return start + f"`{kind}`, which another decorator made. Put @accelerate below that one"
    if callable(given) and isinstance(getattr(type(given), CALL, None), FunctionType):
        return start + f"an object, `{kind}`. Decorate `{kind}.__call__`"
    return start + f"`{kind}`, which has no source in Python"


class _Site:
    """Stands in a function's code where it asks something; ``of`` gives what is to be called."""

    __slots__ = ("_acceleration", "_place", "of")

    def __init__(self, acceleration: _Acceleration, place: Place) -> None:
        self._acceleration = acceleration
        self._place = place
        self.of = acceleration.looker(place)

    def __repr__(self) -> str:
        return f"<infersdk call site: {self._place.expression}>"

    def __reduce__(self) -> Any:
        return type(self), (self._acceleration, self._place)


class _Acceleration:
    """One accelerated function: its sites, the models they met, and the functions they lead to."""

    # Functions; typed so, they would seem to be methods.
    function: Any
    accelerated: Any

    def __init__(self, name: str, options: Options, example: Any) -> None:
        self._name = name
        self._options = options
        self._example = example
        self._notes: tuple[str, ...] = ()
        self._places: list[Place] = []
        self._homes: list[dict[str, Any]] = []
        self._lock = threading.Lock()
        self._known: dict[int, WatchedModel] = {}
        self._references: dict[int, Any] = {}
        self._names: dict[str, WatchedModel] = {}
        self._copies: dict[int, tuple[Any, FunctionType, CodeType]] = {}
        self._codes: dict[int, tuple[CodeType, CodeType]] = {}
        _accelerations.add(self)

    def take(self, function: FunctionType) -> Any:
        """Make the accelerated function."""
        # Decorators below this one leave functions of their own; what these wrap is meant as well.
        inner: Any = function
        while isinstance(inner, FunctionType) and len(self._homes) < _MOST_WRAPPERS:
            self.follow_in(inner.__globals__)
            inner = getattr(inner, "__wrapped__", None)
        code = self._rewritten(function)
        if code is not function.__code__ and _was_handed_on(function):
            self.function = _copy(function, function.__code__)
            self.accelerated = function
            function.__code__ = code
        else:
            self.function = function
            self.accelerated = _copy(function, code)
        attributes = {
            "function": self.function,
            "predictors": _Predictors(self),
            "report": self.report,
            "refresh": self.refresh,
        }
        self.accelerated.__dict__.update(attributes)
        return self.accelerated

    def follow_in(self, namespace: dict[str, Any]) -> None:
        """Look into functions of this module as well, where they are called."""
        if not any(namespace is home for home in self._homes):
            self._homes.append(namespace)
            self._codes.clear()

    def __reduce__(self) -> Any:
        # With a function that is pickled as a whole, as cloudpickle does it.
        return type(self), (self._name, self._options, self._example)

    def _rewritten(self, function: FunctionType) -> CodeType:
        try:
            code = with_sites(function.__code__, function.__globals__, self._site)
        except NoSourceError as error:
            self._notes = (f"it runs as it is: {error}",)
            logger.warning("`%s` runs as it is: %s", self._name, error)
            return function.__code__
        if code is function.__code__:
            self._notes = ("it runs as it is: it calls nothing that could be a model",)
        return code

    def _site(self, place: Place) -> _Site:
        self._places.append(place)
        return _Site(self, place)

    # -- where a function asks -------------------------------------------------------------------

    def looker(self, place: Place) -> Callable[[Any], Any]:
        """Return the function behind a site."""
        name = place.method
        known = self._known

        if name == CALL:

            def of(value: Any) -> Any:
                watched = known.get(id(value))
                if watched is not None:
                    return watched.asked(value, CALL)
                if type(value) is FunctionType or type(value) is MethodType:
                    return self._followed(value)
                if not is_model(value):
                    return value
                return self._meet(value, place).asked(value, CALL)

        elif name in CHANGING:

            def of(value: Any) -> Any:
                change = getattr(value, name)
                return _changing(change, value) if is_model(value) else change

        else:

            def of(value: Any) -> Any:
                watched = known.get(id(value))
                if watched is not None:
                    return watched.asked(value, name)
                if is_model(value):
                    return self._meet(value, place).asked(value, name)
                method = getattr(value, name)
                if type(method) is not MethodType:
                    return method
                # Proxies, such as Flask's and Django's, give the methods of what they stand for.
                owner = method.__self__
                if owner is not value and method.__name__ == name and is_model(owner):
                    return self._meet(owner, place).asked(owner, name)
                return self._followed(method)

        return of

    def _meet(self, model: Any, place: Place) -> WatchedModel:
        """Watch a model that a site sees for the first time."""
        key = id(model)
        with self._lock:
            watched = self._known.get(key)
            if watched is not None:
                return watched
            watched = _shared(model, place.expression, self._options, self._example_for(place))
            known, references = self._known, self._references

            def forget(_: Any) -> None:
                # Before anything else can have its id.
                known.pop(key, None)
                references.pop(key, None)

            try:
                references[key] = weakref.ref(model, forget)
            except TypeError:
                references[key] = model
            alive = list(known.values())
            self._names = {name: each for name, each in self._names.items() if each in alive}
            name, number = place.expression, 2
            while name in self._names:
                name = f"{place.expression} ({number})"
                number += 1
            self._names[name] = watched
            known[key] = watched
            return watched

    def _example_for(self, place: Place) -> Any:
        example = self._example
        if isinstance(example, Mapping) and example:
            expressions = {known.expression for known in self._places}
            if expressions.issuperset(example):
                return example.get(place.expression)
        return example

    def _followed(self, value: Any) -> Any:
        """Return a function of the same module with sites of its own; any other as it is."""
        if type(value) is MethodType:
            function = value.__func__
            if type(function) is not FunctionType:
                return value
            copy = self._followed(function)
            return value if copy is function else MethodType(copy, value.__self__)
        key = id(value)
        copied = self._copies.get(key)
        if copied is not None and copied[2] is value.__code__:
            return copied[1]
        code = self._code_of(value)
        if code is value.__code__:
            return value
        copy, copies = _copy(value, code), self._copies
        copies[key] = weakref.ref(value, lambda _: copies.pop(key, None)), copy, value.__code__
        return copy

    def _code_of(self, function: FunctionType) -> CodeType:
        old = function.__code__
        known = self._codes.get(id(old))
        if known is not None:
            return known[1]
        new = old
        if not _has_sites(old) and any(function.__globals__ is home for home in self._homes):
            try:
                new = with_sites(old, function.__globals__, self._site)
            except NoSourceError as error:
                logger.info("`%s` is called as it is: %s", function.__qualname__, error)
        if len(self._codes) >= _MOST_CODES:  # of functions that are made over and over
            self._codes.clear()
        self._codes[id(old)] = old, new
        return new

    # -- telling ---------------------------------------------------------------------------------

    def named(self) -> dict[str, WatchedModel]:
        """The models that are alive, by their names."""
        with self._lock:
            alive = list(self._known.values())
            return {name: each for name, each in self._names.items() if each in alive}

    def report(self) -> AccelerationReport:
        """Say what became of each model."""
        models = tuple(watched.report(name) for name, watched in self.named().items())
        notes = self._notes
        if not models and not notes:
            asked = dict.fromkeys(
                f"`{place.expression}.{place.method}`"
                for place in self._places
                if place.method in ASKING
            )
            looked = ", ".join(list(asked)[:_MOST_NAMED]) or "what it calls"
            notes = (f"no model was seen so far at {looked}",)
        return AccelerationReport(self._name, models, notes)

    def refresh(self) -> None:
        """Forget all Predictors and start over, also with models that were given up."""
        for watched in self.named().values():
            watched.refresh()

    def renew_lock(self) -> None:
        self._lock = threading.Lock()


_accelerations: weakref.WeakSet[_Acceleration] = weakref.WeakSet()


class _Predictors(Mapping[str, Predictor]):
    """The Predictors that answer or are being compared, as they are when it is looked at."""

    def __init__(self, acceleration: _Acceleration) -> None:
        self._acceleration = acceleration

    def _now(self) -> dict[str, Predictor]:
        named = self._acceleration.named()
        return {name: each.predictor for name, each in named.items() if each.predictor is not None}

    def __getitem__(self, name: str) -> Predictor:
        return self._now()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._now())

    def __len__(self) -> int:
        return len(self._now())

    def __repr__(self) -> str:
        return repr(self._now())


_all_watched: list[tuple[Options, weakref.WeakValueDictionary[int, WatchedModel]]] = []
_all_watched_lock = threading.Lock()


def _shared(model: Any, name: str, options: Options, example: Any) -> WatchedModel:
    """The one WatchedModel of a model for all functions with the same options."""
    with _all_watched_lock:
        same = (watched_of for known, watched_of in _all_watched if known == options)
        watched_of = next(same, None)
        if watched_of is None:
            watched_of = weakref.WeakValueDictionary()
            _all_watched.append((options, watched_of))
        watched = watched_of.get(id(model))
        if watched is None or not watched.is_of(model):
            watched = watched_of[id(model)] = WatchedModel(model, name, options, example)
        return watched


def _changing(method: Callable[..., Any], model: Any) -> Callable[..., Any]:
    """Call a method that changes its model, and tell all functions that ask it."""

    def change(*arguments: Any, **named: Any) -> Any:
        try:
            return method(*arguments, **named)
        finally:
            for _, watched_of in list(_all_watched):
                watched = watched_of.get(id(model))
                if watched is not None and watched.is_of(model):
                    watched.changed(f"its `{method.__name__}` was called")

    return change


def _copy(function: FunctionType, code: CodeType) -> FunctionType:
    """A function of the same namespaces with another code."""
    copy = FunctionType(
        code, function.__globals__, function.__name__, function.__defaults__, function.__closure__
    )
    copy.__kwdefaults__ = function.__kwdefaults__
    functools.update_wrapper(copy, function, updated=())
    del copy.__wrapped__  # type: ignore[attr-defined]  # it wraps nothing
    copy.__dict__.update(function.__dict__)
    return copy


def _has_sites(code: CodeType) -> bool:
    return any(
        isinstance(constant, _Site) or (isinstance(constant, CodeType) and _has_sites(constant))
        for constant in code.co_consts
    )


def _was_handed_on(function: FunctionType) -> bool:
    """Whether decorators below this one have seen the function that this one is given.

    ``@app.post("/score")`` gives it back as it is: the app has the function already, which must therefore be
    changed itself. While a function is being decorated nobody else has it.
    """
    inner: Any = inspect.unwrap(function)
    try:
        above = decorators(inner.__code__, inner.__globals__)
    except (AttributeError, NoSourceError):
        return False
    ours = [i for i, item in enumerate(above) if _is_accelerate(item, inner.__globals__)]
    return bool(ours) and ours[-1] < len(above) - 1


def _is_accelerate(decorator: ast.expr, namespace: dict[str, Any]) -> bool:
    if isinstance(decorator, ast.Call):
        decorator = decorator.func
    names = ast.unparse(decorator).split(".")
    value = namespace.get(names[0])
    for name in names[1:]:
        value = getattr(value, name, None)
    return value is accelerate


def _renew_locks() -> None:
    global _all_watched_lock
    _all_watched_lock = threading.Lock()
    for acceleration in list(_accelerations):
        acceleration.renew_lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks)
