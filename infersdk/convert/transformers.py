"""Hugging Face transformers: text in, answer out. Tested with 5.23.

What can be passed
    - a pipeline (``transformers.pipeline(...)``) for text or token classification, features or masked words;
    - a ``(model, tokenizer)`` tuple;
    - the path of a folder written by ``save_pretrained()``: ``config.json``, weights, ``tokenizer.json``. Only
      what is in the folder is read, and no code of its own is run;
    - a model alone: it takes tensors then (``example={"input_ids": ..., "attention_mask": ...}`` or
      ``{"pixel_values": ...}``), and is converted as PyTorch models are.

Rows
    Texts; or, where the example has them, pairs of texts: ``["premise", "hypothesis"]`` or
    ``{"text": ..., "text_pair": ...}``. They are tokenized in the caller's thread by the model's own tokenizer, which
    travels in the artifact, cut at the tokenizer's ``model_max_length`` (a pipeline would fail) and filled up to the
    longest row of the call.

Methods
    See ``transformers_tasks``.

Whose answers
    Those of ``model.eval()``. The user's model is not switched, moved or written to. Weights in a folder are read
    in float32; a bfloat16 model is answered in float32 by the same weights.

Known losses
    Generation goes token by token and is no graph: pipelines for it are served natively, and of a model that could
    generate, the graph gives the logits of one pass. Hidden states, attentions and caches are left out of answers.
    Tokenizers written in Python, models that take more than tokens, and code from a model's repository are refused.
"""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

from infersdk.convert import torch as torch_converter
from infersdk.convert import transformers_graph as graphs
from infersdk.convert import transformers_tasks as tasks
from infersdk.convert.registry import Written
from infersdk.convert.torch_copies import eval_view, is_bfloat16, unwrap
from infersdk.convert.torch_silence import quiet
from infersdk.convert.transformers_tokenizer import Tokens, read_tokenizer
from infersdk.errors import ConversionError, MissingDependencyError, UnsupportedModelError
from infersdk.types import Signature

if TYPE_CHECKING:
    import torch

__all__ = [
    "EXTRA",
    "FRAMEWORK",
    "call",
    "can_convert",
    "edge_rows",
    "infer_signature",
    "open_source",
    "reference",
    "to_onnx",
]

FRAMEWORK = "transformers"
EXTRA = "transformers"

_PIPELINES = {
    "feature-extraction": "features",
    "fill-mask": "masked words",
    "ner": "token classes",
    "sentiment-analysis": "text classes",
    "text-classification": "text classes",
    "token-classification": "token classes",
}
"""Pipelines whose work is one pass of the model over the tokens."""

_VIEWS: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
"""Copies of models alone that keep no cache, by model, weakly held."""


@dataclass(frozen=True, slots=True)
class _Parts:
    """A model, its tokenizer, and what it is for."""

    model: Any
    tokens: Tokens
    task: tasks.Task

    @property
    def is_narrow(self) -> bool:
        return is_bfloat16(self.model)


def can_convert(model: Any) -> bool:
    """Whether this is a model, a pipeline, a (model, tokenizer) tuple or a model's folder; imports nothing."""
    if isinstance(model, tuple):
        return len(model) == 2 and _is_model(model[0]) and _is_tokenizer(model[1])
    if isinstance(model, (str, os.PathLike)):
        return _is_folder(model)
    return _is_model(model) or _is_pipeline(model)


def open_source(model: Any) -> Any:
    """Return the (model, tokenizer) that a folder's path leads to; anything else as it is.

    Raises
    ------
    ConversionError
        The folder cannot be read, or needs code of its own.
    MissingDependencyError
        transformers is not installed.
    """
    if not isinstance(model, (str, os.PathLike)):
        return model
    return _open(Path(os.fspath(model)).resolve())


def infer_signature(model: Any, example: Any = None) -> Signature:
    """Run the model on the example's tokens to learn what it gives.

    Parameters
    ----------
    model : transformers.Pipeline, PreTrainedModel or tuple
        Left as it is.
    example : sequence of str or of pairs, optional
        Texts; for a model alone, its tensors.

    Raises
    ------
    UnsupportedModelError
        Its rows are neither texts nor tensors.
    ConversionError
        It does not take its tokenizer's tokens.
    """
    if _is_model(model):
        return torch_converter.infer_signature(_without_cache(model), example)
    if _why_native(model):
        return graphs.native_signature("__call__")
    parts = _take_apart(model)
    with quiet():
        forward = _forward(graphs.copied(parts.model, widen=parts.is_narrow), parts)
        return graphs.describe(forward, parts.tokens, example, parts.task.methods)


def to_onnx(
    model: Any, signature: Signature, *, example: Any = None, opset: int | None = None
) -> Written:
    """Export the model over tokens; the tokenizer becomes a document of the artifact.

    Raises
    ------
    UnsupportedModelError
        It generates, or its tokenizer is written in Python.
    ConversionError
        torch cannot export it, or the graph answers differently.
    MissingDependencyError
        onnxscript is not installed.
    """
    if _is_model(model):
        return torch_converter.to_onnx(
            _without_cache(model), signature, example=example, opset=opset
        )
    if reason := _why_native(model):
        raise UnsupportedModelError(reason)
    parts = _take_apart(model)
    with quiet():
        forward = _forward(graphs.copied(parts.model, widen=parts.is_narrow), parts)
        notes = _notes(parts)
        return graphs.write(forward, parts.tokens, signature, example, opset=opset, notes=notes)


def call(model: Any, method: str, rows: Any) -> Any:
    """Answer texts as the source does: its tokenizer, its model in eval mode, on its own device.

    Safe to call from several threads; a tokenizer is only read.

    Parameters
    ----------
    rows : sequence of str or of pairs; the tensors of a model alone
    """
    if _is_model(model):
        return torch_converter.call(_without_cache(model), method, rows)
    if _why_native(model):
        return model(list(rows))
    parts = _take_apart(model)
    return _answer(parts, eval_view(unwrap(parts.model)), method, rows)


def reference(model: Any, method: str, rows: Any) -> Any:
    """Answer as the graph should: as :func:`call`, but on the CPU, and bfloat16 in float32."""
    if _is_model(model):
        return torch_converter.reference(_without_cache(model), method, rows)
    if _why_native(model):
        return model(list(rows))
    parts = _take_apart(model)
    if not parts.is_narrow and parts.model.device.type == "cpu":
        return call(model, method, rows)
    with quiet():
        module = graphs.copied(parts.model, widen=parts.is_narrow)
    return _answer(parts, module, method, rows)


def edge_rows(
    model: Any,
    signature: Signature,
    example: Any,
    *,
    n_rows: int,
    rng: np.random.Generator,
) -> Any:
    """Make up texts that are empty, odd, too long, or the example's in another order.

    Returns
    -------
    list of str, or ndarray of object (n_rows, 2)
        For a model alone what the PyTorch converter makes up.
    """
    if _is_model(model):
        return torch_converter.edge_rows(
            _without_cache(model), signature, example, n_rows=n_rows, rng=rng
        )
    if _why_native(model):
        return None
    parts = _take_apart(model)
    return graphs.edge_texts(parts.model, parts.tokens, example, n_rows, rng)


def _is_model(model: Any) -> bool:
    return _has_base(model, "transformers.modeling_utils", "PreTrainedModel")


def _is_tokenizer(tokenizer: Any) -> bool:
    return _has_base(tokenizer, "transformers.tokenization_utils_base", "PreTrainedTokenizerBase")


def _is_pipeline(model: Any) -> bool:
    return _has_base(model, "transformers.pipelines.base", "Pipeline")


def _has_base(model: Any, module: str, name: str) -> bool:
    return any((base.__module__, base.__name__) == (module, name) for base in type(model).__mro__)


def _is_folder(path: str | os.PathLike[str]) -> bool:
    try:
        config = json.loads((Path(os.fspath(path)) / "config.json").read_bytes())
    except (OSError, ValueError, TypeError):
        return False
    return isinstance(config, dict) and "model_type" in config


def _take_apart(model: Any) -> _Parts:
    if isinstance(model, tuple):
        return _parts(*model)
    return _from_pipeline(model)


def _open(path: Path) -> tuple[Any, Any]:
    """Read a folder's model and tokenizer."""
    try:
        import torch
        import transformers
    except ModuleNotFoundError as exc:
        if exc.name not in ("torch", "transformers"):
            raise
        raise MissingDependencyError.for_extra(exc.name, EXTRA, "Opening a model's folder") from exc

    local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    with quiet():
        try:
            config = transformers.AutoConfig.from_pretrained(path, **local)
            names = [name for name in config.architectures or () if hasattr(transformers, name)]
            kind = getattr(transformers, names[0]) if names else transformers.AutoModel
            model = kind.from_pretrained(path, dtype=torch.float32, **local)
            tokenizer = transformers.AutoTokenizer.from_pretrained(path, **local)
        except Exception as exc:  # whatever a damaged or foreign folder sets off
            raise ConversionError(
                f"Expected a folder written by save_pretrained(), with model and tokenizer, got {str(path)!r}: "
                f"{type(exc).__name__}: {exc}. Load it with transformers and pass (model, tokenizer)"
            ) from exc
    return model.eval(), tokenizer


def _parts(model: Any, tokenizer: Any, task: tasks.Task | None = None) -> _Parts:
    model = unwrap(model)
    if reason := _why_generating(model):
        raise UnsupportedModelError(reason)
    name = type(model).__name__
    if task is not None:
        pass
    elif name.endswith("ForSequenceClassification"):
        task = tasks.classification(model.config)
    elif name.endswith("ForTokenClassification"):
        task = tasks.token_classification()
    else:
        task = tasks.tensors_of()
    return _Parts(model, read_tokenizer(tokenizer, model), task)


def _from_pipeline(pipeline: Any) -> _Parts:
    model = pipeline.model
    task = None
    if _PIPELINES[pipeline.task] == "text classes":
        function = tasks.named_function(pipeline._postprocess_params.get("function_to_apply"))
        if function is None and model.config.num_labels == 1 and not model.config.problem_type:
            function = "sigmoid"  # what the pipeline does, other than the model in training
        task = tasks.classification(model.config, function)
    parts = _parts(model, pipeline.tokenizer, task)
    most = _asked(pipeline).get("max_length")
    if isinstance(most, int):
        return replace(parts, tokens=replace(parts.tokens, max_length=most))
    return parts


def _asked(pipeline: Any) -> dict[str, Any]:
    """What a pipeline was told to ask of its tokenizer."""
    asked = pipeline._preprocess_params
    return {**asked, **asked.get("tokenizer_kwargs", {}), **asked.get("tokenize_kwargs", {})}


def _why_native(model: Any) -> str:
    """Say why a pipeline has no graph; empty where it has one, and for all that is no pipeline.

    Raises
    ------
    UnsupportedModelError
        Its rows are no texts.
    """
    if not _is_pipeline(model):
        return ""
    if model.tokenizer is None:
        raise UnsupportedModelError(
            f"Expected a pipeline over texts, got one for {model.task}. Pass `pipeline.model`, and as the "
            'example the tensors that its processor makes, e.g. {"pixel_values": ...}'
        )
    if model.task not in _PIPELINES:
        return (
            f"a pipeline for {model.task} does more than one pass of its model over the tokens. Pass "
            "(pipeline.model, pipeline.tokenizer) for the model's own outputs"
        )
    if not _asked(model).get("add_special_tokens", True):
        return (
            "the pipeline leaves out the special tokens, which the artifact's tokenizer always adds"
        )
    return _why_generating(model.model)


def _why_generating(model: Any) -> str:
    name = type(model).__name__
    takes = inspect.signature(model.forward).parameters
    if "decoder_input_ids" in takes and not name.endswith("ForSequenceClassification"):
        return (
            f"{name} writes its answer token by token, which is no graph. Pass its encoder alone, as "
            "(model.get_encoder(), tokenizer), or a pipeline, which is served natively"
        )
    return ""


def _notes(parts: _Parts) -> list[str]:
    notes = []
    if parts.is_narrow:
        notes.append("The bfloat16 weights were widened to float32, exactly; arithmetic is float32")
    if type(parts.model).__name__.endswith(("ForCausalLM", "LMHeadModel")):
        notes.append("The graph gives the logits of one pass; it does not generate text")
    if parts.tokens.max_length is None:
        notes.append("Texts are not cut: neither tokenizer nor model has a limit")
    else:
        notes.append(f"Texts are cut at {parts.tokens.max_length} tokens")
    return notes


def _forward(model: Any, parts: _Parts) -> Any:
    """Wrap a model so that it takes its tokens by position and gives the task's tensors."""
    import torch

    names, finish = parts.tokens.names, parts.task.finish

    class Forward(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model
            self.training = False

        def forward(self, *tensors: torch.Tensor) -> dict[str, torch.Tensor]:
            inputs = dict(zip(names, tensors, strict=True))
            return finish(_tensors_in(self.model(**inputs, return_dict=True)), inputs)

    return Forward()


def _tensors_in(output: Mapping[str, Any]) -> dict[str, Any]:
    """The tensors of what a model returns, without caches and the states of its layers."""
    return {name: value for name, value in output.items() if hasattr(value, "dtype")}


def _answer(parts: _Parts, module: Any, method: str, rows: Any) -> Any:
    import torch

    inputs = parts.tokens.encode(rows)
    device = next(module.parameters()).device
    with torch.inference_mode():
        tensors = {name: torch.from_numpy(array).to(device) for name, array in inputs.items()}
        outputs = graphs.numpy_of(_tensors_in(module(**tensors, return_dict=True)))
    return parts.task.answer(method, outputs, inputs)


def _without_cache(model: Any) -> Any:
    """Return a model alone, or a copy on the CPU that shares its weights, where it would return a cache.

    A cache of keys and values is a nested answer, and of no use without generation.
    """
    if not getattr(model.config, "use_cache", False):
        return model
    kept = _VIEWS.get(model)
    if kept is None:
        kept = _VIEWS[model] = graphs.copied(model)
    return kept
