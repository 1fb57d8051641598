"""The tokenizer of a transformer: what of it travels in the artifact, and the tokens it gives itself.

Only tokenizers over the ``tokenizers`` package travel: nearly all of transformers 5. Those written in Python
(a few languages with their own word splitters) have no form outside of their framework.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infersdk.errors import UnsupportedModelError
from infersdk.types import Step, TensorSpec

__all__ = ["SEQUENCE", "Tokens", "read_tokenizer"]

SEQUENCE = "sequence"
"""Name of the axis of tokens."""

_KNOWN_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
_NO_LIMIT = 10**9
"""Tokenizers without a limit of their own say 1e30."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """A source tokenizer, and how its model wants to be fed.

    Parameters
    ----------
    tokenizer : transformers.PreTrainedTokenizerBase
    names : tuple of str
        The model's inputs, in its order.
    max_length : int or None
        Most tokens of a row.
    prefix : str
        Put in front of every text.
    """

    tokenizer: Any
    names: tuple[str, ...]
    max_length: int | None
    prefix: str = ""

    def encode(self, rows: Sequence[Any]) -> dict[str, NDArray[np.int64]]:
        """Ask the source tokenizer, row by row, and fill up at the end.

        By hand, since some tokenizers know no token to fill up with, and some fill up at the beginning, where
        the answers of models that count positions from there would depend on the filling.

        Parameters
        ----------
        rows : sequence of str, or of two str each
        """
        encoded = [self._encode_one(row) for row in rows]
        longest = max((len(item["input_ids"]) for item in encoded), default=1)
        arrays = {}
        for name in self.names:
            array = np.full((len(encoded), max(longest, 1)), self.fill(name), np.int64)
            for place, item in zip(array, encoded, strict=True):
                place[: len(item[name])] = item[name]
            arrays[name] = array
        return arrays

    def _encode_one(self, row: Any) -> dict[str, list[int]]:
        first, *second = [row] if isinstance(row, str) else row
        # As lists of one, since a pair whose second text is empty would otherwise be no pair.
        encoded = self.tokenizer(
            [self.prefix + first],
            *([text] for text in second),
            truncation=self.max_length is not None,
            max_length=self.max_length,
            return_attention_mask=True,
            return_token_type_ids="token_type_ids" in self.names,
        )
        return {name: encoded[name][0] for name in self.names}

    def fill(self, name: str) -> int:
        """The number that an input is filled up with."""
        if name == "input_ids":
            return int(self.tokenizer.pad_token_id or 0)
        if name == "token_type_ids":
            return int(getattr(self.tokenizer, "pad_token_type_id", 0) or 0)
        return 0

    @property
    def step(self) -> Step:
        pad = tuple((SEQUENCE, name, self.fill(name)) for name in self.names)
        return Step("tokenize", "tokenize", self.names, pad=pad)

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        return tuple(TensorSpec(name, "int64", ("N", SEQUENCE)) for name in self.names)

    def document(self) -> dict[str, Any]:
        """What the artifact keeps; `processing.tokenize` reads it.

        Raises
        ------
        UnsupportedModelError
            The tokenizer is written in Python.
        """
        backend: Any = getattr(self.tokenizer, "backend_tokenizer", None)
        if type(backend).__module__.partition(".")[0] != "tokenizers":
            raise UnsupportedModelError(
                f"{type(self.tokenizer).__name__} is written in Python and runs nowhere else. Use a tokenizer "
                "with a tokenizer.json (transformers.AutoTokenizer), or pass the model alone and give it token "
                "ids"
            )
        plain = type(backend).from_str(backend.to_str())
        plain.no_truncation()
        plain.no_padding()
        return {
            "version": 1,
            "json": plain.to_str(),
            "max_length": self.max_length,
            "truncation_side": self.tokenizer.truncation_side,
            "prefix": self.prefix,
            "split_special_tokens": bool(getattr(self.tokenizer, "split_special_tokens", False)),
        }


def read_tokenizer(
    tokenizer: Any, model: Any, *, max_length: int | None = None, prefix: str = ""
) -> Tokens:
    """Learn which inputs of a transformer its tokenizer fills, and how long rows may be.

    Parameters
    ----------
    tokenizer : transformers.PreTrainedTokenizerBase
    model : transformers.PreTrainedModel
    max_length : int, optional
        Most tokens of a row; by default the tokenizer's own, or as many as the model has positions for.
    prefix : str
        Put in front of every text.

    Raises
    ------
    UnsupportedModelError
        The model wants more than tokens.
    """
    takes = inspect.signature(model.forward).parameters
    wanted = [name for name in tokenizer.model_input_names if name in takes or name == "input_ids"]
    if unknown := [name for name in wanted if name not in _KNOWN_INPUTS]:
        raise UnsupportedModelError(
            f"{type(model).__name__} takes {', '.join(unknown)} beside tokens, which no text gives. Pass the model "
            "alone, with a dict of tensors as the example"
        )
    # A model that is told nothing about filled-up tokens would read them.
    if "attention_mask" in takes and "attention_mask" not in wanted:
        wanted.append("attention_mask")
    names = tuple(name for name in _KNOWN_INPUTS if name in wanted)
    if max_length is None:
        max_length = _longest(tokenizer, model)
    return Tokens(tokenizer, names, max_length, prefix)


def _longest(tokenizer: Any, model: Any) -> int | None:
    """The tokenizer's limit or, where it has none, the positions that the model was trained with."""
    limit = tokenizer.model_max_length
    limits = [int(limit)] if limit is not None and limit < _NO_LIMIT else []
    config = model.config.get_text_config() if hasattr(model.config, "get_text_config") else None
    positions = getattr(config, "max_position_embeddings", None)
    if isinstance(positions, int) and positions > 0:
        # RoBERTa and its kin count positions from behind the id of the filling token.
        offset = max(
            (
                table.padding_idx + 1
                for name, table in model.named_modules()
                if name.endswith("position_embeddings")
                and getattr(table, "padding_idx", None) is not None
            ),
            default=0,
        )
        limits.append(positions - offset)
    return min(limits, default=None)
