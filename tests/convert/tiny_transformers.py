"""Transformers of a few thousand weights, made of a configuration and a seed; nothing is downloaded."""

from __future__ import annotations

from typing import Any

WORDS = (
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "film", "##s", "a", "the"),
    *("was", "!", "not", "long", "and", "time", "what", "no", ","),
)

EXAMPLE = [
    "The film was good!",
    "bad",
    "what a long, long film, and not good",
    "no time, not a long time and no films",
    "the the the",
]

KINDS = {
    "ALBERT": ("AlbertConfig", {"embedding_size": 16}),
    "BERT": ("BertConfig", {}),
    "CamemBERT": ("CamembertConfig", {}),
    "DeBERTa-v2": (
        "DebertaV2Config",
        {
            "relative_attention": True,
            "pos_att_type": ["c2p", "p2c"],
            "position_biased_input": False,
            "position_buckets": 16,
            "norm_rel_ebd": "layer_norm",
            "share_att_key": True,
        },
    ),
    "DistilBERT": ("DistilBertConfig", {}),
    "ELECTRA": ("ElectraConfig", {}),
    "GPT-2": ("GPT2Config", {}),
    "Llama": ("LlamaConfig", {"num_key_value_heads": 2}),
    "MPNet": ("MPNetConfig", {}),
    "ModernBERT": (
        "ModernBertConfig",
        {
            "global_attn_every_n_layers": 2,
            "local_attention": 8,
            "cls_token_id": 2,
            "sep_token_id": 3,
            "bos_token_id": 2,
            "eos_token_id": 3,
        },
    ),
    "RoBERTa": ("RobertaConfig", {}),
    "RoFormer": ("RoFormerConfig", {}),
    "T5": ("T5Config", {}),
    "XLM-RoBERTa": ("XLMRobertaConfig", {}),
}

_OTHER_NAMES = {
    "DistilBERT": {
        "dim": 32,
        "n_layers": 2,
        "n_heads": 4,
        "hidden_dim": 48,
        "max_position_embeddings": 64,
    },
    "GPT-2": {
        "n_embd": 32,
        "n_layer": 2,
        "n_head": 4,
        "n_positions": 64,
        "bos_token_id": 2,
        "eos_token_id": 3,
    },
    "T5": {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4},
}


def tokenizer(**settings: Any) -> Any:
    """A WordPiece tokenizer over a few words; settings are transformers' own."""
    import tokenizers as tk
    from transformers import PreTrainedTokenizerFast

    made = tk.Tokenizer(
        tk.models.WordPiece({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]")
    )
    made.normalizer = tk.normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = tk.pre_tokenizers.BertPreTokenizer()
    made.decoder = tk.decoders.WordPiece()
    made.post_processor = tk.processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    tokens = {
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
    }
    return PreTrainedTokenizerFast(
        tokenizer_object=made, **{"model_max_length": 40, **tokens, **settings}
    )


def config(kind: str, **settings: Any) -> Any:
    import transformers

    name, own = KINDS[kind]
    sizes = _OTHER_NAMES.get(
        kind,
        {
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 48,
            "max_position_embeddings": 64,
        },
    )
    return getattr(transformers, name)(
        vocab_size=len(WORDS), pad_token_id=0, **sizes, **own, **settings
    )


def model(kind: str, head: str = "", **settings: Any) -> Any:
    """A model in eval mode, e.g. of ``head="SequenceClassification"``; without one the bare encoder."""
    import torch
    import transformers

    torch.manual_seed(20047)
    if kind == "T5" and not head:
        made = transformers.T5EncoderModel(config(kind, **settings))
    else:
        auto = getattr(transformers, f"AutoModelFor{head}" if head else "AutoModel")
        made = auto.from_config(config(kind, **settings))
    with torch.no_grad():
        for weights in made.parameters():
            # As they come, most weights are so small that all texts answer alike.
            if weights.ndim > 1 and kind != "T5":
                weights.mul_(6)
    return made.eval()
