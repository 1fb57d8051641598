"""Texts to token ids, by the tokenizer that a transformer was trained with.

The tokenizer travels in the artifact as the JSON text of the ``tokenizers`` package (Rust), which is all that is
needed to serve: neither transformers nor torch. Reading that JSON executes nothing.

Texts are encoded one by one in the caller's thread. The package's own way to encode many at once spreads them
over every core and leaves a pool of threads behind, which belongs neither into a web worker nor across a fork.
Long texts are encoded without the GIL.

What the artifact's document ``tokenizer`` holds:

======================== ==============================================================================
``version``              1
``json``                 the tokenizer
``max_length``           most tokens of a row, special ones included; longer rows are cut. None: no limit
``truncation_side``      ``"right"`` or ``"left"``: where they are cut
``prefix``               put in front of every text (of pairs, the first): a model's prompt
``split_special_tokens`` whether ``[SEP]`` and the like, written in a text, are ordinary words there
======================== ==============================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infersdk.errors import ArtifactError, InputError, MissingDependencyError
from infersdk.types import Step

__all__ = ["Tokenize"]

_LONG_CHARACTERS = 2000
"""Texts from here on take a tokenizer about a millisecond and more; that is worth giving up the GIL."""

_READ: Mapping[str, Callable[[Any], list[int]]] = {
    "input_ids": lambda encoding: encoding.ids,
    "attention_mask": lambda encoding: encoding.attention_mask,
    "token_type_ids": lambda encoding: encoding.type_ids,
}
"""The inputs of a transformer that a tokenizer fills."""


class Tokenize:
    """A `tokenize` step: texts to int64 arrays, one for each of the step's outputs.

    Safe to use from any number of threads, and in a forked child.

    Parameters
    ----------
    step : Step
        Its outputs are among ``input_ids``, ``attention_mask`` and ``token_type_ids``; its ``pad`` has the
        number that each is filled up with.
    document : Mapping of str to object
        As the module describes.
    model : str
        The model's name in messages.

    Raises
    ------
    ArtifactError
        The document or the step is not what this version of infersdk writes.
    MissingDependencyError
        The package ``tokenizers`` is not installed.
    """

    __slots__ = ("_encode", "_encode_unlocked", "_fill", "_model", "_prefix", "_readers")

    def __init__(self, step: Step, document: Mapping[str, Any], *, model: str) -> None:
        try:
            from tokenizers import Tokenizer
        except ImportError as exc:
            raise MissingDependencyError.for_extra(
                "tokenizers", "transformers", f"Answering texts with model `{model}`"
            ) from exc
        self._model = model
        _check(step, document, model)
        self._readers = [_READ[name] for name in step.outputs]
        fill = {name: int(value) for _, name, value in step.pad}
        self._fill = [fill.get(name, 0) for name in step.outputs]
        self._prefix: str = document["prefix"]
        try:
            tokenizer = Tokenizer.from_str(document["json"])
            tokenizer.no_padding()
            tokenizer.no_truncation()
            most = document["max_length"]
            if most is not None:
                if most <= tokenizer.num_special_tokens_to_add(is_pair=False):
                    raise ValueError(f"max_length {most} leaves no room beside the special tokens")
                tokenizer.enable_truncation(most, direction=document["truncation_side"])
            tokenizer.encode_special_tokens = document["split_special_tokens"]
        except Exception as exc:  # the package raises bare Exceptions
            raise ArtifactError(f"Model `{model}`: its tokenizer cannot be read: {exc}") from exc
        self._encode = tokenizer.encode
        self._encode_unlocked = tokenizer.encode_batch_fast

    def __call__(self, rows: Sequence[Any]) -> list[NDArray[np.int64]]:
        """Encode texts, or pairs of texts, and fill all up to the longest of them.

        Parameters
        ----------
        rows : sequence of str, or of two str each
            A list, or an object array of shape (n_rows, 2).

        Returns
        -------
        list of numpy.ndarray
            One int64 array of shape (n_rows, length) for each of the step's outputs, in their order. Where
            there are no rows the length is 1.

        Raises
        ------
        InputError
            A row is not text, or has no tokens at all.
        """
        encodings = []
        longest = 0
        for position, row in enumerate(rows):
            try:
                encoding = self._encode_one(row)
            except (TypeError, ValueError) as exc:
                raise self._refusal(row, position) from exc
            if not len(encoding):
                raise InputError.mismatch(
                    expected="a text with at least one token",
                    given=f"{row!r:.60}, which has none",
                    row=position,
                    model=self._model,
                )
            longest = max(longest, len(encoding))
            encodings.append(encoding)
        if len(encodings) == 1:
            return [np.array([read(encodings[0])], np.int64) for read in self._readers]
        arrays = []
        for read, fill in zip(self._readers, self._fill, strict=True):
            array = np.full((len(encodings), max(longest, 1)), fill, np.int64)
            for place, encoding in zip(array, encodings, strict=True):
                place[: len(encoding)] = read(encoding)
            arrays.append(array)
        return arrays

    def _encode_one(self, row: Any) -> Any:
        if isinstance(row, str):
            text = self._prefix + row if self._prefix else row
            if len(text) < _LONG_CHARACTERS:
                return self._encode(text)
            return self._encode_unlocked([text])[0]
        first, second = row
        if not isinstance(first, str) or not isinstance(second, str):
            raise TypeError
        first = self._prefix + first
        if len(first) + len(second) < _LONG_CHARACTERS:
            return self._encode(first, second)
        return self._encode_unlocked([(first, second)])[0]

    def _refusal(self, row: Any, position: int) -> InputError:
        given = type(row).__name__
        texts = [row] if isinstance(row, str) else row
        if isinstance(texts, (list, tuple, np.ndarray)):
            kinds = [type(text).__name__ for text in texts]
            given = f"a {given} of {', '.join(kinds[:4]) or 'nothing'}"
            if kinds in (["str"], ["str", "str"]):
                given = "text with a lone surrogate, which is no Unicode character"
        return InputError.mismatch(
            expected="a str, or two of them", given=given, row=position, model=self._model
        )


def _check(step: Step, document: Mapping[str, Any], model: str) -> None:
    """Refuse a document that was not written by a converter of this version."""

    def refuse(expected: str, given: object) -> ArtifactError:
        return ArtifactError(
            f"Model `{model}`: expected {expected}, got {given!r:.80} - document `tokenizer`. Convert the "
            "model again"
        )

    if document.get("version") != 1:
        raise refuse("a tokenizer of version 1", document.get("version"))
    if not isinstance(document.get("json"), str):
        raise refuse("the tokenizer as `json` text", document.get("json"))
    if not isinstance(document.get("prefix"), str):
        raise refuse("`prefix` to be text", document.get("prefix"))
    if document.get("truncation_side") not in ("left", "right"):
        raise refuse("`truncation_side` to be 'left' or 'right'", document.get("truncation_side"))
    if not isinstance(document.get("split_special_tokens"), bool):
        raise refuse(
            "`split_special_tokens` to be true or false", document.get("split_special_tokens")
        )
    most = document.get("max_length")
    if most is not None and (type(most) is not int or not 0 < most < 2**31):
        raise refuse("`max_length` to be a positive number or null", most)
    unknown = [name for name in step.outputs if name not in _READ]
    if unknown or not step.outputs:
        raise refuse(f"inputs among {', '.join(_READ)}", unknown)
    bad = [value for _, _, value in step.pad if value != int(value)]
    if bad:
        raise refuse("token ids to fill up with", bad[0])
