"""How a torch model is called: rows become arguments, answers become tensors, and copies keep it safe.

Everything here runs the user's own Python code, so it never touches the user's own module: a module in
training mode, on another device or in bfloat16 is answered by a copy (:func:`private_copy`) that shares
whatever it can with the original.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import inspect
import io
import itertools
import logging
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from infersdk.errors import ConversionError, UnsupportedModelError

if TYPE_CHECKING:
    import torch

__all__ = [
    "Answer",
    "Layout",
    "Subject",
    "eval_view",
    "exported_example",
    "is_bfloat16",
    "is_exported_program",
    "is_script",
    "loose_tensors",
    "prepare",
    "private_copy",
    "quiet",
    "take_apart",
    "to_tensors",
    "unwrap",
    "weight_bytes",
    "with_gradients",
]


_LOGGERS = (
    "torch",
    "torch.export",
    "torch.onnx",
    "torch.fx",
    "torch._dynamo",
    "onnxscript",
    "onnx_ir",
)


@dataclass(frozen=True, slots=True)
class Layout:
    """How the named tensors of a row become the arguments of ``forward()``.

    Parameters
    ----------
    names : tuple of str
        One name per tensor, in the graph's order: ``forward()``'s parameter names, or the keys of the
        one dict it takes.
    n_positional : int
        The first tensors are passed by position, the others by name.
    as_mapping : bool
        ``forward()`` takes one dict holding every tensor.
    given_as : {"tensor", "tuple", "dict"}
        What the user's rows are.
    """

    names: tuple[str, ...]
    n_positional: int
    as_mapping: bool = False
    given_as: Literal["tensor", "tuple", "dict"] = "tuple"

    def call(self, model: Any, tensors: Sequence[Any]) -> Any:
        """Call the model on tensors given in the order of ``names``."""
        if self.as_mapping:
            return model(dict(zip(self.names, tensors, strict=True)))
        named = dict(
            zip(self.names[self.n_positional :], tensors[self.n_positional :], strict=True)
        )
        return model(*tensors[: self.n_positional], **named)

    def to_rows(self, tensors: Sequence[Any]) -> Any:
        """Return tensors in the container that the user's rows came in."""
        if self.given_as == "tensor":
            return tensors[0]
        if self.given_as == "tuple":
            return tuple(tensors)
        return dict(zip(self.names, tensors, strict=True))


@dataclass(frozen=True, slots=True)
class Answer:
    """The tensors of an answer, and the shape of the Python object that held them."""

    form: Literal["array", "tuple", "list", "dict"]
    tensors: tuple[torch.Tensor, ...]
    keys: tuple[str, ...] | None = None

    def names(self, taken: Sequence[str]) -> tuple[str, ...]:
        """Name the graph's outputs: ``output``, ``output_0``.. or the keys; never an input's name."""
        if self.keys is not None:
            wanted: Sequence[str] = self.keys
        elif self.form == "array":
            wanted = ("output",)
        else:
            wanted = tuple(f"output_{index}" for index in range(len(self.tensors)))
        names: list[str] = []
        for name in wanted:
            while name in taken or name in names:
                name += "_out"
            names.append(name)
        return tuple(names)


@dataclass(frozen=True, slots=True)
class Subject:
    """A private, eval-mode, CPU copy of the model, with the example it is studied on.

    Parameters
    ----------
    module : torch.nn.Module
        The copy.
    layout : Layout
        How ``tensors`` are passed.
    tensors : tuple of torch.Tensor
        The example, on the CPU, in the dtypes that the copy takes.
    widened : bool
        Whether bfloat16 weights were copied to float32.
    """

    module: Any
    layout: Layout
    tensors: tuple[torch.Tensor, ...]
    widened: bool = False

    def run(self, tensors: Sequence[Any]) -> Any:
        """Answer as ``eval()`` and ``torch.inference_mode()`` would."""
        import torch

        with torch.inference_mode():
            return self.layout.call(self.module, tensors)


def is_exported_program(model: Any) -> bool:
    """Whether the model is a ``torch.export.ExportedProgram``; imports nothing."""
    return any(
        (base.__module__, base.__name__) == ("torch.export.exported_program", "ExportedProgram")
        for base in type(model).__mro__
    )


def is_script(model: Any) -> bool:
    """Whether the model is a scripted or traced TorchScript module; imports nothing."""
    return any(
        (base.__module__, base.__name__) == ("torch.jit._script", "ScriptModule")
        for base in type(model).__mro__
    )


def unwrap(model: Any) -> Any:
    """Return the module inside ``torch.compile()``, ``DataParallel`` and ``DistributedDataParallel``."""
    import torch

    while True:
        if isinstance(model, torch.nn.DataParallel | torch.nn.parallel.DistributedDataParallel):
            model = model.module
        elif type(model).__name__ == "OptimizedModule" and hasattr(model, "_orig_mod"):
            model = model._orig_mod
        else:
            return model


def weight_bytes(model: Any) -> int:
    """Return the size of the parameters and buffers in bytes, shared ones counted once."""
    tensors = model.state_dict.values() if is_exported_program(model) else _tensors(model)
    storages = {}
    for tensor in tensors:
        storages[tensor.data_ptr() or id(tensor)] = tensor.numel() * tensor.element_size()
    return sum(storages.values())


def is_bfloat16(model: Any) -> bool:
    """Whether every floating-point parameter is bfloat16."""
    return _float_dtype(model) == "bfloat16"


def prepare(model: Any, rows: Any, *, for_export: bool = False) -> Subject:
    """Copy the model for study: eval mode, CPU, bfloat16 weights widened to float32 where that runs.

    A module that cannot be copied is studied itself if it is in eval mode; but not exported, because
    torch.export exchanges a module's parameters while it traces.

    Raises
    ------
    ConversionError
        The rows do not fit ``forward()``, or the module cannot be copied.
    """
    model = unwrap(model)
    layout, tensors = to_tensors(model, rows)
    if is_exported_program(model):
        return Subject(_exported_copy(model), layout, tensors)
    try:
        module = private_copy(model)
    except ConversionError:
        if for_export or any(part.training for part in model.modules()):
            raise
        return Subject(model, layout, tensors)
    if is_bfloat16(model):
        widened = tuple(_widen(tensor) for tensor in tensors)
        subject = Subject(private_copy(model, widen=True), layout, widened, widened=True)
        try:
            subject.run(widened)
        except Exception:  # forward() asks for bfloat16 itself; it is studied as it is
            pass
        else:
            return subject
    return Subject(module, layout, tensors)


def private_copy(model: Any, *, widen: bool = False) -> Any:
    """Copy a module into eval mode on the CPU, sharing its parameters wherever they can be shared.

    Parameters are shared (they are only read), so that a model of many gigabytes costs nothing to copy;
    buffers are not, because a forward pass may write to them.

    Parameters
    ----------
    model : torch.nn.Module
        Left as it is.
    widen : bool
        Copy bfloat16 tensors to float32.

    Raises
    ------
    ConversionError
        The module holds something that cannot be copied.
    """
    import torch

    def replace(tensor: torch.Tensor, shared: bool) -> torch.Tensor:
        moved = tensor.detach().cpu()
        if widen:
            moved = _widen(moved)
        if moved.data_ptr() == tensor.data_ptr():
            if shared:
                return tensor
            moved = moved.clone()
        if isinstance(tensor, torch.nn.Parameter):
            return torch.nn.Parameter(moved, requires_grad=False)
        return moved

    if is_script(model):
        # A TorchScript module is copied whole: its tensors live in C++, where memo cannot reach them.
        clone = _script_copy(model).eval()
        return clone.float() if widen else clone
    return _copy(model, replace).eval()


class _OtherThreads(io.TextIOBase):
    """A stream that drops what this thread writes and passes on what others do."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._silent = threading.get_ident()

    def write(self, text: str) -> int:
        if threading.get_ident() == self._silent:
            return len(text)
        return self._stream.write(text)

    def flush(self) -> None:
        self._stream.flush()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence warnings, progress and dumps of graphs: forward()'s own, and the exporters'.

    Prints are dropped for this thread only; Python's warnings and torch's loggers know no threads.
    """
    levels = {name: logging.getLogger(name).level for name in _LOGGERS}
    with contextlib.ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        if sys.stdout is not None:
            stack.enter_context(contextlib.redirect_stdout(_OtherThreads(sys.stdout)))
        if sys.stderr is not None:
            stack.enter_context(contextlib.redirect_stderr(_OtherThreads(sys.stderr)))
        try:
            for name in _LOGGERS:
                logging.getLogger(name).setLevel(logging.CRITICAL + 1)
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)


def with_gradients(module: Any) -> Any:
    """Return a copy of a private copy whose floating-point parameters, shared, require gradients."""
    import torch

    def replace(tensor: torch.Tensor, shared: bool) -> torch.Tensor:
        if isinstance(tensor, torch.nn.Parameter) and tensor.is_floating_point():
            return torch.nn.Parameter(tensor.detach())
        return tensor

    return _copy(module, replace)


_EVAL_VIEWS: Any = None
"""Eval-mode views by module, weakly held; filled on first use, because torch is imported lazily."""


def eval_view(model: Any) -> Any:
    """Return what answers as ``model.eval()`` would, without touching the module's training flags.

    A module already in eval mode is returned as it is. Otherwise a copy of the module tree that shares
    every parameter and buffer, so that it follows further training; it is kept until the module goes or
    one of its parts is exchanged. (TorchScript cannot share: its view keeps the weights it was made of.)
    """
    from weakref import WeakKeyDictionary

    global _EVAL_VIEWS
    if _EVAL_VIEWS is None:
        _EVAL_VIEWS = WeakKeyDictionary()
    if is_exported_program(model):
        kept = _EVAL_VIEWS.get(model)
        if kept is None:
            kept = _EVAL_VIEWS[model] = (None, model.module())
        return kept[1]
    modules = list(model.modules())
    if not any(module.training for module in modules):
        return model
    model = unwrap(model)
    if is_script(model):
        parts: tuple[int, ...] = ()
    else:
        parts = tuple(map(id, modules)) + tuple(map(id, _tensors(model)))
    kept = _EVAL_VIEWS.get(model)
    if kept is None or kept[0] != parts:
        if is_script(model):
            view = _script_copy(model).eval()
        else:
            view = _copy(model, lambda tensor, shared: tensor).eval()
        kept = _EVAL_VIEWS[model] = (parts, view)
    return kept[1]


def to_tensors(model: Any, rows: Any) -> tuple[Layout, tuple[torch.Tensor, ...]]:
    """Read rows: one tensor or array, a tuple of them (positional), or a dict name to tensor.

    Floating-point numpy arrays take the dtype of the model's weights, because numpy's own default,
    float64, is hardly ever what a model was trained in. Tensors are left as they are.

    Returns
    -------
    layout : Layout
    tensors : tuple of torch.Tensor
        On the CPU, in the order of ``layout.names``.

    Raises
    ------
    ConversionError
        The rows are of another kind, or do not fit ``forward()``'s parameters.
    """
    import torch

    layout, values = _layout(model, rows)
    weights = _float_dtype(model)
    tensors = []
    for name, value in zip(layout.names, values, strict=True):
        if isinstance(value, torch.Tensor):
            tensors.append(value.detach().cpu())
        elif isinstance(value, np.ndarray | np.generic):
            tensors.append(_from_numpy(name, np.asarray(value), weights))
        else:
            raise ConversionError(
                f"Expected a torch tensor or a numpy array, got {type(value).__name__} - "
                f"input `{name}` of {type(model).__name__}. Only tensors can be inputs; other "
                "arguments keep their defaults"
            )
    return layout, tuple(tensors)


def take_apart(answer: Any) -> Answer:
    """Split what ``forward()`` returned into tensors.

    Raises
    ------
    UnsupportedModelError
        It is nested, or holds something else than tensors.
    """
    import torch

    if isinstance(answer, torch.Tensor):
        return Answer("array", (answer,))
    keys: tuple[str, ...] | None = None
    values: tuple[Any, ...]
    form: Literal["tuple", "list", "dict"]
    if isinstance(answer, Mapping):
        form, keys, values = "dict", tuple(answer.keys()), tuple(answer.values())
    elif dataclasses.is_dataclass(answer) and not isinstance(answer, type):
        fields = {item.name: getattr(answer, item.name) for item in dataclasses.fields(answer)}
        form, keys, values = "dict", tuple(fields), tuple(fields.values())
    elif isinstance(answer, tuple | list):
        form, values = ("tuple" if isinstance(answer, tuple) else "list"), tuple(answer)
    else:
        raise UnsupportedModelError(
            "Expected forward() to return tensors, a tuple, a list or a dict of them, got "
            f"{type(answer).__name__}. Return tensors, or serve the model natively"
        )
    if keys is not None and not all(isinstance(key, str) for key in keys):
        raise UnsupportedModelError(
            f"Expected forward() to return a dict with str keys, got {list(keys)!r}"
        )
    if not values:
        raise UnsupportedModelError(f"Expected forward() to return tensors, got an empty {form}")
    for place, value in zip(keys or range(len(values)), values, strict=True):
        if not isinstance(value, torch.Tensor):
            hint = (
                "Return the tensors flat, in one tuple or dict"
                if isinstance(value, tuple | list | Mapping)
                else "Leave it out of the answer"
            )
            raise UnsupportedModelError(
                f"Expected every element of forward()'s {form} to be a tensor, got "
                f"{type(value).__name__} at [{place!r}]. {hint}, or serve the model natively"
            )
    return Answer(form, values, keys)


def loose_tensors(answer: Any) -> Answer:
    """Return every tensor of an answer, however nested, as one tuple."""
    import torch
    from torch.utils import _pytree as pytree

    if dataclasses.is_dataclass(answer) and not isinstance(answer, Mapping | type):
        answer = [getattr(answer, item.name) for item in dataclasses.fields(answer)]
    leaves = pytree.tree_leaves(answer)
    return Answer("tuple", tuple(leaf for leaf in leaves if isinstance(leaf, torch.Tensor)))


def _layout(model: Any, rows: Any) -> tuple[Layout, tuple[Any, ...]]:
    import torch

    if isinstance(rows, torch.Tensor | np.ndarray):
        given_as: Literal["tensor", "tuple", "dict"] = "tensor"
        values: tuple[Any, ...] = (rows,)
    elif isinstance(rows, tuple) and rows:
        given_as, values = "tuple", rows
    elif isinstance(rows, Mapping) and rows:
        return _keyword_layout(model, rows)
    else:
        raise ConversionError(
            "Expected one tensor or array, a tuple of them (positional arguments of forward()) or a "
            f"dict of them (by the names of forward()'s parameters), got {_described(rows)} - example "
            f"of {type(model).__name__}. A DataFrame becomes an array with to_numpy(dtype='float32')"
        )
    names, _ = _parameters(model, len(values))
    if is_exported_program(model):
        fixed = _exported_layout(model)
        if len(values) != len(fixed.names):
            raise _wrong_count(model, len(values), fixed.names)
        return dataclasses.replace(fixed, given_as=given_as), values
    if len(values) > len(names):
        raise _wrong_count(model, len(values), names)
    return Layout(tuple(names[: len(values)]), len(values), given_as=given_as), values


def _keyword_layout(model: Any, rows: Mapping[str, Any]) -> tuple[Layout, tuple[Any, ...]]:
    if is_exported_program(model):
        layout = _exported_layout(model)
        if set(rows) != set(layout.names):
            raise _wrong_keys(model, rows, layout.names)
        return (
            dataclasses.replace(layout, given_as="dict"),
            tuple(rows[name] for name in layout.names),
        )
    names, parameters = _parameters(model, len(rows))
    required = [
        item.name
        for item in parameters
        if item.default is inspect.Parameter.empty
        and item.kind not in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    ]
    takes_any = any(item.kind is inspect.Parameter.VAR_KEYWORD for item in parameters)
    if set(rows) <= set(names) or takes_any:
        # In forward()'s order, so that the same tensors given as a tuple mean the same.
        order = [name for name in names if name in rows]
        order += [name for name in rows if name not in names]
        positional_only = {
            item.name for item in parameters if item.kind is inspect.Parameter.POSITIONAL_ONLY
        }
        by_position = positional_only | (set(names) - {item.name for item in parameters})
        n_positional = len(list(itertools.takewhile(by_position.__contains__, order)))
        if is_script(model) and order == names[: len(order)]:
            # TorchScript's exporter is at home with positional arguments only.
            n_positional = len(order)
        return (
            Layout(tuple(order), n_positional, given_as="dict"),
            tuple(rows[name] for name in order),
        )
    if len(required) <= 1 and names and not set(rows) & set(names):
        order = list(rows)
        return (
            Layout(tuple(order), 0, as_mapping=True, given_as="dict"),
            tuple(rows[name] for name in order),
        )
    raise _wrong_keys(model, rows, names)


def _exported_layout(model: Any) -> Layout:
    """Read how an ExportedProgram was called when it was exported; it takes no other way."""
    positional, named = model.call_spec.in_spec.children()
    arguments = positional.children()
    keywords = list(named.context or ())
    if len(arguments) == 1 and not keywords and arguments[0].type is dict:
        return Layout(tuple(arguments[0].context), 0, as_mapping=True)
    if any(not item.is_leaf() for item in [*arguments, *named.children()]):
        raise UnsupportedModelError(
            "Expected an ExportedProgram that takes tensors, or one dict of tensors, got one with "
            "nested arguments. Export a module whose forward() takes its tensors one by one"
        )
    names = list(inspect.signature(model.module().forward).parameters)
    return Layout(tuple(names[: len(arguments)]) + tuple(keywords), len(arguments))


def exported_example(model: Any) -> dict[str, Any]:
    """Return the tensors that an ExportedProgram was exported with, by name."""
    layout = _exported_layout(model)
    args, kwargs = model.example_inputs
    if layout.as_mapping:
        return dict(args[0])
    return {**dict(zip(layout.names, args, strict=False)), **kwargs}


def _parameters(model: Any, n_values: int) -> tuple[list[str], list[inspect.Parameter]]:
    """Return the names that tensors may take, ``*args`` written out, and forward()'s parameters."""
    if is_script(model):
        schema = model.forward.schema.arguments[1:]
        parameters = [
            inspect.Parameter(
                item.name,
                inspect.Parameter.POSITIONAL_OR_KEYWORD,
                default=(
                    item.default_value if item.has_default_value() else inspect.Parameter.empty
                ),
            )
            for item in schema
        ]
    elif is_exported_program(model):
        return [], []
    else:
        parameters = list(inspect.signature(model.forward).parameters.values())
    names: list[str] = []
    for item in parameters:
        if item.kind is inspect.Parameter.VAR_POSITIONAL:
            names += [f"{item.name}_{index}" for index in range(n_values - len(names))]
        elif item.kind is not inspect.Parameter.VAR_KEYWORD:
            names.append(item.name)
    return names, parameters


def _copy(model: Any, replace: Callable[[Any, bool], Any]) -> Any:
    """Deep-copy a module, with a replacement for each of its tensors.

    ``deepcopy`` looks tensors up in its memo, so every reference to one (tied weights, an LSTM's list of
    flat weights) leads to the same replacement.
    """
    memo: dict[int, Any] = {}
    for module in model.modules():
        for tensor in module._parameters.values():
            if tensor is not None and id(tensor) not in memo:
                memo[id(tensor)] = replace(tensor, True)
        for tensor in [*module._buffers.values(), *vars(module).values()]:
            if hasattr(tensor, "data_ptr") and id(tensor) not in memo:
                memo[id(tensor)] = replace(tensor, False)
    try:
        return copy.deepcopy(model, memo)
    except Exception as exc:
        raise ConversionError(
            f"{type(model).__name__} cannot be copied ({type(exc).__name__}: {exc}), and a model is "
            "never converted in place. Keep locks, files and generators out of the module, or call "
            "eval() to serve it natively"
        ) from exc


def _exported_copy(program: Any) -> Any:
    """Make an ExportedProgram callable, with buffers of its own; it cannot be put into eval mode."""
    module = program.module()
    clones: dict[int, Any] = {}
    for part in module.modules():
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = clones.setdefault(id(buffer), buffer.clone())
    return module


def _script_copy(model: Any) -> Any:
    import torch

    if all(tensor.device.type == "cpu" for tensor in _tensors(model)):
        return copy.deepcopy(model)
    buffer = io.BytesIO()
    torch.jit.save(model, buffer)
    buffer.seek(0)
    return torch.jit.load(buffer, map_location="cpu")


def _tensors(model: Any) -> list[Any]:
    return [*model.parameters(), *model.buffers()]


def _float_dtype(model: Any) -> str | None:
    """Return the one dtype of the floating-point parameters, or None where there are several or none."""
    if is_exported_program(model):
        parameters = list(model.parameters())
    else:
        parameters = list(unwrap(model).parameters())
    dtypes = {item.dtype for item in parameters if item.is_floating_point()}
    return str(dtypes.pop()).removeprefix("torch.") if len(dtypes) == 1 else None


def _from_numpy(name: str, value: np.ndarray, weights: str | None) -> torch.Tensor:
    import torch

    try:
        tensor = torch.from_numpy(np.array(value, order="C"))
    except TypeError as exc:
        raise ConversionError(
            f"Expected numbers or booleans, got an array of dtype {value.dtype} - input `{name}`"
        ) from exc
    if tensor.is_floating_point() and weights is not None:
        tensor = tensor.to(getattr(torch, weights))
    return tensor


def _widen(tensor: torch.Tensor) -> torch.Tensor:
    import torch

    return tensor.float() if tensor.dtype == torch.bfloat16 else tensor


def _wrong_count(model: Any, given: int, names: Sequence[str]) -> ConversionError:
    return ConversionError(
        f"Expected at most {len(names)} tensors ({', '.join(names)}), got {given} - example of "
        f"{type(model).__name__}"
    )


def _wrong_keys(model: Any, rows: Mapping[str, Any], names: Sequence[str]) -> ConversionError:
    return ConversionError(
        f"Expected tensors named as forward()'s parameters ({', '.join(names)}), got "
        f"{', '.join(map(str, rows))} - example of {type(model).__name__}"
    )


def _described(rows: Any) -> str:
    if isinstance(rows, tuple | list | Mapping) and not rows:
        return f"an empty {type(rows).__name__}"
    if isinstance(rows, list):
        kinds = sorted({type(item).__name__ for item in rows})
        return f"a list of {' and '.join(kinds)}"
    return f"a {type(rows).__name__}"
