"""Copies of torch modules that answer as ``eval()`` does and leave the user's module as it is.

A copy shares whatever it can with the original: parameters are only read, so a model of many gigabytes
costs nothing to copy.
"""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from infersdk.errors import ConversionError

if TYPE_CHECKING:
    import torch

__all__ = [
    "eval_view",
    "exported_copy",
    "float_dtype",
    "is_bfloat16",
    "is_exported_program",
    "is_script",
    "private_copy",
    "unwrap",
    "weight_bytes",
    "widen_tensor",
    "with_gradients",
]

_EVAL_VIEWS: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
"""Eval-mode views by module, weakly held."""


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
    return float_dtype(model) == "bfloat16"


def float_dtype(model: Any) -> str | None:
    """Return the one dtype of the floating-point parameters, or None where there are several or none."""
    if is_exported_program(model):
        parameters = list(model.parameters())
    else:
        parameters = list(unwrap(model).parameters())
    dtypes = {item.dtype for item in parameters if item.is_floating_point()}
    return str(dtypes.pop()).removeprefix("torch.") if len(dtypes) == 1 else None


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
            moved = widen_tensor(moved)
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


def with_gradients(module: Any) -> Any:
    """Return a copy of a private copy whose floating-point parameters, shared, require gradients."""
    import torch

    def replace(tensor: torch.Tensor, shared: bool) -> torch.Tensor:
        if isinstance(tensor, torch.nn.Parameter) and tensor.is_floating_point():
            return torch.nn.Parameter(tensor.detach())
        return tensor

    return _copy(module, replace)


def eval_view(model: Any) -> Any:
    """Return what answers as ``model.eval()`` would, without touching the module's training flags.

    A module already in eval mode is returned as it is, unless it is a LightningModule that its trainer still
    holds: ``self.log`` would raise outside of the trainer's loops, and does nothing in a copy. Otherwise a copy of the module tree that shares
    every parameter and buffer, so that it follows further training; it is kept until the module goes or
    one of its parts is exchanged. (TorchScript cannot share: its view keeps the weights it was made of.)
    """
    if is_exported_program(model):
        kept = _EVAL_VIEWS.get(model)
        if kept is None:
            kept = _EVAL_VIEWS[model] = (None, model.module())
        return kept[1]
    modules = list(model.modules())
    if not any(module.training or _has_trainer(module) for module in modules):
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


def exported_copy(program: Any) -> Any:
    """Make an ExportedProgram callable, with buffers of its own; it cannot be put into eval mode."""
    module = program.module()
    clones: dict[int, Any] = {}
    for part in module.modules():
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = clones.setdefault(id(buffer), buffer.clone())
    return module


def widen_tensor(tensor: torch.Tensor) -> torch.Tensor:
    import torch

    return tensor.float() if tensor.dtype == torch.bfloat16 else tensor


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


def _has_trainer(module: Any) -> bool:
    return getattr(module, "_trainer", None) is not None and hasattr(module, "log")


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
