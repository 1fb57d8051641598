"""What sentence-transformers' users write."""

from __future__ import annotations

import json
from typing import Any

import torch
from sentence_transformers import SentenceTransformer

from benchmarks.cases.sentence_embedding import SOURCE
from benchmarks.task import Task

label = "SentenceTransformer.encode"


def setup(task: Task) -> None:
    global encode, texts
    torch.set_num_threads(1)
    encode = SentenceTransformer(str(SOURCE), device="cpu", local_files_only=True).encode
    texts = json.loads(task.inputs.with_suffix(".json").read_text())


def run(i: int) -> Any:
    return encode([texts[i % len(texts)]], show_progress_bar=False)
