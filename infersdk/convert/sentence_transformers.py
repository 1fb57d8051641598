"""sentence-transformers: a text in, its vector out. Tested with 6.2.

What can be passed
    A ``SentenceTransformer`` or a ``CrossEncoder``, or the path of a folder that one of them saved
    (``modules.json``). Only what is in the folder is read, and no code of its own is run.

Methods
    ``encode`` gives the sentence embeddings, float32 (n_rows, dimension), after every module of the model: pooling of
    any kind, dense layers, normalization, and ``truncate_dim``. ``predict`` of a cross-encoder gives the scores of
    pairs of texts after its activation function: ``[query, passage]`` or ``{"text": ..., "text_pair": ...}``.

Prompts
    The model's default prompt is put in front of every text, as ``encode()`` does; the plan says which. Others, which
    ``encode_query()`` and ``encode_document()`` use, are for the caller to put there.

Known losses
    Models over other things than text, chat templates, routers, static and bag-of-words embeddings, cross-encoders
    over a language model's logits, sparse and multi-vector encoders, and pooling that leaves out the prompt are served
    natively. Numbers other than float32 (``precision=``) are for the caller to make.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from infersdk.convert import transformers_graph as graphs
from infersdk.convert.registry import Written
from infersdk.convert.torch_copies import eval_view, is_bfloat16
from infersdk.convert.torch_silence import quiet
from infersdk.convert.transformers_tokenizer import Tokens, read_tokenizer
from infersdk.errors import ConversionError, MissingDependencyError, UnsupportedModelError
from infersdk.types import Method, Signature

if TYPE_CHECKING:
    from collections.abc import Mapping

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

FRAMEWORK = "sentence-transformers"
EXTRA = "sentence-transformers"

_OUTPUTS = {"SentenceTransformer": "sentence_embedding", "CrossEncoder": "scores"}
_METHODS = {"SentenceTransformer": "encode", "CrossEncoder": "predict"}
_KINDS = ("SentenceTransformer", "CrossEncoder", "SparseEncoder", "MultiVectorEncoder")


def can_convert(model: Any) -> bool:
    """Whether this is a model of sentence-transformers, or the folder of one; imports nothing."""
    if isinstance(model, (str, os.PathLike)):
        return (Path(os.fspath(model)) / "modules.json").is_file()
    return _kind(model) is not None


def open_source(model: Any) -> Any:
    """Return the model that a folder's path leads to; a model itself as it is.

    Raises
    ------
    ConversionError
        The folder cannot be read, or needs code of its own.
    MissingDependencyError
        sentence-transformers is not installed.
    """
    if not isinstance(model, (str, os.PathLike)):
        return model
    return _open(Path(os.fspath(model)).resolve())


def infer_signature(model: Any, example: Any = None) -> Signature:
    """Run the model on the example's tokens to learn the size of its answer.

    Parameters
    ----------
    model : SentenceTransformer or CrossEncoder
        Left as it is.
    example : sequence of str, or of pairs, optional

    Raises
    ------
    UnsupportedModelError
        A model of another kind.
    """
    method = _method(model)
    rows = _rows_for(model, example)
    with quiet():
        try:
            tokens = _tokens(model)
        except UnsupportedModelError:
            return graphs.native_signature(method)
        return graphs.describe(_forward(model, tokens), tokens, rows, _methods(model))


def to_onnx(
    model: Any, signature: Signature, *, example: Any = None, opset: int | None = None
) -> Written:
    """Export all modules of the model as one graph over tokens.

    Raises
    ------
    UnsupportedModelError
        The model does more than read tokens, or its tokenizer is written in Python.
    ConversionError
        torch cannot export it, or the graph answers differently.
    MissingDependencyError
        onnxscript is not installed.
    """
    rows = _rows_for(model, example)
    with quiet():
        tokens = _tokens(model)
        forward = _forward(model, tokens)
        notes = _notes(model, tokens)
        return graphs.write(forward, tokens, signature, rows, opset=opset, notes=notes)


def call(model: Any, method: str, rows: Any) -> Any:
    """Answer as the model itself does, which puts itself into eval mode; so it is asked by way of a view.

    Parameters
    ----------
    rows : sequence of str, or of pairs

    Returns
    -------
    numpy.ndarray
    """
    ask = getattr(eval_view(model), method)
    rows = rows.tolist() if isinstance(rows, np.ndarray) else list(rows)
    with quiet():
        answer = ask(rows, show_progress_bar=False, convert_to_numpy=True)
    return answer.astype(np.float32, copy=False)


def reference(model: Any, method: str, rows: Any) -> Any:
    """Answer as the graph should: as :func:`call`, but bfloat16 in float32."""
    if not is_bfloat16(model):
        return call(model, method, rows)
    return call(graphs.copied(model, widen=True), method, rows)


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
    """
    try:
        tokens = _tokens(model)
    except UnsupportedModelError:
        return None
    return graphs.edge_texts(model, tokens, _rows_for(model, example), n_rows, rng)


def _kind(model: Any) -> str | None:
    for base in type(model).__mro__:
        if base.__module__.partition(".")[0] == "sentence_transformers" and base.__name__ in _KINDS:
            return base.__name__
    return None


def _open(path: Path) -> Any:
    try:
        import sentence_transformers
    except ModuleNotFoundError as exc:
        if exc.name not in ("sentence_transformers", "torch", "transformers"):
            raise
        raise MissingDependencyError.for_extra(exc.name, EXTRA, "Opening a model's folder") from exc

    with quiet():
        try:
            config_file = path / "config_sentence_transformers.json"
            config = json.loads(config_file.read_bytes()) if config_file.is_file() else {}
            _check_modules(json.loads((path / "modules.json").read_bytes()))
            kind = getattr(sentence_transformers, config.get("model_type", "SentenceTransformer"))
            return kind(str(path), device="cpu", local_files_only=True, trust_remote_code=False)
        except Exception as exc:  # whatever a damaged or foreign folder sets off
            raise ConversionError(
                f"Expected a folder that sentence-transformers saved, got {str(path)!r}: {type(exc).__name__}: "
                f"{exc}. Load it with sentence-transformers and pass the model itself"
            ) from exc


def _check_modules(modules: Any) -> None:
    """Refuse a folder that names classes of anyone else: the package would import and call them."""
    named = [str(module["type"]) for module in modules]
    foreign = [
        name for name in named if not name.startswith(("sentence_transformers.", "torch.nn."))
    ]
    if foreign:
        raise ValueError(f"its modules.json names {', '.join(foreign)}, which may run any code")


def _method(source: Any) -> str:
    kind = _kind(source) or ""
    if kind not in _METHODS:
        raise UnsupportedModelError(
            f"Expected a SentenceTransformer or a CrossEncoder, got a {kind or type(source).__name__}: its answers "
            "are no plain arrays. Serve it with `infersdk.batched`, or pass its parts"
        )
    return _METHODS[kind]


def _rows_for(source: Any, example: Any) -> Any:
    """The example, or pairs where only pairs make sense."""
    if example is None and _kind(source) == "CrossEncoder":
        return [
            ("what is it?", "A film, and a long one."),
            ("how long does it take?", "no"),
            ("who?", "The quick brown fox jumps over the lazy dog."),
        ]
    return example


def _tokens(source: Any) -> Tokens:
    """Read the tokenizer of a model that does nothing else to its texts.

    Raises
    ------
    UnsupportedModelError
        Its texts are not simply tokenized.
    """
    name = type(source).__name__
    first = source[0]
    inner = getattr(first, "auto_model", None)
    if inner is None:
        inner = getattr(first, "model", None)
    if not any(base.__name__ == "PreTrainedModel" for base in type(inner).__mro__):
        raise UnsupportedModelError(
            f"Expected the first module of a {name} to be a transformer, got {type(first).__name__}"
        )
    modalities = getattr(first, "modality_config", None) or {"text": None}
    if "message" in modalities or "text" not in modalities:
        raise UnsupportedModelError(
            f"The {name} takes {', '.join(map(str, modalities))}; only plain texts can be answered by a graph"
        )
    if any(type(module).__name__ in ("Router", "Asym", "LogitScore") for module in source):
        raise UnsupportedModelError(f"The {name} takes a different way for different rows")
    prompt = _prompt(source)
    if prompt and any(getattr(module, "include_prompt", True) is False for module in source):
        raise UnsupportedModelError(f"The {name} leaves its prompt out when it pools tokens")
    limit = getattr(source, "max_seq_length", None)
    return read_tokenizer(source.tokenizer, inner, max_length=limit, prefix=prompt)


def _prompt(source: Any) -> str:
    name = getattr(source, "default_prompt_name", None)
    return "" if name is None else str(source.prompts.get(name, ""))


def _notes(source: Any, tokens: Tokens) -> list[str]:
    notes = []
    if tokens.max_length is not None:
        notes.append(f"Texts are cut at {tokens.max_length} tokens")
    if tokens.prefix:
        notes.append(f"Every text is read behind the model's default prompt {tokens.prefix!r}")
    others = {
        name: prompt
        for name, prompt in (getattr(source, "prompts", None) or {}).items()
        if prompt and prompt != tokens.prefix
    }
    if others:
        shown = ", ".join(f"{name} {prompt!r}" for name, prompt in others.items())
        notes.append(f"Its other prompts are for the caller to put in front of a text: {shown}")
    if is_bfloat16(source):
        notes.append("The bfloat16 weights were widened to float32, exactly; arithmetic is float32")
    return notes


def _methods(source: Any) -> Any:
    method = _method(source)
    flat = method == "predict" and int(source.num_labels) == 1

    def methods(names: Mapping[str, str]) -> tuple[Method, ...]:
        (output,) = names.values()
        return (Method(method, (output,), dtype="float32", shape=() if flat else None),)

    return methods


def _forward(source: Any, tokens: Tokens) -> Any:
    """Wrap a copy of the model so that it takes its tokens by position."""
    import torch

    copy = graphs.copied(source, widen=is_bfloat16(source))
    names = tokens.names
    output = _OUTPUTS[_kind(source) or ""]
    dimension = getattr(source, "truncate_dim", None)
    activation = getattr(source, "activation_fn", None)

    class Forward(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = copy
            self.training = False

        def forward(self, *tensors: torch.Tensor) -> dict[str, torch.Tensor]:
            features = dict(zip(names, tensors, strict=True))
            answer = self.model(features)[output]
            if dimension is not None:
                answer = answer[..., :dimension]
            if output == "scores" and activation is not None:
                answer = activation(answer)
            return {output: answer}

    return Forward()
