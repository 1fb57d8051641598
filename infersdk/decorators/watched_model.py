"""One model that an accelerated function asks, on its way to a Predictor.

::

    watching    the model answers; rows of its calls are kept
    converting  the model answers; a thread converts it, with these rows as the example
    comparing   both answer, the model's answer is given, the two are compared
    converted   the Predictor answers
    original    the model answers for good; the reason says why

Each method, and each form of rows (`answer_check`), is compared by itself; the model is ``converted`` with the first
of them. Whatever is not sure is asked of the model itself, with the arguments as they came: a form that was not
compared, more arguments than the rows, rows that the Predictor refuses. An answer that is too far off, or errors
that come again, make the model ``original``, and one warning is logged.

A model is held weakly. When it is gone, so is what is known about it, before another object can have its id.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Hashable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from infersdk.convert import registry
from infersdk.decorators.acceleration_report import ModelReport, State
from infersdk.decorators.answer_check import (
    AnswerCheck,
    example_of,
    form_of,
    is_given,
    joint,
    kept,
    name_of,
    size_bytes,
)
from infersdk.decorators.background import in_background
from infersdk.decorators.call_sites import CALL
from infersdk.decorators.model_mark import mark_of
from infersdk.errors import (
    DeadlineError,
    InferSDKError,
    InputError,
    OverloadedError,
)
from infersdk.options import Batching, Execution
from infersdk.runtime import Predictor

__all__ = ["Asked", "Options", "WatchedModel", "is_model"]

logger = logging.getLogger("infersdk.accelerate")

EXAMPLE_CALLS = 20
"""Calls whose rows are the example, where none was given."""

NEW_FORM_CALLS = 5
"""Comparisons of a form of rows that comes when others were compared already."""

_MOST_FORMS = 64
_MOST_REFUSED = 5
"""Calls that the Predictor refused and the model answered, before it is converted anew with their rows."""

_MOST_CONVERSIONS = 3
_MOST_KEPT_BYTES = 64 * 2**20
_LASTING_BYTES = 8 * 2**20
"""Rows of the example that are kept, until the model is converted and after it."""

_MOST_FAILURES = 3

_LOOK_S = 1.0
"""How often to look whether a model was changed in place."""

_MOST_CHANGES = 3
_CHANGES_S = 600.0
"""A model that is changed more often than so many times in so many seconds is left as it is."""

_HARMLESS = frozenset({"batch_size", "check_input", "show_progress_bar", "verbose"})
"""Named arguments that change no answer."""

# What our own code may raise. A signal's handler raises anything else, wherever the thread is just then.
_ERRORS = (
    InferSDKError,
    ArithmeticError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)

_not_models: set[type] = set()
_MOST_TYPES = 4096

_converting = threading.Lock()
"""One conversion at a time: each takes all cores for a while."""


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for with :func:`infersdk.accelerate`."""

    shadow_calls: int
    background: bool
    execution: Execution | None
    batching: Batching | None


def is_model(value: Any) -> bool:
    """Whether a converter knows the object's type; asked once for each type."""
    kind = type(value)
    if kind in _not_models:
        return False
    modules = {base.__module__.partition(".")[0] for base in kind.__mro__}
    if not modules <= sys.stdlib_module_names:
        with suppress(Exception):  # objects that stand for others raise what they like
            registry.find(value)
            return True
    if len(_not_models) >= _MOST_TYPES:
        _not_models.clear()
    _not_models.add(kind)
    return False


class _Method:
    """One method of a model and of its Predictor, and the forms of rows in which they were compared."""

    __slots__ = ("agreed", "ask", "check", "proven", "ruled_out")

    def __init__(self, ask: Callable[[Any], Any], check: AnswerCheck) -> None:
        self.ask = ask
        self.check = check
        self.proven: set[Hashable] = set()
        self.agreed: dict[Hashable, int] = {}
        self.ruled_out: set[Hashable] = set()


class WatchedModel:
    """What is known about one model.

    Parameters
    ----------
    model : object
        Held weakly, where its class allows that.
    name : str
        In messages.
    options : Options
    example : rows, optional
        To convert it with at once.
    """

    def __init__(self, model: Any, name: str, options: Options, example: Any = None) -> None:
        self._model: Callable[[], Any]
        try:
            self._model = weakref.ref(model)
        except TypeError:
            self._model = lambda: model
        self.name = name
        self.kind = registry.type_name(model)
        self._options = options
        self._given = example
        self._has_training = isinstance(getattr(model, "training", None), bool)
        self._changes: list[float] = []
        self._lock = threading.RLock()
        self._start_over("")
        _watched.add(self)

    def _start_over(self, reason: str) -> None:
        self.state: State = "watching"
        self.reason = reason
        self.predictor: Predictor | None = None
        self._methods: dict[str, _Method] = {}
        self._calls: list[Any] = []
        self._kept_bytes = 0
        self._n_calls = self._n_odd = self._n_conversions = self._n_refused = 0
        self._comparisons = self._mismatches = self._refused = self._failures = 0
        self._mark: Hashable = None
        self._look_at = 0.0
        # What an earlier conversion finds is not for this start any more.
        self._start = object()

    def is_of(self, model: Any) -> bool:
        """Whether this is about the very object."""
        return self._model() is model

    # -- where the function asks -----------------------------------------------------------------

    def asked(self, model: Any, name: str) -> Any:
        """Return what is called in place of a method of the model, or of the model itself."""
        known = name in self._methods
        if (not known and self.state != "watching") or (self._has_training and model.training):
            return model if name == CALL else getattr(model, name)
        if name != CALL and (not known or name in getattr(model, "__dict__", ())):
            original = getattr(model, name)  # its AttributeError comes where it always came
            if known:
                return original  # somebody has put another one there
        return Asked(self, model, name)

    def method(self, model: Any, name: str) -> _Method | None:
        """Return what stands for a method now, if the model is what it was."""
        if self._look_at < time.monotonic():
            self._look_at = time.monotonic() + _LOOK_S
            if self._is_another(model):
                self.changed("the model was changed")
        return self._methods.get(name)

    def _is_another(self, model: Any) -> bool:
        """Whether the model was changed in place since it was converted."""
        try:
            return self.predictor is not None and mark_of(model) != self._mark
        except _ERRORS:
            return False  # it cannot be told

    def changed(self, reason: str) -> None:
        """Forget the Predictor, as the model answers otherwise now."""
        now = time.monotonic()
        with self._lock:
            if self.state == "original":
                return
            self._changes = [at for at in self._changes if now - at < _CHANGES_S]
            self._changes.append(now)
            if len(self._changes) > _MOST_CHANGES:
                self._give_up("the model is changed again and again")
            else:
                self._start_over(reason)

    def refresh(self) -> None:
        """Start over, whatever has happened."""
        with self._lock:
            self._changes = []
            self._start_over("")

    # -- calls that are not answered at once -----------------------------------------------------

    def answer(
        self, model: Any, name: str, arguments: tuple[Any, ...], named: dict[str, Any]
    ) -> Any:
        """Answer by the model itself where anything else is not sure, and learn from it."""
        original = model if name == CALL else getattr(model, name)
        call = partial(original, *arguments, **named)
        rows = _rows(name, arguments, named)
        try:
            form = None if rows is None else form_of(rows)
            hash(form)
        except _ERRORS:  # containers of other kinds than they seem to be
            form = None
        if form is None:
            return call()
        method = self.method(model, name)
        if method is not None:
            if form in method.proven:
                return self._served(method, rows, call)
            if form in method.ruled_out:
                return call()
            theirs, ours = self._both(method, rows, call)
            if ours is not None:
                with self._lock:
                    if self._methods.get(name) is method:
                        self._judge(method, form, model, name, rows, ours, theirs)
            return theirs
        if self.state != "watching":
            return call()
        own = _kept(rows)  # before the model, which may write to them
        answer = call()
        if not is_given(answer):
            self._watch_odd(name, answer)
        elif own is not None:
            start = self._watch(own)
            if start is not None:
                self._begin(start)
        return answer

    def _served(self, method: _Method, rows: Any, call: Callable[[], Any]) -> Any:
        """Answer by the Predictor, and by the model where that fails."""
        try:
            return method.ask(rows)
        except InputError:
            own = _kept(rows)
            answer = call()
            self._was_refused(own)
            return answer
        except (DeadlineError, OverloadedError) as error:
            if self._options.batching is not None:
                raise  # these limits were asked for
            self._failed(method, error)
        except _ERRORS as error:
            self._failed(method, error)
        return call()

    def _both(self, method: _Method, rows: Any, call: Callable[[], Any]) -> tuple[Any, Any]:
        """The model's answer and the Predictor's, which is None where it has none."""
        try:
            # First: it never writes to its rows, and a model may.
            ours = method.ask(rows)
        except InputError:
            own = _kept(rows)
            theirs = call()
            self._was_refused(own)
            return theirs, None
        except _ERRORS as error:
            self._failed(method, error)
            return call(), None
        return call(), ours

    def _judge(
        self,
        method: _Method,
        form: Hashable,
        model: Any,
        name: str,
        rows: Any,
        ours: Any,
        theirs: Any,
    ) -> None:
        self._comparisons += 1
        difference = ""
        try:
            other = method.check.other_kind(ours, theirs)
            if not other:
                difference = method.check.difference(ours, theirs, rows)
        except _ERRORS as error:  # answers that cannot be compared
            other = f"the answers cannot be compared: {type(error).__name__}: {error}"
        if difference and self._is_another(model):
            self.changed("the model was changed")
        elif difference:
            self._mismatches += 1
            self._give_up(f"`{name}` of its Predictor answered {difference}")
        elif other:
            self._mismatches += 1
            self._rule_out(method, form)
            self.reason = f"`{name}` is left to the model for such rows: {other}"
            logger.warning("`%s`: %s", self.name, self.reason)
        else:
            self._agree(method, form)

    def _agree(self, method: _Method, form: Hashable) -> None:
        agreed = method.agreed.get(form, 0) + 1
        needed = self._options.shadow_calls
        if method.proven:
            needed = min(needed, NEW_FORM_CALLS)
        if agreed < needed:
            method.agreed[form] = agreed
        elif len(method.proven) >= _MOST_FORMS:
            self._rule_out(method, form)
        else:
            method.agreed.pop(form, None)
            method.proven.add(form)
            if self.state == "comparing":
                self.state = "converted"
                logger.info("`%s`: compared; its Predictor answers from now on", self.name)

    def _rule_out(self, method: _Method, form: Hashable) -> None:
        if len(method.ruled_out) < 16 * _MOST_FORMS:
            method.ruled_out.add(form)

    def _was_refused(self, rows: Any) -> None:
        """The model answers rows that the Predictor does not: the example was too narrow."""
        with self._lock:
            self._refused += 1
            if self.predictor is None or self._n_conversions >= _MOST_CONVERSIONS:
                return
            if rows is None or not self._calls or joint(rows) != joint(self._calls[0]):
                return
            self._keep(rows)
            self._n_refused += 1
            if self._n_refused < _MOST_REFUSED:
                return
            self._n_refused = 0
            self._n_conversions += 1
            # This Predictor goes on until there is a better one.
            start = self._start = object()
        self._begin(start)

    def _failed(self, method: _Method, error: BaseException) -> None:
        logger.info("`%s`: its Predictor failed; the model answers", self.name, exc_info=error)
        with self._lock:
            self._failures += 1
            if self._failures >= _MOST_FAILURES and self.state != "original":
                self._give_up(f"its Predictor failed: {type(error).__name__}: {error}")

    def _give_up(self, reason: str) -> None:
        self.state = "original"
        self.reason = reason
        self._methods = {}
        self.predictor = None
        self._calls = []
        self._start = object()
        logger.warning("`%s` goes on to be answered by the model itself: %s", self.name, reason)

    # -- converting ------------------------------------------------------------------------------

    def _watch(self, rows: Any) -> object | None:
        """Keep rows of a call; for the one call that is to begin the conversion, what it begins."""
        with self._lock:
            if self.state != "watching":
                return None
            self._n_calls += 1
            if self._given is None:
                self._keep(rows)
                if self._n_calls < min(EXAMPLE_CALLS, self._options.shadow_calls):
                    return None
            self.state = "converting"
            self._n_conversions += 1
            return self._start

    def _watch_odd(self, name: str, answer: Any) -> None:
        """Count answers that no Predictor gives: to convert the model would be of no use."""
        with self._lock:
            self._n_odd += 1
            if self.state == "watching" and self._n_odd >= EXAMPLE_CALLS and not self._n_calls:
                self._give_up(f"`{name}` answers with a {name_of(answer)}, as no Predictor does")

    def _keep(self, rows: Any) -> None:
        self._kept_bytes += size_bytes(rows)
        if not self._calls or self._kept_bytes <= _MOST_KEPT_BYTES:
            self._calls.append(rows)

    def _begin(self, start: object) -> None:
        if not self._options.background:
            self._convert(start)
            return
        try:
            in_background(partial(self._convert, start), name=f"infersdk-accelerate-{self.name}")
        except RuntimeError:  # no thread to be had
            logger.warning("`%s`: no thread to convert it in", self.name, exc_info=True)
            self.stop_waiting()

    def _convert(self, start: object) -> None:
        from infersdk.api import load

        model = self._model()
        if model is None:
            return
        predictor, reason, mark = None, "", None
        try:
            with _converting:
                mark = mark_of(model)
                predictor = load(
                    model,
                    example=example_of(self._calls) if self._given is None else self._given,
                    name=self.name,
                    execution=self._options.execution,
                    batching=self._options.batching,
                )
            if mark_of(model) != mark:
                self.changed("the model was changed while it was converted")
            elif predictor.plan.kind == "native":
                reason = predictor.plan.reason
        except Exception as error:  # converters run over models that nobody has tried before
            logger.info("`%s` cannot be converted", self.name, exc_info=True)
            reason = f"it cannot be converted: {type(error).__name__}: {error}"
        with self._lock:
            if self._start is not start:
                return
            if reason or predictor is None:
                if self.predictor is None:
                    self._give_up(reason)
                return
            self.predictor, self._mark = predictor, mark
            self.state, self.reason = "comparing", ""
            if self._kept_bytes > _LASTING_BYTES:
                self._calls = []
            self._methods = {
                method.name: _Method(
                    predictor if method.name == CALL else getattr(predictor, method.name),
                    AnswerCheck(predictor.signature),
                )
                for method in predictor.signature.methods
            }

    def stop_waiting(self) -> None:
        """Convert at the next call, as the thread that was to do it is none of this process."""
        self._lock = threading.RLock()
        if self.state == "converting":
            self.state = "watching"
            self._n_conversions -= 1
            self._start = object()

    # -- telling ---------------------------------------------------------------------------------

    def report(self, name: str) -> ModelReport:
        """Describe the model, which a function knows by `name`."""
        with self._lock:
            predictor, methods, reason = self.predictor, self._methods, self.reason
            if not reason and self.state == "watching":
                reason = f"{self._n_calls} calls so far"
            return ModelReport(
                name=name,
                kind=self.kind,
                state=self.state,
                reason=reason,
                plan=None if predictor is None else predictor.plan,
                parity=None if predictor is None else predictor.parity,
                comparisons=self._comparisons,
                mismatches=self._mismatches,
                refused=self._refused,
                failures=self._failures,
                max_abs_error=max(
                    (each.check.max_abs_error for each in methods.values()), default=0.0
                ),
                methods=tuple(sorted(key for key, each in methods.items() if each.proven)),
            )


class Asked:
    """A method of a model, looked up in an accelerated function; or the model, called there."""

    __slots__ = ("_model", "_name", "_watched")

    def __init__(self, watched: WatchedModel, model: Any, name: str) -> None:
        self._watched = watched
        self._model = model
        self._name = name

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        # Looked up at each call: a function may keep this as long as it likes.
        method = self._watched.method(self._model, self._name)
        if method is not None and len(arguments) == 1 and not named:
            rows = arguments[0]
            try:
                if form_of(rows) in method.proven:
                    return method.ask(rows)
            except _ERRORS:
                pass  # once more, where errors are dealt with
        return self._watched.answer(self._model, self._name, arguments, named)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original(), name)

    def __repr__(self) -> str:
        return repr(self._original())

    def __reduce__(self) -> Any:
        return (
            (_itself, (self._model,))
            if self._name == CALL
            else (getattr, (self._model, self._name))
        )

    def _original(self) -> Any:
        return self._model if self._name == CALL else getattr(self._model, self._name)


def _itself(model: Any) -> Any:
    return model


def _rows(name: str, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """The rows of a call; None where it has more to say than those."""
    if named:
        named = {key: value for key, value in named.items() if key not in _HARMLESS}
    if name == CALL and not arguments and named:
        return named  # tensors by name
    if list(named) == ["X"] and not arguments:
        return named["X"]
    if named or not arguments:
        return None
    if len(arguments) == 1:
        return arguments[0]
    return arguments if name == CALL else None


def _kept(rows: Any) -> Any:
    try:
        return kept(rows)
    except _ERRORS:
        return None


_watched: weakref.WeakSet[WatchedModel] = weakref.WeakSet()


def _forget_the_parents_threads() -> None:
    """In the child of a fork: conversions that were under way go on in the parent only."""
    global _converting
    _converting = threading.Lock()
    for watched in list(_watched):
        watched.stop_waiting()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_the_parents_threads)
