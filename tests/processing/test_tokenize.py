"""Texts to token ids: as transformers' own tokenizer does, and what is refused."""

from __future__ import annotations

import os
import sys
import threading

import numpy as np
import pytest

from infersdk.errors import ArtifactError, InputError, MissingDependencyError
from infersdk.processing.tokenize import Tokenize
from infersdk.types import Step

tokenizers = pytest.importorskip("tokenizers", reason="the tokenizers package is not installed")

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "good", "bad", "film", "##s", "a", "the", "was", "!"]
OUTPUTS = ("input_ids", "attention_mask", "token_type_ids")


def _tokenizer() -> tokenizers.Tokenizer:
    made = tokenizers.Tokenizer(
        tokenizers.models.WordPiece(
            {word: index for index, word in enumerate(WORDS)}, unk_token="[UNK]"
        )
    )
    made.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    made.add_special_tokens(WORDS[:4])
    return made


def _document(**changes: object) -> dict[str, object]:
    return {
        "version": 1,
        "json": _tokenizer().to_str(),
        "max_length": 8,
        "truncation_side": "right",
        "prefix": "",
        "split_special_tokens": False,
        **changes,
    }


def _step(*outputs: str, pad_id: int = 0) -> Step:
    pad = (("sequence", "input_ids", pad_id), ("sequence", "attention_mask", 0))
    return Step("tokenize", "tokenize", outputs or OUTPUTS, pad=pad)


def _tokenize(**changes: object) -> Tokenize:
    return Tokenize(_step(), _document(**changes), model="films:1")


def test_one_text_is_not_padded() -> None:
    ids, mask, types = _tokenize()(["The FILMS was good"])
    assert ids.tolist() == [[2, 9, 6, 7, 10, 4, 3]]
    assert mask.tolist() == [[1] * 7]
    assert types.tolist() == [[0] * 7]
    assert {array.dtype for array in (ids, mask, types)} == {np.dtype(np.int64)}


def test_rows_are_padded_at_the_end_to_the_longest_of_the_call() -> None:
    ids, mask = Tokenize(
        _step("input_ids", "attention_mask", pad_id=1), _document(), model="films:1"
    )(["good", "the bad film"])
    assert ids.tolist() == [[2, 4, 3, 1, 1], [2, 9, 5, 6, 3]]
    assert mask.tolist() == [[1, 1, 1, 0, 0], [1] * 5]


@pytest.mark.parametrize(("side", "kept"), [("right", [4, 5, 6]), ("left", [6, 10, 9])])
def test_long_rows_are_cut(side: str, kept: list[int]) -> None:
    tokenize = _tokenize(max_length=5, truncation_side=side)
    assert tokenize(["good bad film was the"])[0].tolist() == [[2, *kept, 3]]


def test_without_a_limit_nothing_is_cut() -> None:
    assert _tokenize(max_length=None)(["a " * 5000])[0].shape == (1, 5002)


def test_pairs_of_texts() -> None:
    tokenize = _tokenize()
    ids, _, types = tokenize([("good", "the film"), ("bad", "a")])
    assert ids.tolist() == [[2, 4, 3, 9, 6, 3], [2, 5, 3, 8, 3, 0]]
    assert types.tolist() == [[0, 0, 0, 1, 1, 1], [0, 0, 0, 1, 1, 0]]
    matrix = np.array([["good", "the film"], ["bad", "a"]], dtype=object)
    assert np.array_equal(tokenize(matrix)[0], ids)


def test_a_prefix_goes_in_front_of_each_text() -> None:
    tokenize = _tokenize(prefix="the ")
    assert tokenize(["film"])[0].tolist() == [[2, 9, 6, 3]]
    assert tokenize([("film", "film")])[0].tolist() == [[2, 9, 6, 3, 6, 3]]


def test_special_tokens_in_a_text_can_be_ordinary_words() -> None:
    assert _tokenize()(["[SEP]"])[0].tolist() == [[2, 3, 3]]
    split = _tokenize(split_special_tokens=True)(["[SEP]"])[0]
    assert split.tolist() == [[2, 1, 1, 1, 3]]


def test_no_rows() -> None:
    assert [array.shape for array in _tokenize()([])] == [(0, 1)] * 3


def test_padding_in_the_file_is_of_no_account() -> None:
    made = _tokenizer()
    made.enable_padding(length=16)
    made.enable_truncation(3)
    ids = _tokenize(json=made.to_str())(["a good film"])[0]
    assert ids.tolist() == [[2, 8, 4, 6, 3]]


@pytest.mark.parametrize(
    ("row", "given"),
    [
        (None, "NoneType"),
        (3, "int"),
        (b"film", "bytes"),
        (("a", None), "a tuple of str, NoneType"),
        (("a", "b", "c"), "a tuple of str, str, str"),
        ("\ud800", "lone surrogate"),
        (("a", "\ud800"), "lone surrogate"),
        (["a"], "a list of str"),
    ],
)
def test_what_is_no_text_is_refused_by_row(row: object, given: str) -> None:
    with pytest.raises(InputError, match="Expected a str, or two of them") as caught:
        _tokenize()(["film", row])
    assert caught.value.row == 1
    assert caught.value.model == "films:1"
    if row != ["a"]:
        assert given in str(caught.value)


def test_a_text_without_tokens_is_refused() -> None:
    made = _tokenizer()
    made.post_processor = tokenizers.processors.Sequence([])
    with pytest.raises(InputError, match="at least one token") as caught:
        _tokenize(json=made.to_str())(["film", "  "])
    assert caught.value.row == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 2}, "a tokenizer of version 1, got 2"),
        ({"json": None}, "`json` text"),
        ({"json": "{}"}, "cannot be read"),
        ({"max_length": 0}, "`max_length`"),
        ({"max_length": True}, "`max_length`"),
        ({"max_length": 1}, "cannot be read"),
        ({"truncation_side": "middle"}, "'left' or 'right'"),
        ({"prefix": None}, "`prefix`"),
        ({"split_special_tokens": 1}, "`split_special_tokens`"),
    ],
)
def test_a_strange_document_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        _tokenize(**changes)


def test_a_strange_step_is_refused() -> None:
    for step in (_step("pixel_values"), Step("tokenize", "tokenize", ())):
        with pytest.raises(ArtifactError, match="inputs among input_ids"):
            Tokenize(step, _document(), model="films:1")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(MissingDependencyError, match=r"infersdk\[transformers\]"):
        _tokenize()


def test_threads_share_one() -> None:
    tokenize = _tokenize(max_length=None)
    texts = [" ".join(WORDS[4 + (i + k) % 7] for k in range(1 + 37 * i % 900)) for i in range(40)]
    alone = [tokenize([text])[0] for text in texts]
    wrong: list[int] = []

    def work(first: int) -> None:
        for index in range(first, len(texts)):
            if not np.array_equal(tokenize([texts[index]])[0], alone[index]):
                wrong.append(index)

    threads = [threading.Thread(target=work, args=(first,)) for first in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_forked_child_tokenizes_without_a_warning(capfd: pytest.CaptureFixture[str]) -> None:
    tokenize = _tokenize(max_length=None)
    rows = ["good film", "a " * 3000]
    expected = tokenize(rows)[0]
    child = os.fork()
    if child == 0:
        os._exit(0 if np.array_equal(tokenize(rows)[0], expected) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert "fork" not in capfd.readouterr().err
