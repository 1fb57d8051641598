"""The same model by hand in PyTorch: tokenize, run, take the mean over tokens, normalize."""

from __future__ import annotations

import json
from typing import Any

import torch
from transformers import AutoModel, AutoTokenizer

from benchmarks.cases.sentence_embedding import SOURCE
from benchmarks.task import Task

label = "transformers and torch, by hand"


def setup(task: Task) -> None:
    global model, tokenizer, texts
    torch.set_num_threads(1)
    model = AutoModel.from_pretrained(SOURCE, local_files_only=True).eval()
    tokenizer = AutoTokenizer.from_pretrained(SOURCE, local_files_only=True)
    texts = json.loads(task.inputs.with_suffix(".json").read_text())


def run(i: int) -> Any:
    tokens = tokenizer(texts[i % len(texts)], return_tensors="pt")
    with torch.inference_mode():
        hidden = model(**tokens).last_hidden_state
        mask = tokens["attention_mask"].unsqueeze(-1)
        mean = (hidden * mask).sum(1) / mask.sum(1)
        return torch.nn.functional.normalize(mean, dim=1).numpy()
