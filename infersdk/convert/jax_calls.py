"""What a JAX model is, and how it is called: rows become arguments, and answers become arrays.

JAX has no class of models, so what counts as one is decided here: the modules of Flax and Equinox, what
JAX's own transformations return (``jax.jit(f)``, ``jax.vmap(f)``), their methods, and a
``functools.partial`` that binds any of these or an array of JAX to a function.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from infersdk.convert import array_answers
from infersdk.convert.array_answers import Answer
from infersdk.convert.jax_trace import branches
from infersdk.errors import ConversionError, UnsupportedModelError

__all__ = [
    "Layout",
    "PureModel",
    "as_numpy",
    "described",
    "is_jax",
    "is_unbound",
    "prepare",
    "serving",
    "take_apart",
    "to_arrays",
    "values_needed",
]

_MAKERS = ("jax", "jaxlib", "flax", "equinox")


@dataclass(frozen=True, slots=True)
class Layout:
    """How named arrays become the arguments of the model.

    Parameters
    ----------
    names : tuple of str
        One per array, in the graph's order: the parameters' names, or the keys of the one dict it takes.
    n_positional : int
        The first arrays are passed by position, the others by name.
    as_mapping : bool
        The model takes one dict holding every array.
    given_as : {"array", "tuple", "dict"}
        What the user's rows are.
    """

    names: tuple[str, ...]
    n_positional: int
    as_mapping: bool = False
    given_as: Literal["array", "tuple", "dict"] = "tuple"

    def call(self, function: Callable[..., Any], arrays: Sequence[Any]) -> Any:
        if self.as_mapping:
            return function(dict(zip(self.names, arrays, strict=True)))
        first, later = arrays[: self.n_positional], arrays[self.n_positional :]
        return function(*first, **dict(zip(self.names[self.n_positional :], later, strict=True)))

    def to_rows(self, arrays: Sequence[Any]) -> Any:
        """Return arrays in the container that the user's rows came in."""
        if self.given_as == "array":
            return arrays[0]
        return (
            tuple(arrays)
            if self.given_as == "tuple"
            else dict(zip(self.names, arrays, strict=True))
        )


class PureModel:
    """A model as a pure function, in inference mode, with the example it is studied on.

    Parameters
    ----------
    model : object
        As the user gave it; left as it is.
    layout : Layout
        How ``arrays`` are passed.
    arrays : tuple of numpy.ndarray
        The example, in the dtypes that JAX gives it.

    Attributes
    ----------
    n_training : int
        Parts of the model that are in training mode, which the function is not.
    """

    def __init__(self, model: Any, layout: Layout, arrays: tuple[np.ndarray, ...]) -> None:
        import jax

        self.layout = layout
        self.arrays = arrays
        self._model = model
        self._function, self.n_training = _pure(model)
        self._compiled: Callable[..., tuple[Any, ...]] | None = jax.jit(self.traced)
        self._answered: Answer | None = None

    def run(self, arrays: Sequence[Any]) -> Any:
        """What the model returns, computed as the model does by itself."""
        return self.layout.call(self._function, arrays)

    def traced(self, *arrays: Any) -> tuple[Any, ...]:
        """The arrays of the answer, in its own order; for JAX to trace."""
        return take_apart(self.run(arrays)).arrays

    def ask(self, arrays: Sequence[Any]) -> Any:
        """What the model returns, as numpy's arrays; compiled as a whole from the second time on."""
        if self._answered is None:
            # The model by itself, so that what it raises is its own.
            returned = self.run(arrays)
            with contextlib.suppress(UnsupportedModelError):
                self._answered = take_apart(returned)
            return as_numpy(returned)
        return self._answered.holding(self._values(arrays))

    def _values(self, arrays: Sequence[Any]) -> tuple[np.ndarray, ...]:
        """The arrays of the answer, compiled unless the model decides by values."""
        if self._compiled is not None:
            try:
                return tuple(map(np.asarray, self._compiled(*arrays)))
            except values_needed():
                self._compiled = None
        return tuple(map(np.asarray, self.traced(*arrays)))

    def branches(self) -> bool:
        """Whether the model decides by values what it does with all rows at once (``jax.lax.cond``)."""
        import jax

        try:
            traced = jax.make_jaxpr(self.traced)(*self.arrays)
        except values_needed():
            return True
        except Exception:  # it is nested, or does not run: the study says why
            return False
        return branches(traced.jaxpr)

    def shapes(self, arrays: Sequence[Any]) -> tuple[Any, ...] | None:
        """Shape and dtype of each array of the answer; None where the model does not take such rows."""
        import jax

        def loose(*given: Any) -> tuple[Any, ...]:
            returned = self.run(given)
            try:
                return take_apart(returned).arrays
            except UnsupportedModelError:
                leaves = jax.tree_util.tree_leaves(returned)
                return tuple(leaf for leaf in leaves if _is_tensor(leaf))

        try:
            if self._compiled is not None:
                try:
                    return tuple(jax.eval_shape(loose, *arrays))
                except values_needed():
                    self._compiled = None
            return loose(*arrays)
        except Exception:  # whatever the model raises on a shape that it was not written for
            return None

    def repeats(self) -> bool:
        """Whether one and the same copy of the model answers the same rows alike twice."""
        function = _rebuilt(self._model, _copied)
        few = tuple(array[:1] if array.ndim else array for array in self.arrays)
        try:
            self.layout.call(_rebuilt(self._model, _copied), few)
        except Exception:  # it takes the whole example only
            few = self.arrays
        first, second = (take_apart(self.layout.call(function, few)).arrays for _ in range(2))
        return all(
            np.array_equal(a, b, equal_nan=np.asarray(a).dtype.kind in "fc")
            for a, b in zip(map(np.asarray, first), map(np.asarray, second), strict=True)
        )


def is_jax(model: Any) -> bool:
    """Whether this is a model of JAX; reads the names of classes and modules, imports nothing."""
    kind = type(model)
    if isinstance(model, functools.partial) and kind.__module__ == "functools":
        return is_jax(model.func) or any(map(_holds_jax, (model.args, model.keywords)))
    if isinstance(model, types.MethodType):
        return _is_module(model.__self__)
    if isinstance(model, types.FunctionType):
        # What jax.vmap(f) returns bears the name of f; but its code stands in a file of JAX.
        return _package(str(model.__globals__.get("__name__", ""))) in _MAKERS
    return _is_module(model) or (
        _package(kind.__module__) in _MAKERS and callable(model) and not _is_array(model)
    )


def is_unbound(model: Any) -> bool:
    """Whether this is a linen module without its variables."""
    if isinstance(model, types.MethodType):
        return model.__name__ in ("apply", "init") or is_unbound(model.__self__)
    return _is_linen(model) and model.scope is None


def serving(model: Any) -> Callable[..., Any]:
    """Return what answers as the model does in inference mode, without touching the model's own flags.

    A module of Flax NNX that is in inference mode is returned as it is, else a copy of what it is now.
    """
    return _rebuilt(model, _evaluated)


def prepare(model: Any, rows: Any) -> PureModel:
    """Make a pure function of the model, and arrays of the example.

    Raises
    ------
    UnsupportedModelError
        A linen module comes without its variables.
    ConversionError
        The rows do not fit the model's parameters.
    """
    return PureModel(model, *to_arrays(model, rows))


def to_arrays(model: Any, rows: Any) -> tuple[Layout, tuple[np.ndarray, ...]]:
    """Read rows: one array, a tuple of them (positional), or a dict name to array.

    Returns
    -------
    layout : Layout
    arrays : tuple of numpy.ndarray
        In the dtypes that JAX would give them: float32 for float64, unless ``jax_enable_x64`` is set.

    Raises
    ------
    ConversionError
        The rows are of another kind, or do not fit the model's parameters.
    """
    layout, values = _layout(model, rows)
    return layout, tuple(map(_canonical, layout.names, values))


def take_apart(answer: Any) -> Answer:
    """Split what the model returned, or a dataclass of it, into arrays.

    Raises
    ------
    UnsupportedModelError
        It is nested, or holds something else than arrays.
    """
    if dataclasses.is_dataclass(answer) and not isinstance(answer, type) and not _is_tensor(answer):
        answer = {item.name: getattr(answer, item.name) for item in dataclasses.fields(answer)}
    return array_answers.take_apart(answer, _is_tensor)


def as_numpy(answer: Any) -> Any:
    """Give arrays of numpy, in the containers that the Predictor gives too."""
    try:
        flat = take_apart(answer)
    except UnsupportedModelError:
        import jax

        return jax.tree_util.tree_map(_as_array, answer)
    return flat.holding([_as_array(item) for item in flat.arrays])


def _as_array(value: Any) -> Any:
    """As an array of numpy; a random key, which has no values, as it is."""
    if str(getattr(value, "dtype", "")).startswith("key"):
        return value
    return np.asarray(value)


# -- models ----------------------------------------------------------------------------------------


def _pure(model: Any) -> tuple[Callable[..., Any], int]:
    """Return a function that builds the model anew in each call, so that it may be traced.

    Returns
    -------
    function : callable
        What a call writes into the model belongs to the call.
    n_training : int
        Parts that are in training mode.
    """
    parts: dict[int, Callable[[], Any]] = {}
    n_training = 0

    def collect(part: Any) -> Any:
        nonlocal n_training
        n_training += _n_training(part)
        copy = _copied(part)
        if _is_nnx(part):
            from flax import nnx

            definition, state = nnx.split(copy)
            parts[id(part)] = lambda: nnx.merge(definition, state, copy=True)
        elif _is_linen(part):
            module, variables = _unbound(part)
            parts[id(part)] = lambda: module.bind(variables)
        else:
            parts[id(part)] = lambda: copy
        return part

    _rebuilt(model, collect)

    def function(*args: Any, **keywords: Any) -> Any:
        return _rebuilt(model, lambda part: parts[id(part)]())(*args, **keywords)

    return function, n_training


def _rebuilt(model: Any, change: Callable[[Any], Any]) -> Callable[..., Any]:
    """Return the model with its modules changed: itself, the owner of a method, what a partial binds."""
    if isinstance(model, functools.partial):
        # A bound module would be looked at by nobody else: partial(forward, module).
        args = [change(item) if _is_module(item) else item for item in model.args]
        keywords = {
            name: change(item) if _is_module(item) else item
            for name, item in model.keywords.items()
        }
        return functools.partial(_rebuilt(model.func, change), *args, **keywords)
    if isinstance(model, types.MethodType):
        owner: Any = model.__self__
        if _is_linen(owner) and owner.scope is None:
            return model  # module.apply, which a partial gives the variables
        method: Callable[..., Any] = getattr(change(owner), model.__name__)
        return method
    return change(model) if _is_module(model) else model


def _evaluated(module: Any) -> Any:
    """Return a module in inference mode; itself where it is, a copy where it is not."""
    if _is_linen(module):
        _unbound(module)
    return _copied(module) if _n_training(module) else module


def _copied(module: Any) -> Any:
    """Return a module in inference mode whose state is its own."""
    if _is_nnx(module):
        from flax import nnx

        copy = nnx.clone(module)
        copy.eval()
        return copy
    if _is_equinox(module):
        import equinox as eqx

        return eqx.nn.inference_mode(module)
    return module


def _unbound(module: Any) -> tuple[Any, Any]:
    if module.scope is None:
        name = type(module).__name__
        raise UnsupportedModelError(
            f"Expected a Flax module together with its variables, got `{name}` alone. Pass "
            "`module.bind(variables)`, or `functools.partial(module.apply, variables, train=False)` where "
            "it takes such arguments"
        )
    return module.unbind()


def _n_training(module: Any) -> int:
    """Parts of a module that are in training mode, as far as the module knows."""
    if _is_nnx(module):
        from flax import nnx

        return sum(
            getattr(part, "deterministic", None) is False
            or getattr(part, "use_running_average", None) is False
            for _, part in nnx.iter_modules(module)
        )
    if not _is_equinox(module):
        return 0
    import jax

    found: list[bool] = []

    def look(part: Any) -> bool:
        found.append(getattr(part, "inference", None) is False)
        return False

    jax.tree_util.tree_leaves(module, is_leaf=look)
    return sum(found)


def values_needed() -> tuple[type[Exception], ...]:
    """What JAX raises where Python asks for a value while the model is traced."""
    import jax

    errors = jax.errors
    return (
        errors.ConcretizationTypeError,
        errors.TracerArrayConversionError,
        errors.TracerIntegerConversionError,
    )


def _is_module(value: Any) -> bool:
    return _is_nnx(value) or _is_linen(value) or _is_equinox(value)


def _is_nnx(value: Any) -> bool:
    return _inherits(value, "flax.nnx")


def _is_linen(value: Any) -> bool:
    return _inherits(value, "flax.linen")


def _is_equinox(value: Any) -> bool:
    return _inherits(value, "equinox")


def _inherits(value: Any, package: str) -> bool:
    return any(
        base.__name__ == "Module" and f"{base.__module__}.".startswith(f"{package}.")
        for base in type(value).__mro__
    )


def _holds_jax(value: Any) -> bool:
    """Whether an array or a module of JAX is among what a partial binds."""
    if isinstance(value, Mapping):
        return any(map(_holds_jax, value.values()))
    if isinstance(value, tuple | list):
        return any(map(_holds_jax, value))
    return _is_array(value) or _is_module(value)


def _is_array(value: Any) -> bool:
    kind = type(value)
    return _package(kind.__module__) in ("jax", "jaxlib") and kind.__name__ == "ArrayImpl"


def _is_tensor(value: Any) -> bool:
    return hasattr(value, "shape") and hasattr(value, "dtype")


def _package(name: str) -> str:
    return name.partition(".")[0]


# -- arguments -------------------------------------------------------------------------------------


def _parameters(model: Any) -> list[inspect.Parameter]:
    """The parameters that are left for arrays."""
    if isinstance(model, functools.partial):
        method = model.func
        if (
            isinstance(method, types.MethodType)
            and _is_linen(method.__self__)
            and method.__name__ == "apply"
        ):
            called = model.keywords.get("method") or "__call__"
            if isinstance(called, str):
                called = getattr(type(method.__self__), called)
            left = list(inspect.signature(called).parameters.values())[len(model.args) :]
            return [item for item in left if item.name not in model.keywords]
        inner = inspect.Signature(_parameters(method))
        bound = inner.bind_partial(*model.args, **model.keywords)
        positional = len(model.args)
        return [
            item
            for index, item in enumerate(inner.parameters.values())
            if item.kind in (item.VAR_POSITIONAL, item.VAR_KEYWORD)
            or not (index < positional or item.name in bound.arguments)
        ]
    if _is_module(model) and not hasattr(model, "__wrapped__"):
        model = model.__call__
    try:
        return list(inspect.signature(model).parameters.values())
    except (TypeError, ValueError):
        return [inspect.Parameter("args", inspect.Parameter.VAR_POSITIONAL)]


def _names(parameters: Sequence[inspect.Parameter], n_values: int) -> list[str]:
    """The names that arrays may take, ``*args`` written out."""
    names: list[str] = []
    for item in parameters:
        if item.kind is inspect.Parameter.VAR_POSITIONAL:
            names += [f"{item.name}_{index}" for index in range(n_values - len(names))]
        elif item.kind is not inspect.Parameter.VAR_KEYWORD:
            names.append(item.name)
    return names


def _layout(model: Any, rows: Any) -> tuple[Layout, tuple[Any, ...]]:
    given_as: Literal["array", "tuple"] = "tuple"
    if isinstance(rows, Mapping) and rows:
        return _keyword_layout(model, rows)
    if isinstance(rows, tuple) and rows:
        values = rows
    elif _is_tensor(rows) and not hasattr(rows, "columns"):
        given_as, values = "array", (rows,)
    else:
        raise ConversionError(
            "Expected one array, a tuple of them (positional arguments of the model) or a dict of them "
            f"(by the names of its parameters), got a {type(rows).__name__} - example of "
            f"{described(model)}. A DataFrame becomes an array with to_numpy(dtype='float32')"
        )
    names = _names(_parameters(model), len(values))
    if len(values) > len(names):
        raise ConversionError(
            f"Expected at most {len(names)} arrays ({', '.join(names)}), got {len(values)} - example "
            f"of {described(model)}"
        )
    return Layout(tuple(names[: len(values)]), len(values), given_as=given_as), values


def _keyword_layout(model: Any, rows: Mapping[str, Any]) -> tuple[Layout, tuple[Any, ...]]:
    parameters = _parameters(model)
    names = _names(parameters, len(rows))
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    required = [
        item for item in parameters if item.default is item.empty and item.kind not in variadic
    ]
    takes_any = any(item.kind is inspect.Parameter.VAR_KEYWORD for item in parameters)
    if set(rows) <= set(names) or (takes_any and not required):
        # In the parameters' order, so that the same arrays given as a tuple mean the same.
        order = [name for name in names if name in rows]
        order += [name for name in rows if name not in names]
        # By position as far as they go: jax.vmap and jax.jit treat named arguments otherwise.
        by_name = {item.name for item in parameters if item.kind is inspect.Parameter.KEYWORD_ONLY}
        n_positional = 0
        while (
            n_positional < len(order)
            and order[n_positional] == names[n_positional]
            and order[n_positional] not in by_name
        ):
            n_positional += 1
        return Layout(tuple(order), n_positional, given_as="dict"), tuple(rows[n] for n in order)
    if len(required) <= 1 and names and not set(rows) & set(names):
        order = list(rows)
        layout = Layout(tuple(order), 0, as_mapping=True, given_as="dict")
        return layout, tuple(rows[name] for name in order)
    raise ConversionError(
        f"Expected arrays named as the model's parameters ({', '.join(names)}), got "
        f"{', '.join(map(str, rows))} - example of {described(model)}"
    )


def _canonical(name: str, value: Any) -> np.ndarray:
    import jax

    if hasattr(value, "detach"):
        value = value.detach().cpu()
    if not _is_tensor(value):
        raise ConversionError(
            f"Expected an array, got {type(value).__name__} - input `{name}`. Only arrays can be inputs; "
            "bind other arguments with functools.partial"
        )
    array = np.asarray(value)
    if array.dtype.kind not in "biufcV":
        raise ConversionError(
            f"Expected numbers or booleans, got an array of dtype {array.dtype} - input `{name}`"
        )
    return np.array(array, dtype=jax.dtypes.canonicalize_dtype(array.dtype), order="C")


def described(model: Any) -> str:
    """Name a model in messages."""
    while isinstance(model, functools.partial):
        model = model.func
    name = getattr(model, "__qualname__", None)
    return name if isinstance(name, str) and not _is_module(model) else type(model).__name__
