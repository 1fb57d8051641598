"""From a transformer over tokens to a signature over texts, and to a graph that was seen to answer alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from infersdk.convert.array_axes import BATCH
from infersdk.convert.registry import Written
from infersdk.convert.torch_calls import Answer, Layout, Subject, take_apart
from infersdk.convert.torch_copies import private_copy, weight_bytes
from infersdk.convert.torch_study import dtype_name
from infersdk.convert.transformers_tokenizer import SEQUENCE, Tokens
from infersdk.errors import ConversionError
from infersdk.types import Dim, Field, Method, Signature, TensorSpec

if TYPE_CHECKING:
    import onnx
    import torch

__all__ = [
    "PAIR_FIELDS",
    "are_pairs",
    "copied",
    "describe",
    "edge_texts",
    "native_signature",
    "numpy_of",
    "write",
]

PAIR_FIELDS = (Field("text", "string", None), Field("text_pair", "string", None))
"""Rows of models over two texts, under the names that transformers' pipelines know."""

Forward = Callable[..., dict[str, "torch.Tensor"]]

_MADE_UP = (
    "A good film, and not too long.",
    "no",
    "The quick brown fox jumps over the lazy dog; then it rests for 23 minutes.",
    "What a waste of time!",
)
_EDGES = (
    "",
    " ",
    "a",
    "?!",
    "UPPER lower MiXeD",
    "na\u00efve caf\u00e9 \u2014 \u201cquoted\u201d \u2026",
    "cafe\u0301 decomposed",
    "\u6771\u4eac\u3067\u5bff\u53f8\u3092\u98df\u3079\u305f",
    "\u043f\u0440\u0438\u0432\u0435\u0442 \u043c\u0438\u0440",
    "emoji \U0001f600\U0001f469\u200d\U0001f4bb end",
    "tab\tand\nnew line\r\n",
    "null \x00 and bell \x07",
    "[CLS] [SEP] [MASK] <s> </s> <pad>",
    "1234567890 3.14159 1e-9 0x7f",
    "http://example.com/a?b=c&d=e#f user@example.com",
    "supercalifragilisticexpialidocious" * 5,
)
_CUT_TOKENS = 24
_LARGE_BYTES = 300_000_000


def copied(model: Any, *, widen: bool = False) -> Any:
    """Copy a torch module with transformers inside, ready for export: eval mode, CPU, plain attention.

    The copy shares the parameters; the configurations, which forward() reads, are its own.

    Parameters
    ----------
    model : torch.nn.Module
    widen : bool
        Copy bfloat16 weights to float32.
    """
    module = private_copy(model, widen=widen)
    for part in module.modules():
        config: Any = getattr(part, "config", None)
        if hasattr(config, "_attn_implementation"):
            # Its graph is the shortest; the other kernels are torch's own affair.
            config._attn_implementation = "eager"
        if getattr(config, "use_cache", False):
            config.use_cache = False
    return module


def describe(
    forward: Any,
    tokens: Tokens,
    rows: Any,
    methods: Callable[[Mapping[str, str]], tuple[Method, ...]],
) -> Signature:
    """Run a model on tokens of two lengths to learn what it gives.

    Parameters
    ----------
    forward : torch.nn.Module
        Takes the tensors of ``tokens.names`` by position and returns a dict of tensors.
    tokens : Tokens
    rows : sequence of str or of pairs, optional
    methods : callable
        Names of the graph's outputs to methods.

    Raises
    ------
    ConversionError
        The model does not run on the rows.
    """
    subject = _subject(forward, tokens, rows)
    short = _answer(subject, subject.tensors)
    long = _answer(subject, _lengthened(subject.tensors, tokens))
    names = short.names(tokens.names)
    length = subject.tensors[0].shape[1]
    specs = tuple(
        TensorSpec(name, dtype_name(one.dtype), _shape(one.shape, two.shape, length))
        for name, one, two in zip(names, short.tensors, long.tensors, strict=True)
    )
    assert short.keys is not None
    pairs = are_pairs(rows)
    return Signature(
        tokens.inputs,
        specs,
        methods(dict(zip(short.keys, names, strict=True))),
        fields=PAIR_FIELDS if pairs else (),
        container="array" if pairs else "text",
        steps=(tokens.step,),
    )


def native_signature(*names: str) -> Signature:
    """The signature of a model over texts that has no graph."""
    return Signature((), (), tuple(Method(name, ()) for name in names), container="text")


def write(
    forward: Any,
    tokens: Tokens,
    signature: Signature,
    rows: Any,
    *,
    opset: int | None,
    notes: Sequence[str] = (),
) -> Written:
    """Export the graph that `signature` describes, proven at several sizes.

    Raises
    ------
    ConversionError
        It cannot be exported.
    UnsupportedModelError
        So can its tokenizer, or the model decides by the values of a tensor.
    """
    from infersdk.convert.torch_export import export
    from infersdk.convert.torch_weights import with_weights

    document = tokens.document()
    subject = _subject(forward, tokens, rows)
    graph, found = export(subject, signature, opset=opset)
    written = Written(
        graph,
        (*notes, *found),
        signature=_without_unread(signature, graph),
        documents={"tokenizer": document},
    )
    return with_weights(written, subject)


def _without_unread(signature: Signature, graph: onnx.ModelProto) -> Signature:
    """Leave out inputs that the model takes and never reads, here and in the graph."""
    read = {name for node in graph.graph.node for name in node.input}
    for value in [value for value in graph.graph.input if value.name not in read]:
        graph.graph.input.remove(value)
    (step,) = signature.steps
    return replace(
        signature,
        inputs=tuple(spec for spec in signature.inputs if spec.name in read),
        steps=(
            replace(
                step,
                outputs=tuple(name for name in step.outputs if name in read),
                pad=tuple(item for item in step.pad if item[1] in read),
            ),
        ),
    )


def are_pairs(rows: Any) -> bool:
    """Whether rows are pairs of texts rather than texts."""
    if isinstance(rows, Mapping) or getattr(rows, "ndim", 1) == 2:
        return True
    return isinstance(rows, (list, tuple)) and bool(rows) and not isinstance(rows[0], str)


def edge_texts(
    model: Any, tokens: Tokens | None, example: Any, n_rows: int, rng: np.random.Generator
) -> Any:
    """Make up texts: odd ones, one longer than the model reads, and the example's words in another order.

    Few of them, since all are filled up to the longest.

    Returns
    -------
    list of str, or ndarray of object (n_rows, 2)
    """
    pairs = are_pairs(example)
    words = [
        word
        for row in _rows(example)
        for text in ([row] if isinstance(row, str) else row)
        for word in text.split()
    ][:2000]
    texts = list(_EDGES)
    n_words = max(tokens.max_length or 0 if tokens is not None else 0, 32)
    if n_words <= 512:
        texts.append(" ".join(rng.choice(words, n_words + 20)))
    few = weight_bytes(model) > _LARGE_BYTES
    for _ in range(2 if few else 8):
        texts.append(" ".join(rng.choice(words, int(rng.integers(1, 20)))))
    if few:
        texts = texts[::2]
    texts = texts[: max(n_rows, 1)]
    if not pairs:
        return texts
    matrix = np.empty((len(texts), 2), dtype=object)
    matrix[:, 0] = texts
    matrix[:, 1] = texts[::-1]
    return matrix


def _rows(rows: Any) -> list[Any]:
    """Rows as a list of str or of pairs; made-up ones where there are none."""
    if rows is None or not len(rows):
        return list(_MADE_UP)
    if isinstance(rows, (str, Mapping)):
        rows = [rows]
    if hasattr(rows, "to_numpy"):
        rows = rows.to_numpy()
    return [_row(row) for row in (rows.tolist() if hasattr(rows, "tolist") else rows)]


def _row(row: Any) -> Any:
    """A text or a pair.

    Raises
    ------
    ConversionError
        It is neither.
    """
    if isinstance(row, Mapping):
        row = [row.get(item.name) for item in PAIR_FIELDS]
    texts = [row] if isinstance(row, str) else row
    if (
        isinstance(texts, (list, tuple))
        and len(texts) in (1, 2)
        and all(isinstance(text, str) for text in texts)
    ):
        return row if isinstance(row, str) or len(row) == 2 else row[0]
    raise ConversionError(
        "Expected an example of texts, or of pairs of texts (two str, or a dict with `text` and `text_pair`), "
        f"got {row!r:.80}"
    )


def _subject(forward: Any, tokens: Tokens, rows: Any) -> Subject:
    """A few rows of tokens, not long and of different lengths, before the model."""
    import torch

    given = _rows(rows)
    step = max(1, len(given) // 4)
    arrays = tokens.encode(given[::step][:4])
    arrays = {name: array[:, :_CUT_TOKENS] for name, array in arrays.items()}
    if len(arrays["input_ids"]) == 1:
        arrays = {name: np.repeat(array, 2, axis=0) for name, array in arrays.items()}
    mask = arrays.get("attention_mask")
    if mask is not None and mask.all() and mask.shape[1] > 2:
        for name, array in arrays.items():
            array[-1, -1] = tokens.fill(name)
    tensors = tuple(torch.from_numpy(np.ascontiguousarray(array)) for array in arrays.values())
    layout = Layout(tokens.names, len(tensors))
    return Subject(forward, layout, tensors)


def _answer(subject: Subject, tensors: Sequence[Any]) -> Answer:
    try:
        answer = subject.run(tensors)
    except Exception as exc:  # whatever the user's model raises
        raise ConversionError(
            f"The model does not take the tokens of its tokenizer: {type(exc).__name__}: {exc}"
        ) from exc
    return take_apart(answer)


def _lengthened(tensors: Sequence[torch.Tensor], tokens: Tokens) -> tuple[torch.Tensor, ...]:
    import torch

    return tuple(
        torch.nn.functional.pad(tensor, (0, 1), value=tokens.fill(name))
        for name, tensor in zip(tokens.names, tensors, strict=True)
    )


def _shape(one: Sequence[int], two: Sequence[int], length: int) -> tuple[Dim, ...]:
    dims: list[Dim] = [BATCH]
    for size, other in zip(one[1:], two[1:], strict=True):
        dims.append(size if size == other else SEQUENCE if size == length else None)
    return tuple(dims)


def numpy_of(outputs: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Tensors as arrays; bfloat16, which numpy lacks, as float32."""
    return {
        name: (value.float() if str(value.dtype) == "torch.bfloat16" else value).cpu().numpy()
        for name, value in outputs.items()
    }
