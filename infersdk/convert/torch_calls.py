"""How a torch model is called: rows become arguments, and answers become tensors."""

from __future__ import annotations

import dataclasses
import inspect
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from infersdk.convert.torch_copies import (
    exported_copy,
    float_dtype,
    is_bfloat16,
    is_exported_program,
    is_script,
    private_copy,
    unwrap,
    widen_tensor,
)
from infersdk.errors import ConversionError, UnsupportedModelError

if TYPE_CHECKING:
    import torch

__all__ = [
    "Answer",
    "Layout",
    "Subject",
    "exported_example",
    "loose_tensors",
    "prepare",
    "take_apart",
    "to_tensors",
]


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
        return Subject(exported_copy(model), layout, tensors)
    try:
        module = private_copy(model)
    except ConversionError:
        if for_export or any(part.training for part in model.modules()):
            raise
        return Subject(model, layout, tensors)
    if is_bfloat16(model):
        widened = tuple(widen_tensor(tensor) for tensor in tensors)
        subject = Subject(private_copy(model, widen=True), layout, widened, widened=True)
        try:
            subject.run(widened)
        except Exception:  # forward() asks for bfloat16 itself; it is studied as it is
            pass
        else:
            return subject
    return Subject(module, layout, tensors)


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
    weights = float_dtype(model)
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


def exported_example(model: Any) -> dict[str, Any]:
    """Return the tensors that an ExportedProgram was exported with, by name."""
    layout = _exported_layout(model)
    args, kwargs = model.example_inputs
    if layout.as_mapping:
        return dict(args[0])
    return {**dict(zip(layout.names, args, strict=False)), **kwargs}


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
