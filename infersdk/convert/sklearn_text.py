"""Text into word counts, and what is made of the counts.

Words are cut and counted by ONNX Runtime's own nodes; weighting follows in float64. Only
configurations that were found to be exact are written: words of scikit-learn's default pattern, no
accents stripped, no n-grams across stop words.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from infersdk.convert.sklearn_graph import ML_OPSET, Columns
from infersdk.convert.sklearn_numeric import normalized
from infersdk.convert.sklearn_writer import Writer, unsupported, writes
from infersdk.errors import MissingDependencyError

_DEFAULT_PATTERN = r"(?u)\b\w\w+\b"
_SAME_PATTERN = r"[\p{L}\p{N}_]{2,}"
"""What ``(?u)\\b\\w\\w+\\b`` means, in the dialect of ONNX Runtime's tokenizer (re2)."""

_LOCALE = "C.UTF-8"
"""Every Linux image has it; sklearn-onnx's own default, en_US.UTF-8, is missing from slim ones."""


@writes("transform", "CountVectorizer")
def _count_vectorizer(writer: Writer, model: Any, columns: Columns) -> Columns:
    counts = _counts(writer, model, columns)
    builder = writer.builder
    if model.binary:
        some = builder.op("Greater", counts, builder.constant(0.0, np.float64))
        counts = builder.cast(some, "bool", "float64")
    return writer.new(counts, len(model.vocabulary_))


@writes("transform", "TfidfVectorizer")
def _tfidf_vectorizer(writer: Writer, model: Any, columns: Columns) -> Columns:
    counts = _counts(writer, model, columns)
    builder = writer.builder
    if model.binary:
        some = builder.op("Greater", counts, builder.constant(0.0, np.float64))
        counts = builder.cast(some, "bool", "float64")
    return _weighted(writer, model, counts, len(model.vocabulary_))


@writes("transform", "TfidfTransformer")
def _tfidf_transformer(writer: Writer, model: Any, columns: Columns) -> Columns:
    return _weighted(writer, model, writer.numbers(columns), len(columns))


def _weighted(writer: Writer, model: Any, counts: str, width: int) -> Columns:
    builder = writer.builder
    if model.sublinear_tf:
        # 1 + log(tf) where a word occurs; the logarithm of the others is not looked at.
        one = builder.constant(1.0, np.float64)
        some = builder.op("Greater", counts, builder.constant(0.0, np.float64))
        logarithm = builder.op("Add", builder.op("Log", builder.op("Max", counts, one)), one)
        counts = builder.op("Where", some, logarithm, builder.constant(0.0, np.float64))
    if model.use_idf:
        counts = builder.op("Mul", counts, builder.constant(model.idf_, np.float64))
    if model.norm is not None:
        counts = normalized(writer, counts, model.norm)
    return writer.new(counts, width)


def _counts(writer: Writer, model: Any, columns: Columns) -> str:
    """float64 (N, n_words): how often each word of the vocabulary occurs."""
    _check(model)
    if len(columns) != 1 or not columns[0].is_text:
        raise unsupported(model, "it takes one column of text")
    try:
        from skl2onnx import convert_sklearn
        from skl2onnx.common.data_types import StringTensorType
        from sklearn.feature_extraction.text import CountVectorizer
    except ImportError as exc:
        raise MissingDependencyError.for_extra(
            "skl2onnx", "sklearn", "Converting a text vectorizer"
        ) from exc
    plain = CountVectorizer(
        lowercase=model.lowercase,
        ngram_range=model.ngram_range,
        token_pattern=model.token_pattern,
        vocabulary=dict(model.vocabulary_),
    )
    plain.vocabulary_ = dict(model.vocabulary_)
    plain.fixed_vocabulary_ = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            proto = convert_sklearn(
                plain,
                initial_types=[("X", StringTensorType([None, 1]))],
                target_opset={"": writer.builder.opset, "ai.onnx.ml": ML_OPSET},
                options={id(plain): {"locale": _LOCALE, "tokenexp": _SAME_PATTERN}},
            )
    except Exception as exc:
        raise unsupported(model, f"sklearn-onnx cannot write it ({exc})") from exc
    writer.note(
        f"{type(model).__name__}: words are cut by {_SAME_PATTERN!r} under the locale {_LOCALE}"
    )
    text = writer.builder.matrix(columns, "string")
    outputs = writer.builder.splice(proto, {"X": text})
    return writer.builder.cast(next(iter(outputs.values())), "float32", "float64")


def _check(model: Any) -> None:
    if model.analyzer != "word":
        raise unsupported(model, f"analyzer={model.analyzer!r}")
    if model.tokenizer is not None or model.preprocessor is not None:
        raise unsupported(model, "a tokenizer or preprocessor written in Python cannot be read")
    if model.strip_accents is not None:
        raise unsupported(model, f"strip_accents={model.strip_accents!r}")
    if model.token_pattern != _DEFAULT_PATTERN:
        raise unsupported(model, f"token_pattern={model.token_pattern!r}")
    if model.stop_words is not None and tuple(model.ngram_range) != (1, 1):
        raise unsupported(model, "its n-grams reach across the stop words that it leaves out")
