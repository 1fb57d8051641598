"""Text into counts of words or characters, and what is made of the counts.

Text is cut and counted by ONNX Runtime's own nodes; weighting follows in float64. Only what was found to be
exact is written: words of the usual patterns, also n-grams across stop words that are left out, characters
within words and across them, and hashed words. Accents cannot be stripped.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import numpy as np

from infersdk.convert.sklearn_graph import Columns
from infersdk.convert.sklearn_numeric import normalized
from infersdk.convert.sklearn_writer import Writer, unsupported, writes

_WORD = r"[\p{L}\p{N}_]"
r"""What ``\w`` of Python is, in the dialect of ONNX Runtime's tokenizer (re2)."""

_PATTERNS = {
    r"(?u)\b\w\w+\b": _WORD + "{2,}",
    r"\b\w\w+\b": _WORD + "{2,}",
    r"(?u)\b\w+\b": _WORD + "+",
    r"\b\w+\b": _WORD + "+",
    r"(?u)\w+": _WORD + "+",
    r"\w+": _WORD + "+",
    r"(?u)\w\w+": _WORD + "{2,}",
    r"\w\w+": _WORD + "{2,}",
}
"""The usual token patterns, and the same in re2."""

_PLAIN_CLASS = re.compile(r"\[(?:[A-Za-z0-9_]-[A-Za-z0-9_]|[A-Za-z0-9_])+\]\+")
"""A pattern such as ``[a-z]+`` means the same in both dialects."""

_SPACE = (
    r"\t-\r\x1c-\x20\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}"
)
"""White space as Python knows it, for a class of re2."""

_ABSENT = "\x00"
"""Fills up rows with fewer words; no term of a vocabulary has it."""

_LOCALE = "C.UTF-8"
"""Every Linux image has it; en_US.UTF-8, sklearn-onnx's default, is missing from slim ones."""

_MOST_HASHED = 2**16
"""Columns of a hashed text; more would be as many numbers for every row."""


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
    """float64 (N, n_terms): how often each term of the vocabulary occurs."""
    _check(model, columns)
    terms = {str(term): int(index) for term, index in model.vocabulary_.items()}
    width = len(terms)
    if model.analyzer == "word":
        tokens = _words(writer, model, columns)
        grams = {term: term.split(" ") for term in terms}
    else:
        tokens = _characters(writer, model, columns)
        grams = {term: list(term) for term in terms}
    stop_words = frozenset(model.get_stop_words() or ())
    occurring = {t: gram for t, gram in grams.items() if _occurs(model, t, gram, stop_words)}
    return _counted(writer, tokens, [(occurring[t], terms[t]) for t in occurring], width)


def _check(model: Any, columns: Columns) -> None:
    if len(columns) != 1 or not columns[0].is_text:
        raise unsupported(model, "it takes one column of text")
    if model.analyzer not in ("word", "char", "char_wb"):
        raise unsupported(model, "an analyzer written in Python cannot be read")
    if model.preprocessor is not None or (model.analyzer == "word" and model.tokenizer is not None):
        raise unsupported(model, "a tokenizer or preprocessor written in Python cannot be read")
    if model.strip_accents is not None:
        raise unsupported(model, f"strip_accents={model.strip_accents!r}")


def _occurs(model: Any, term: str, gram: list[str], stop_words: frozenset[str]) -> bool:
    """Whether scikit-learn would ever count this term; a vocabulary may be the user's own."""
    shortest, longest = model.ngram_range
    if _ABSENT in term or "" in gram or len(gram) > longest:
        return False
    if model.analyzer == "word":
        return len(gram) >= shortest and stop_words.isdisjoint(gram)
    if model.analyzer == "char":
        return len(gram) >= shortest and re.search(r"\s\s", term) is None
    # Words with a space on either side; those that are too short count whole.
    inner = term[1:-1]
    if re.search(r"\s", inner) or re.search(r"[^\S ]", term) or "  " in term:
        return False
    whole = len(term) > 2 and term[0] == term[-1] == " "
    return len(gram) >= shortest or whole


def _flat_text(writer: Writer, model: Any, columns: Columns) -> str:
    """string (N,): the texts, in lower case where the model wants it."""
    builder = writer.builder
    text = builder.matrix(columns, "string")
    flat = builder.op("Reshape", text, builder.constant([-1], np.int64))
    if not model.lowercase:
        return flat
    return builder.op("StringNormalizer", flat, case_change_action="LOWER", locale=_LOCALE)


def _cut(writer: Writer, name: str, **how: Any) -> str:
    """string of one axis more: the pieces of each text, and _ABSENT behind the last."""
    return writer.builder.op(
        "Tokenizer",
        name,
        domain="com.microsoft",
        mark=0,
        mincharnum=1,
        pad_value=_ABSENT,
        **how,
    )


def _words(writer: Writer, model: Any, columns: Columns) -> str:
    """string (N, T): the words of each text, without stop words where n-grams reach across them."""
    pattern = _PATTERNS.get(model.token_pattern)
    if pattern is None and _PLAIN_CLASS.fullmatch(model.token_pattern or ""):
        pattern = model.token_pattern
    if pattern is None:
        raise unsupported(model, f"token_pattern={model.token_pattern!r}")
    writer.note(
        f"{type(model).__name__}: words are cut by {pattern!r} under the locale {_LOCALE}, where "
        "İ and a final Σ become lower case as in other words"
    )
    words = _cut(writer, _flat_text(writer, model, columns), tokenexp=pattern)
    stop_words = model.get_stop_words()
    if not stop_words or tuple(model.ngram_range) == (1, 1):
        return words
    return _without(writer, words, stop_words)


def _without(writer: Writer, words: str, stop_words: Iterable[str]) -> str:
    """The words (N, T) that are none of these, moved together; _ABSENT behind the last."""
    builder = writer.builder
    listed = sorted({*map(str, stop_words), _ABSENT})
    kept = builder.ml(
        "LabelEncoder", words, keys_strings=listed, values_int64s=[0] * len(listed), default_int64=1
    )
    axis = builder.constant(1, np.int64)
    one = builder.constant(1, np.int64)
    place = builder.op("Sub", builder.op("CumSum", kept, axis), one)
    # Words that are left out all go to one place more, which is cut off again.
    shape = builder.op("Shape", words)
    last = builder.op("Gather", shape, builder.constant([1], np.int64))
    place = builder.op("Where", builder.cast(kept, "int64", "bool"), place, last)
    longer = builder.op("Add", shape, builder.constant([0, 1], np.int64))
    empty = builder.op("Expand", builder.constant([[_ABSENT]], object), longer)
    moved = builder.op("ScatterElements", empty, place, words, axis=1)
    return builder.op(
        "Slice", moved, builder.constant([0], np.int64), last, builder.constant([1], np.int64)
    )


def _characters(writer: Writer, model: Any, columns: Columns) -> str:
    """string (N, T): the characters of each text, white space as scikit-learn leaves it."""
    builder = writer.builder
    text = _flat_text(writer, model, columns)
    space = builder.constant([[[" "]]], object)
    absent = builder.constant([[[_ABSENT]]], object)
    flat = builder.constant([0, -1], np.int64)
    if model.analyzer == "char_wb":
        # " word " for each word; across words come two spaces, or no character, which no term has.
        letters = _letters(writer, _cut(writer, text, tokenexp=f"[^{_SPACE}]+"))
        blank = builder.op("Expand", absent, _column_shape(writer, letters))
        before = builder.op("Concat", blank, letters, axis=2)
        here = builder.op("Concat", letters, blank, axis=2)
        ends = builder.op(
            "And", _is_absent(writer, here), builder.op("Not", _is_absent(writer, before))
        )
        first = builder.op("Gather", letters, builder.constant([0], np.int64), axis=2)
        start = builder.op("Where", _is_absent(writer, first), absent, space)
        padded = builder.op("Concat", start, builder.op("Where", ends, space, here), axis=2)
        return builder.op("Reshape", padded, flat)
    # Two and more of white space are one space; a single one stays what it is.
    letters = _letters(writer, _cut(writer, text, tokenexp=f"[{_SPACE}]{{2,}}|(?s:.)"))
    blank = builder.op("Expand", absent, _column_shape(writer, letters))
    letters = builder.op("Concat", letters, blank, blank, axis=2)
    first = builder.op("Gather", letters, builder.constant(0, np.int64), axis=2)
    second = builder.op("Gather", letters, builder.constant(1, np.int64), axis=2)
    alone = _is_absent(writer, second)
    return builder.op("Where", alone, first, builder.constant([[" "]], object))


def _letters(writer: Writer, pieces: str) -> str:
    """string (N, T, D): the characters of each piece (N, T); T and D are at least 1."""
    builder = writer.builder
    # Without any piece in any text there would be no axis to read.
    shape = builder.op("Shape", pieces)
    rows = builder.op("Gather", shape, builder.constant([0], np.int64))
    column = builder.op("Concat", rows, builder.constant([1], np.int64), axis=0)
    one = builder.op("Expand", builder.constant([[_ABSENT]], object), column)
    pieces = builder.op("Concat", pieces, one, axis=1)
    return _cut(writer, pieces, separators=[""])


def _column_shape(writer: Writer, letters: str) -> str:
    builder = writer.builder
    shape = builder.op("Shape", letters)
    front = builder.op("Gather", shape, builder.constant([0, 1], np.int64))
    return builder.op("Concat", front, builder.constant([1], np.int64), axis=0)


def _is_absent(writer: Writer, name: str) -> str:
    builder = writer.builder
    hit = builder.ml(
        "LabelEncoder", name, keys_strings=[_ABSENT], values_int64s=[1], default_int64=0
    )
    return builder.cast(hit, "int64", "bool")


def _counted(writer: Writer, tokens: str, grams: list[tuple[list[str], int]], width: int) -> str:
    """float64 (N, width): how often each n-gram occurs among the tokens (N, T)."""
    builder = writer.builder
    # The widest column gives the answer its width, and may belong to a term that never occurs.
    if not any(column == width - 1 for _, column in grams):
        grams = [*grams, ([_ABSENT + "never"], width - 1)]
    longest = max(len(gram) for gram, _ in grams)
    pool: list[str] = []
    starts: list[int] = []
    indexes: list[int] = []
    for length in range(1, longest + 1):
        starts.append(len(pool))
        for gram, column in grams:
            if len(gram) == length:
                pool.extend(gram)
                indexes.append(column)
    counts = builder.op(
        "TfIdfVectorizer",
        tokens,
        mode="TF",
        min_gram_length=min(len(gram) for gram, _ in grams),
        max_gram_length=longest,
        max_skip_count=0,
        pool_strings=pool,
        ngram_counts=starts,
        ngram_indexes=indexes,
    )
    return builder.cast(counts, "float32", "float64")


# ---- hashed words


@writes("transform", "HashingVectorizer")
def _hashing_vectorizer(writer: Writer, model: Any, columns: Columns) -> Columns:
    _check(model, columns)
    if model.analyzer != "word" or tuple(model.ngram_range) != (1, 1):
        raise unsupported(model, "only single words are hashed, not n-grams")
    if model.n_features > _MOST_HASHED:
        raise unsupported(model, f"it makes {model.n_features} columns; {_MOST_HASHED} are written")
    builder = writer.builder
    width = int(model.n_features)
    words = _words(writer, model, columns)
    left_out = sorted({_ABSENT, *map(str, model.get_stop_words() or ())})
    kept = builder.ml(
        "LabelEncoder",
        words,
        keys_strings=left_out,
        values_int64s=[0] * len(left_out),
        default_int64=1,
    )
    hashed = builder.op("MurmurHash3", words, domain="com.microsoft", seed=0, positive=0)
    code = builder.cast(hashed, "int32", "int64")
    size = builder.op("Abs", code)
    place = builder.op("Mod", size, builder.constant(width, np.int64))
    amount = builder.cast(kept, "int64", "float64")
    if model.alternate_sign and not model.binary:  # words that cancel each other do occur
        below = builder.op("Less", code, builder.constant(0, np.int64))
        amount = builder.op("Where", below, builder.op("Neg", amount), amount)
    rows = builder.op("Gather", builder.op("Shape", words), builder.constant([0], np.int64))
    shape = builder.op("Concat", rows, builder.constant([width], np.int64), axis=0)
    zeros = builder.op("Expand", builder.constant(0.0, np.float64), shape)
    counts = builder.op("ScatterElements", zeros, place, amount, axis=1, reduction="add")
    if model.binary:
        some = builder.op("Equal", counts, builder.constant(0.0, np.float64))
        one = builder.constant(1.0, np.float64)
        counts = builder.op("Where", some, builder.constant(0.0, np.float64), one)
    if model.norm is not None:
        counts = normalized(writer, counts, model.norm)
    return writer.new(counts, width)
