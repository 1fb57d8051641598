"""The same graph and tokenizer as infersdk's, by hand: tokenizers, then one shared session of ONNX Runtime."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import tokenizers

from benchmarks.cases.sentence_embedding import SOURCE
from benchmarks.rivals._tensors import open_session
from benchmarks.task import Task

label = "tokenizers and session.run"


def setup(task: Task) -> None:
    global session_run, encode, texts
    session_run = open_session(task)[0].run
    tokenizer = tokenizers.Tokenizer.from_file(str(SOURCE / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(256)
    encode = tokenizer.encode
    texts = json.loads(task.inputs.with_suffix(".json").read_text())


def run(i: int) -> Any:
    encoding = encode(texts[i % len(texts)])
    inputs = {
        "input_ids": np.array([encoding.ids], np.int64),
        "attention_mask": np.array([encoding.attention_mask], np.int64),
        "token_type_ids": np.array([encoding.type_ids], np.int64),
    }
    return session_run(None, inputs)[0]
