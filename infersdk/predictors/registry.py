"""Predictors: the models of one app, opened once in each process.

Opening is guarded by one lock per process; a child of a fork gets a new one, since its parent's may be taken
for ever. What a parent had opened stays usable in its children (sessions rebuild at their first run);
:meth:`Predictors.open` in the child warms them.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import threading
import time
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Literal, Self

from infersdk.errors import ClosedError, UnknownModelError
from infersdk.monitor.snapshot import ModelMetrics
from infersdk.monitor.sources import add_source
from infersdk.predictors.config import ModelConfig
from infersdk.predictors.server_process import (
    after_fork_in_workers,
    before_forked_child_ends,
    role,
)
from infersdk.runtime import Predictor

__all__ = ["Opening", "Predictors", "all_predictors", "override"]

State = Literal["new", "opening", "open", "failed", "closed"]
Opening = Literal["auto", "now", "lazy"]

logger = logging.getLogger("infersdk")


class Predictors(Mapping[str, Predictor]):
    """The models of one app, by name.

    ``predictors["churn"]`` opens the model if this process has not done so yet. Iterating, counting and
    ``in`` open nothing. Safe to use from any number of threads, and in the child of a fork.

    Parameters
    ----------
    models : Mapping of str to object, optional
        Name to a :class:`ModelConfig`, a dict of its parameters, or just its source.
    opening : {"auto", "now", "lazy"}
        When :meth:`prepare` opens the models. "auto": if this process is a server's worker, or in the
        workers that a preloading server forks; elsewhere at first use. "now": at once. "lazy": at first
        use.

    Raises
    ------
    TypeError, ValueError
        A name or a setting is not valid.
    """

    def __init__(
        self, models: Mapping[str, Any] | None = None, *, opening: Opening = "auto"
    ) -> None:
        if opening not in ("auto", "now", "lazy"):
            raise ValueError(f"Expected opening to be 'auto', 'now' or 'lazy', got {opening!r}")
        self.opening = opening
        self._configs: dict[str, ModelConfig] = {}
        self._open: dict[str, Predictor] = {}
        self._owned: set[str] = set()
        self._unloaded: set[str] = set()
        self._errors: dict[str, str] = {}
        self._overrides: dict[str, Predictor] = {}
        self._lock = threading.RLock()
        self._state: State = "new"
        self._warm: dict[str, int] = {}
        self._prepared = False
        for name, source in (models or {}).items():
            self.add(name, source)
        _all[id(self)] = self
        add_source(self)

    # -- declaring -------------------------------------------------------------------------------

    def add(self, name: str, source: Any) -> None:
        """Declare a model.

        Parameters
        ----------
        name : str
            Letters, digits, ``_``, ``-`` and ``.``; it is part of URLs and metrics.
        source : ModelConfig, dict or source
            As for the class.

        Raises
        ------
        TypeError, ValueError
            The name is taken or not valid, or a setting is not.
        ClosedError
            The Predictors were closed.
        """
        if not isinstance(name, str):
            raise TypeError(f"Expected a model's name to be a str, got {type(name).__name__}")
        if not name or not all(char.isalnum() or char in "_-." for char in name) or name[0] == ".":
            raise ValueError(
                f"Expected a model's name of letters, digits, `_`, `-` and `.`, got {name!r}"
            )
        if name in self._configs:
            raise ValueError(f"A model `{name}` is declared already; give this one another name")
        if self._state == "closed":
            raise ClosedError(f"The models of this app are closed; `{name}` cannot be added")
        try:
            self._configs[name] = ModelConfig.of(source)
        except (TypeError, ValueError) as error:
            raise type(error)(f"Model `{name}`: {error}") from error
        if self._state == "open":
            self._state = "new"  # there is one more to open

    def config(self, name: str) -> ModelConfig:
        """Return what was declared.

        Raises
        ------
        UnknownModelError
            No such model was declared.
        """
        config = self._configs.get(name)
        if config is None:
            raise self._unknown(name)
        return config

    # -- using -----------------------------------------------------------------------------------

    def __getitem__(self, name: str) -> Predictor:
        predictor = self._open.get(name)
        if predictor is None or _overrides or self._overrides or self._state == "closed":
            predictor = self._find(name)
        return predictor

    def _find(self, name: str) -> Predictor:
        if name not in self._configs:
            raise self._unknown(name)
        replaced = self._overrides.get(name) or _overrides.get(name)
        if replaced is not None:
            return replaced
        if self._state == "closed":
            raise ClosedError(f"Model `{name}` is closed, as its app is shutting down")
        predictor = self._open.get(name)
        if predictor is not None:
            return predictor
        with self._lock:
            if name in self._unloaded:
                raise ClosedError(f"Model `{name}` was unloaded; load it to use it")
            return self._open_one(name)

    def _unknown(self, name: str) -> UnknownModelError:
        known = ", ".join(f"`{known}`" for known in self._configs)
        return UnknownModelError(
            f"No model `{name}` is declared; there is {known}"
            if known
            else f"No model `{name}` is declared, nor any other"
        )

    def __iter__(self) -> Iterator[str]:
        return iter(self._configs)

    def __len__(self) -> int:
        return len(self._configs)

    def __contains__(self, name: object) -> bool:
        return name in self._configs

    # A Mapping's would open all models to compare them.
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    # -- opening and closing ---------------------------------------------------------------------

    def prepare(self) -> None:
        """Open the models here, or in the workers of this server, or at first use: see ``opening``.

        Calling it again does nothing.

        Raises
        ------
        Exception
            As :meth:`open`, where they are opened here.
        """
        if self._prepared or self.opening == "lazy":
            return
        is_worker = role() == "worker"
        if not is_worker:
            after_fork_in_workers(self.open)
        if is_worker or self.opening == "now":
            self._prepared = True
            self.open()

    def open(self) -> None:
        """Open all models and warm them up. Calling it again, in the same process, does nothing.

        Raises
        ------
        ClosedError
            They were closed.
        Exception
            What opening a model raised, with the model's name as a note. The other models stay open, and
            calling it again tries again.
        """
        with self._lock:
            if self._state == "closed":
                raise ClosedError("The models of this app are closed")
            self._state = "opening"
            began = time.perf_counter()
            opened = 0
            try:
                for name in self._configs:
                    if name in self._overrides or name in _overrides or name in self._unloaded:
                        continue
                    opened += self._warm.get(name) != os.getpid()
                    self._warm_one(name, self._open_one(name))
            except BaseException:
                self._state = "failed"
                raise
            self._state = "open"
        if opened:
            logger.info(
                "opened %d %s in %.1f s",
                opened,
                "model" if opened == 1 else "models",
                time.perf_counter() - began,
            )

    async def aopen(self) -> None:
        """Open all models and warm them up, in a thread: the event loop stays free.

        Raises
        ------
        Exception
            As :meth:`open`.
        """
        await asyncio.get_running_loop().run_in_executor(None, self.open)

    def close(self) -> None:
        """Take no more calls, let running ones finish, free the models. Again it does nothing.

        Raises
        ------
        Exception
            What closing a model raised; the others are closed first.
        """
        with self._lock:
            self._state = "closed"
            left, self._open = self._open, {}
            errors = []
            for name, predictor in left.items():
                if name in self._owned:
                    try:
                        predictor.close()
                    except Exception as error:
                        errors.append(error)
        if errors:
            raise errors[0]

    def load(self, name: str) -> Predictor:
        """Open one model and warm it up, also one that was unloaded.

        Parameters
        ----------
        name : str

        Raises
        ------
        UnknownModelError
            No such model was declared.
        ClosedError
            All of them were closed.
        Exception
            What opening it raised.
        """
        self.config(name)
        with self._lock:
            predictor = self._open_one(name)
            self._unloaded.discard(name)
            self._warm_one(name, predictor)
            return predictor

    def unload(self, name: str) -> None:
        """Close one model: running calls finish, later ones are refused with ClosedError until :meth:`load`.

        Parameters
        ----------
        name : str

        Raises
        ------
        UnknownModelError
            No such model was declared.
        """
        self.config(name)
        with self._lock:
            self._unloaded.add(name)
            self._warm.pop(name, None)
            self._errors.pop(name, None)
            predictor = self._open.pop(name, None)
            is_owned = name in self._owned
            self._owned.discard(name)
        if predictor is not None and is_owned:
            predictor.close()

    def renew(self) -> None:
        """Begin again after :meth:`close`, with models that are to be opened. Otherwise it does nothing.

        For hosts that may start one app several times in a process, as test clients do.
        """
        with self._lock:
            if self._state == "closed":
                self._owned.clear()
                self._unloaded.clear()
                self._warm.clear()
                self._errors.clear()
                self._state = "new"

    async def aclose(self) -> None:
        """Close them in a thread, so that calls of the event loop can finish.

        Raises
        ------
        Exception
            As :meth:`close`.
        """
        await asyncio.get_running_loop().run_in_executor(None, self.close)

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _open_one(self, name: str) -> Predictor:
        """Open one model; the lock is held."""
        predictor = self._open.get(name)
        if predictor is not None:
            return predictor
        if self._state == "closed":
            raise ClosedError(f"Model `{name}` is closed, as its app is shutting down")
        try:
            predictor, owned = self._configs[name].open(name)
        except BaseException as error:
            error.add_note(f"while opening model `{name}`")
            self._errors[name] = type(
                error
            ).__name__  # no more: a traceback would keep all of this alive
            raise
        self._errors.pop(name, None)
        if owned:
            self._owned.add(name)
        self._open[name] = predictor
        _close_at_exit()
        return predictor

    def _warm_one(self, name: str, predictor: Predictor) -> None:
        pid = os.getpid()
        if self._warm.get(name) == pid:
            return
        try:
            predictor.warm_up(self._configs[name].warm_up_rows)
        except BaseException as error:
            error.add_note(f"while warming up model `{name}`")
            self._errors[name] = type(
                error
            ).__name__  # no more: a traceback would keep all of this alive
            raise
        self._errors.pop(name, None)
        self._warm[name] = pid

    # -- health ----------------------------------------------------------------------------------

    def metrics(self) -> list[ModelMetrics]:
        """Copy the counts of every model that is open in this process.

        Returns
        -------
        list of ModelMetrics
            In the order in which the models were declared.
        """
        found = []
        for name in self._configs:
            predictor = self._overrides.get(name) or _overrides.get(name) or self._open.get(name)
            if predictor is not None:
                found.append(replace(predictor.metrics(), model=name))
        return found

    def is_open(self, name: str) -> bool:
        """Whether asking for the model would open nothing."""
        return name in self._open or name in self._overrides or name in _overrides

    @property
    def state(self) -> State:
        """ "new", "opening", "open" (all of them, warm), "failed" or "closed"."""
        return self._state

    @property
    def is_ready(self) -> bool:
        """Whether every model is open and warm."""
        return self._state == "open"

    def health(self) -> dict[str, Any]:
        """Say how the models are.

        Returns
        -------
        dict
            ``state``, and under ``models`` for each name its ``state`` ("new", "open", "unloaded" or "failed") and
            where it failed the ``error``: its class only, as messages may hold paths.
        """
        models: dict[str, dict[str, str]] = {}
        for name in self._configs:
            error = self._errors.get(name)
            if error is not None:
                models[name] = {"state": "failed", "error": error}
            elif self.is_open(name):
                models[name] = {"state": "open"}
            elif name in self._unloaded:
                models[name] = {"state": "unloaded"}
            else:
                models[name] = {"state": "new"}
        return {"state": self._state, "models": models}

    # -- for tests -------------------------------------------------------------------------------

    @contextmanager
    def override(self, name: str, predictor: Predictor) -> Iterator[None]:
        """Let another Predictor answer for a model meanwhile; the model itself is not opened.

        Parameters
        ----------
        name : str
            Of a declared model.
        predictor : Predictor
            It is not closed afterwards.

        Raises
        ------
        UnknownModelError
            No such model was declared.
        """
        self.config(name)
        before = self._overrides.get(name)
        self._overrides[name] = predictor
        try:
            yield
        finally:
            if before is None:
                self._overrides.pop(name, None)
            else:
                self._overrides[name] = before

    def __repr__(self) -> str:
        return f"<Predictors {', '.join(self._configs) or 'of no model'}: {self._state}>"

    def _in_child(self) -> None:
        self._lock = threading.RLock()
        if self._state in ("opening", "open"):
            self._state = "new"  # not warm in this process


_overrides: dict[str, Predictor] = {}
_all: weakref.WeakValueDictionary[int, Predictors] = weakref.WeakValueDictionary()


def all_predictors() -> list[Predictors]:
    """Those of this process that are in use, oldest first."""
    return [predictors for predictors in list(_all.values()) if predictors.state != "closed"]


@contextmanager
def override(name: str, predictor: Predictor) -> Iterator[None]:
    """Let another Predictor answer for a model in every app of this process, for tests.

    Apps that are made meanwhile are included, and their model files need not exist.

    Parameters
    ----------
    name : str
    predictor : Predictor
        It is not closed afterwards.
    """
    before = _overrides.get(name)
    _overrides[name] = predictor
    try:
        yield
    finally:
        if before is None:
            _overrides.pop(name, None)
        else:
            _overrides[name] = before


def _renew_locks() -> None:
    for predictors in list(_all.values()):
        predictors._in_child()


def _close_at_exit() -> None:
    global _closes_in_pid
    if _closes_in_pid != os.getpid():
        _closes_in_pid = os.getpid()
        before_forked_child_ends(_close_all)


_closes_in_pid = 0


def _close_all() -> None:
    """At the end of a worker: running calls finish, and threads of the models end in order."""
    for predictors in list(_all.values()):
        if predictors._open:
            try:
                predictors.close()
            except Exception:
                logger.exception("closing the models failed")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks)
atexit.register(_close_all)
