"""What an app says about one of its models."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import Any

import infersdk.api as api
from infersdk.options import Batching, Execution
from infersdk.runtime import Predictor

__all__ = ["ModelConfig"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """One model of an app, and how it is to run.

    Parameters
    ----------
    source : path, model, Predictor or callable
        What :func:`infersdk.load` takes: a model file's path, or a trained model. A callable without
        arguments is called when the model is opened, and returns one of these or a Predictor: the way
        to fetch a file first, or to load with options that are not here. A Predictor that is given is
        the caller's: it is used, and not closed.
    example : rows, optional
        As for :func:`infersdk.load`.
    trust : bool or sequence of str
        As for :func:`infersdk.load`.
    execution : Execution, or a dict of its parameters, optional
    batching : Batching, or a dict of its parameters, optional
    warm_up_rows : rows, optional
        Rows like those of the first requests, run before the worker reports ready. By default neutral
        inputs of the model's shapes.
    methods : sequence of str, optional
        The methods that requests may ask for, the first where they do not say; by default all.

    Raises
    ------
    TypeError, ValueError
        A value is not one of these.
    """

    source: Any
    example: Any = None
    trust: bool | Sequence[str] = False
    execution: Execution | None = None
    batching: Batching | None = None
    warm_up_rows: Any = None
    methods: Sequence[str] | None = None

    def __post_init__(self) -> None:
        for name, kind in (("execution", Execution), ("batching", Batching)):
            value = getattr(self, name)
            if isinstance(value, Mapping):
                object.__setattr__(self, name, _options(kind, value, name))
            elif value is not None and not isinstance(value, kind):
                raise TypeError(
                    f"Expected {name} to be an infersdk.{kind.__name__} or a dict, "
                    f"got {type(value).__name__}"
                )
        if self.source is None:
            raise ValueError(
                "Expected a model's source, got None: pass the path of its file, a trained model, a "
                "Predictor or a function that returns one of them"
            )
        if self.methods is not None:
            names = (self.methods,) if isinstance(self.methods, str) else tuple(self.methods)
            if not names or not all(isinstance(name, str) for name in names):
                raise ValueError(f"Expected methods to be names, got {self.methods!r}")
            object.__setattr__(self, "methods", names)

    @classmethod
    def of(cls, value: Any) -> ModelConfig:
        """Make one from what an app's configuration holds.

        Parameters
        ----------
        value : ModelConfig, dict or source
            A dict with a ``source`` among its keys holds parameters of this class.

        Raises
        ------
        TypeError, ValueError
            As the class; also for a key that is unknown.
        """
        if isinstance(value, cls):
            return value
        if isinstance(value, Mapping):
            return cls(**_known(value, [item.name for item in fields(cls)], "a model's"))
        return cls(source=value)

    def open(self, name: str) -> tuple[Predictor, bool]:
        """Load the model.

        Parameters
        ----------
        name : str
            The model's, in messages.

        Returns
        -------
        Predictor
        bool
            Whether it was loaded here, and is to be closed by whoever asked for it.

        Raises
        ------
        TypeError
            A method that is to be answered is not the model's.
        Exception
            What :func:`infersdk.load` or the source raises.
        """
        source = self.source
        if callable(source) and not isinstance(source, Predictor) and _takes_nothing(source):
            source = source()
            owned = True
        else:
            owned = not isinstance(source, Predictor)
        if isinstance(source, Predictor):
            predictor = source
        else:
            predictor = api.load(
                os.fspath(source) if isinstance(source, os.PathLike) else source,
                example=self.example,
                name=name,
                trust=self.trust,
                execution=self.execution,
                batching=self.batching,
            )
        known = [method.name for method in predictor.signature.methods]
        for method in self.methods or ():
            if method not in known:
                if owned:
                    predictor.close()
                raise TypeError(
                    f"Model `{name}` has no method `{method}`; it has: {', '.join(known) or 'none'}"
                )
        return predictor, owned


def _takes_nothing(source: Callable[..., Any]) -> bool:
    """Whether it is a function to be called, rather than a model that can be called."""
    import inspect

    if not (inspect.isroutine(source) or hasattr(source, "func")):
        return False
    try:
        inspect.signature(source).bind()
    except (TypeError, ValueError):
        return False
    return True


def _options(kind: type[Any], values: Mapping[str, Any], name: str) -> Any:
    return kind(**_known(values, [item.name for item in fields(kind)], name))


def _known(values: Mapping[str, Any], names: Sequence[str], what: str) -> dict[str, Any]:
    """The values, if every key is a known name."""
    for key in values:
        if key not in names:
            close = get_close_matches(str(key), names, n=1)
            hint = f"; did you mean `{close[0]}`?" if close else f"; they are {', '.join(names)}"
            raise ValueError(f"`{key}` is none of {what} settings{hint}")
    if what == "a model's" and "source" not in values:
        raise ValueError(
            f"A model's settings need `source`, got only: {', '.join(values) or 'none'}"
        )
    return dict(values)
