"""Transformers over texts, judged by transformers itself. Models are tiny, seeded and made on the spot."""

from __future__ import annotations

import shutil
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import infersdk
from infersdk import Execution
from infersdk.convert import registry
from infersdk.convert import transformers as converter
from infersdk.convert.conversion import convert_model
from infersdk.errors import (
    ConversionError,
    InputError,
    MissingDependencyError,
    UnsupportedModelError,
)
from infersdk.processing.tokenize import Tokenize
from tests.convert import tiny_transformers as tiny

pytest.importorskip("onnxscript", reason="PyTorch's exporter needs onnxscript")
pytest.importorskip("transformers", reason="transformers is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*deprecated.*"),
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
]

NEW = ["not bad", "", "time and the films, the the film", "good " * 60, "what? unknown!"]
EXAMPLE = tiny.EXAMPLE


def _load(model: Any, example: Any = None, **settings: Any) -> infersdk.Predictor:
    return infersdk.load(
        model,
        example=EXAMPLE if example is None else example,
        execution=Execution(threads=1, calibration_s=0.0),
        **settings,
    )


def _outputs(model: Any, tokenizer: Any, rows: list[Any]) -> Any:
    """What transformers itself gives, with its own padding."""
    import torch

    tokens = tokenizer(rows, padding=True, truncation=True, return_tensors="pt")
    with torch.inference_mode():
        return tokens, model(**tokens)


@pytest.fixture(scope="module")
def sentiment() -> tuple[Any, Any]:
    labels = {0: "negative", 1: "neutral", 2: "positive"}
    return tiny.model("BERT", "SequenceClassification", num_labels=3, id2label=labels), (
        tiny.tokenizer()
    )


@pytest.fixture(scope="module")
def served(sentiment: tuple[Any, Any]) -> infersdk.Predictor:
    return _load(sentiment)


def test_texts_are_classified(served: infersdk.Predictor, sentiment: tuple[Any, Any]) -> None:
    _, outputs = _outputs(*sentiment, NEW)
    probabilities = outputs.logits.softmax(-1).numpy()
    names = [sentiment[0].config.id2label[i] for i in probabilities.argmax(-1)]
    assert served.plan.kind == "onnx"
    assert served.predict(NEW).tolist() == names
    assert len(set(names)) > 1
    np.testing.assert_allclose(served.predict_proba(NEW), probabilities, atol=1e-6)
    np.testing.assert_allclose(served.logits(NEW), outputs.logits.numpy(), atol=1e-5)
    assert served("not bad").tolist() == names[:1]


def test_a_row_answers_alone_as_it_does_beside_longer_ones(served: infersdk.Predictor) -> None:
    together = served.logits(NEW)
    alone = np.concatenate([served.logits(row) for row in NEW])
    np.testing.assert_allclose(alone, together, atol=1e-6)


@pytest.mark.slow
def test_the_graph_answers_in_another_runtime(sentiment: tuple[Any, Any]) -> None:
    signature = converter.infer_signature(sentiment, EXAMPLE)
    written = converter.to_onnx(sentiment, signature, example=EXAMPLE)
    session = onnxruntime.InferenceSession(
        written.graph.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (step,) = signature.steps
    tokenize = Tokenize(step, written.documents["tokenizer"], model="sentiment")
    for rows in (NEW, NEW[:1], ["bad"] * 7):
        feed = dict(zip(step.outputs, tokenize(rows), strict=True))
        (logits,) = session.run(["logits"], feed)
        np.testing.assert_allclose(
            logits, converter.call(sentiment, "logits", rows), atol=1e-5, rtol=1e-4
        )


def test_the_artifact_needs_neither_transformers_nor_torch(
    served: infersdk.Predictor, tmp_path: Path
) -> None:
    served.save(tmp_path / "sentiment.onnx")
    code = """
import sys
import infersdk
served = infersdk.load(sys.argv[1])
print(served.predict(["not bad", "what? unknown!"]).tolist())
assert not {"transformers", "torch"} & set(sys.modules)
"""
    told = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "sentiment.onnx"],
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    ).stdout
    assert told.strip() == str(served.predict(["not bad", "what? unknown!"]).tolist())


def test_rows_that_are_no_text_are_refused(served: infersdk.Predictor) -> None:
    with pytest.raises(InputError, match="row 1") as caught:
        served.predict(["good", None])
    assert caught.value.row == 1
    with pytest.raises(InputError, match="Expected a str"):
        served.predict([3])


@pytest.mark.slow
def test_the_users_model_stays_as_it_is() -> None:
    model, tokenizer = tiny.model("BERT", attn_implementation="sdpa"), tiny.tokenizer()
    model.train()
    tokenizer.padding_side = "left"
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    signature = converter.infer_signature((model, tokenizer), EXAMPLE)
    converter.to_onnx((model, tokenizer), signature, example=EXAMPLE)
    assert model.training
    assert model.config._attn_implementation == "sdpa"
    assert tokenizer.padding_side == "left"
    assert all(bool((value == weights[name]).all()) for name, value in model.state_dict().items())


@pytest.mark.slow
def test_pairs_of_texts() -> None:
    model, tokenizer = tiny.model("BERT", "SequenceClassification", num_labels=2), tiny.tokenizer()
    example = list(zip(EXAMPLE, EXAMPLE[::-1], strict=True))
    served = _load((model, tokenizer), example)
    assert served.plan.kind == "onnx"
    _, outputs = _outputs(model, tokenizer, example)
    expected = outputs.logits.numpy()
    np.testing.assert_allclose(served.logits(example), expected, atol=1e-5)
    one = {"text": example[0][0], "text_pair": example[0][1]}
    np.testing.assert_allclose(served.logits(one), expected[:1], atol=1e-5)
    np.testing.assert_allclose(served.logits(list(example[0])), expected[:1], atol=1e-5)
    assert not np.allclose(served.logits(list(example[0][::-1])), expected[:1], atol=1e-3)
    with pytest.raises(InputError, match="text_pair"):
        served.logits({"text": "good"})


@pytest.mark.slow
@pytest.mark.parametrize("problem", ["multi_label_classification", "regression"])
def test_other_problems_than_one_class_of_many(problem: str) -> None:
    n_labels = 3 if problem == "multi_label_classification" else 1
    model = tiny.model(
        "DistilBERT", "SequenceClassification", num_labels=n_labels, problem_type=problem
    )
    tokenizer = tiny.tokenizer(model_input_names=["input_ids", "attention_mask"])
    served = _load((model, tokenizer))
    assert served.plan.kind == "onnx"
    logits = _outputs(model, tokenizer, NEW)[1].logits
    if problem == "regression":
        assert served.signature.method("predict_proba") is None
        np.testing.assert_allclose(served.predict(NEW), logits[:, 0].numpy(), atol=1e-5)
    else:
        np.testing.assert_allclose(served.predict_proba(NEW), logits.sigmoid().numpy(), atol=1e-6)
        assert np.array_equal(served.predict(NEW), (logits > 0).long().numpy())


@pytest.mark.slow
def test_tokens_are_classified() -> None:
    import transformers

    model, tokenizer = tiny.model("RoBERTa", "TokenClassification", num_labels=4), tiny.tokenizer()
    pipeline = transformers.pipeline("token-classification", model=model, tokenizer=tokenizer)
    served = _load(pipeline)
    assert served.plan.kind == "onnx"
    tokens, outputs = _outputs(model, tokenizer, NEW)
    mask = tokens["attention_mask"].numpy()
    classes = np.where(mask, outputs.logits.argmax(-1).numpy(), -100)
    assert np.array_equal(served.predict(NEW), classes)
    answer = served(NEW)
    assert list(answer) == ["logits", "input_ids", "attention_mask"]
    assert np.array_equal(answer["attention_mask"], mask)
    assert np.array_equal(answer["input_ids"], tokens["input_ids"].numpy())
    np.testing.assert_allclose(
        answer["logits"], np.where(mask[..., None], outputs.logits.numpy(), 0), atol=1e-5
    )
    assert served.predict("not bad").shape == (1, 4)


@pytest.mark.slow
def test_embeddings_of_a_folder(tmp_path: Path) -> None:
    import torch

    model, tokenizer = tiny.model("MPNet"), tiny.tokenizer()
    model.to(torch.bfloat16).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    model.float()
    served = _load(tmp_path)
    assert served.plan.kind == "onnx"
    assert served.name == tmp_path.name
    tokens, outputs = _outputs(model, tokenizer, NEW)
    answer = served(NEW)
    assert list(answer) == ["last_hidden_state", "pooler_output", "input_ids", "attention_mask"]
    np.testing.assert_allclose(answer["pooler_output"], outputs.pooler_output.numpy(), atol=1e-5)
    hidden = outputs.last_hidden_state * tokens["attention_mask"][..., None]
    np.testing.assert_allclose(answer["last_hidden_state"], hidden.numpy(), atol=1e-4)
    assert np.array_equal(served("not bad")["attention_mask"], [[1] * 4])


@pytest.mark.parametrize("given", [None, "none", "softmax"])
def test_a_pipeline_decides_what_a_score_is(given: str | None) -> None:
    import transformers

    model = tiny.model("ELECTRA", "SequenceClassification", num_labels=3)
    settings = {} if given is None else {"function_to_apply": given}
    pipeline = transformers.pipeline(
        "text-classification", model=model, tokenizer=tiny.tokenizer(), top_k=None, **settings
    )
    signature = converter.infer_signature(pipeline, EXAMPLE)
    names = [method.name for method in signature.methods]
    assert names == ["predict", *(["predict_proba"] if given != "none" else []), "logits"]
    method = "logits" if given == "none" else "predict_proba"
    scores = converter.call(pipeline, method, EXAMPLE)
    expected = [
        [next(item["score"] for item in row if item["label"] == f"LABEL_{i}") for i in range(3)]
        for row in pipeline(EXAMPLE)
    ]
    np.testing.assert_allclose(scores, expected, atol=1e-6)


def test_a_pipeline_that_generates_is_served_natively() -> None:
    import transformers

    pipeline = transformers.pipeline(
        "text-generation",
        model=tiny.model("GPT-2", "CausalLM"),
        tokenizer=tiny.tokenizer(model_input_names=["input_ids", "attention_mask"]),
        max_new_tokens=3,
        do_sample=False,
    )
    served = _load(pipeline)
    assert served.plan.kind == "native"
    assert "more than one pass" in served.plan.reason
    assert served(["good film"]) == pipeline(["good film"])


def test_models_that_write_token_by_token_are_refused() -> None:
    model, tokenizer = tiny.model("T5", "Seq2SeqLM"), tiny.tokenizer()
    with pytest.raises(UnsupportedModelError, match=r"get_encoder\(\)"):
        converter.infer_signature((model, tokenizer), EXAMPLE)


def test_pipelines_over_other_things_are_refused() -> None:
    class Pipeline:
        tokenizer = None
        task = "image-classification"

    Pipeline.__module__ = "transformers.pipelines.base"
    assert converter.can_convert(Pipeline())
    with pytest.raises(UnsupportedModelError, match="pixel_values"):
        converter.infer_signature(Pipeline())


def test_a_tokenizer_written_in_python_stays_where_it_is(sentiment: tuple[Any, Any]) -> None:
    from infersdk.convert.transformers_tokenizer import read_tokenizer

    class Slow:
        model_input_names = ("input_ids", "attention_mask")
        model_max_length = 10**30
        truncation_side = "right"
        pad_token_id = 0

    tokens = read_tokenizer(Slow(), sentiment[0])
    assert tokens.max_length == 64
    with pytest.raises(UnsupportedModelError, match="written in Python"):
        tokens.document()


def test_how_long_texts_may_be() -> None:
    from infersdk.convert.transformers_tokenizer import read_tokenizer

    unlimited = tiny.tokenizer(model_max_length=10**30)
    assert read_tokenizer(tiny.tokenizer(), tiny.model("BERT")).max_length == 40
    assert read_tokenizer(unlimited, tiny.model("BERT")).max_length == 64
    # Its first position is the one behind the filling token's id.
    assert read_tokenizer(unlimited, tiny.model("RoBERTa")).max_length == 63
    assert read_tokenizer(unlimited, tiny.model("T5")).max_length is None


def test_inputs_that_are_no_tokens_are_refused() -> None:
    from infersdk.convert.transformers_tokenizer import read_tokenizer

    class Layout:
        def forward(self, input_ids: Any, bbox: Any) -> None: ...

    tokenizer = tiny.tokenizer(model_input_names=["input_ids", "bbox"])
    with pytest.raises(UnsupportedModelError, match="takes bbox beside tokens"):
        read_tokenizer(tokenizer, Layout(), max_length=8)


@pytest.mark.slow
def test_a_model_alone_takes_tensors() -> None:
    model, tokenizer = tiny.model("BERT", use_cache=True), tiny.tokenizer()
    tokens = tokenizer(EXAMPLE, padding=True, return_tensors="np")
    example = {name: tokens[name] for name in ("input_ids", "attention_mask")}
    served = _load(model, example)
    assert served.plan.kind == "onnx"
    assert [spec.shape[0] for spec in served.signature.inputs] == ["N", "N"]
    other = tokenizer(["the film"], return_tensors="np")
    answer = served({name: other[name] for name in example})
    expected = _outputs(model, tokenizer, ["the film"])[1].last_hidden_state.numpy()
    np.testing.assert_allclose(answer["last_hidden_state"], expected, atol=1e-5)


@pytest.mark.slow
def test_a_vision_model_takes_pixels() -> None:
    import torch
    import transformers

    torch.manual_seed(1)
    config = transformers.ViTConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        image_size=16,
        patch_size=4,
        num_labels=3,
    )
    model = transformers.ViTForImageClassification(config).eval()
    pixels = np.random.default_rng(0).standard_normal((4, 3, 16, 16)).astype(np.float32)
    served = _load(model, {"pixel_values": pixels})
    assert served.plan.kind == "onnx"
    with torch.inference_mode():
        expected = model(torch.from_numpy(pixels[:3])).logits.numpy()
    np.testing.assert_allclose(served({"pixel_values": pixels[:3]})["logits"], expected, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["GPT-2", "Llama"])
def test_a_language_model_gives_the_logits_of_one_pass(kind: str) -> None:
    model = tiny.model(kind, "CausalLM")
    tokenizer = tiny.tokenizer(model_input_names=["input_ids", "attention_mask"])
    served = _load((model, tokenizer))
    assert served.plan.kind == "onnx"
    assert any("does not generate" in note for note in served.plan.notes)
    answer = served(NEW)
    assert set(answer) == {"logits", "input_ids", "attention_mask"}
    for row, text in enumerate(NEW):
        logits = _outputs(model, tokenizer, [text])[1].logits[0].numpy()
        np.testing.assert_allclose(answer["logits"][row, : len(logits)], logits, atol=1e-4)


def test_what_is_known(tmp_path: Path, sentiment: tuple[Any, Any]) -> None:
    assert registry.find(sentiment) is converter
    assert registry.find(sentiment[0]) is converter
    assert not converter.can_convert(sentiment[1])
    assert not converter.can_convert((sentiment[0], "bert-base-uncased"))
    assert not converter.can_convert(str(tmp_path))
    (tmp_path / "config.json").write_text("[1]")
    assert not converter.can_convert(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    assert converter.can_convert(tmp_path)
    assert registry.find(str(tmp_path)) is converter


@pytest.fixture
def folder(sentiment: tuple[Any, Any], tmp_path: Path) -> Path:
    """A model as save_pretrained() leaves it."""
    path = tmp_path / "sentiment-v1.5"
    for part in sentiment:
        part.save_pretrained(path)
    return path


def test_a_folder_is_read_once_and_not_needed_again(
    folder: Path, sentiment: tuple[Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        shutil.rmtree(folder)
        raise ConversionError("not today")

    monkeypatch.setattr(converter, "to_onnx", refuse)
    served = _load(folder)
    assert served.plan.kind == "native"
    assert served.name == "sentiment-v1.5"
    np.testing.assert_allclose(served.logits(NEW), _outputs(*sentiment, NEW)[1].logits, atol=1e-5)

    for part in sentiment:
        part.save_pretrained(folder)
    app = types.ModuleType("text_app")
    app.model = lambda: folder  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "text_app", app)
    path = served.save(tmp_path / "native.onnx", source="text_app:model")
    opened = infersdk.load(path, trust=("text_app:model",))
    shutil.rmtree(folder)
    assert opened.name == "sentiment-v1.5"
    assert opened.predict(NEW).tolist() == served.predict(NEW).tolist()


@pytest.mark.slow
def test_what_a_model_is_called(folder: Path, sentiment: tuple[Any, Any]) -> None:
    def provenance(model: Any) -> tuple[str, str]:
        conversion = convert_model(model, example=EXAMPLE, on_mismatch="raise")
        assert conversion.provenance is not None
        return conversion.name, conversion.provenance.source

    kind = "BertForSequenceClassification"
    source = f"transformers.models.bert.modeling_bert.{kind}"
    assert provenance(sentiment) == (kind, source)
    assert provenance(folder) == ("sentiment-v1.5", source)


def test_a_damaged_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "no such model"}')
    with pytest.raises(ConversionError, match="a folder written by save_pretrained"):
        converter.open_source(tmp_path)


def test_code_in_a_folder_is_not_run(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(
        '{"model_type": "own", "auto_map": {"AutoConfig": "own.Config", "AutoModel": "own.Model"}}'
    )
    (tmp_path / "own.py").write_text("open('ran', 'w').close()\nraise RuntimeError('it ran')\n")
    with pytest.raises(ConversionError) as caught:
        converter.open_source(tmp_path)
    assert "it ran" not in str(caught.value)


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingDependencyError, match=r"infersdk\[transformers\]"):
        infersdk.load(tmp_path)


@pytest.mark.slow
def test_large_weights_lie_beside_the_graph(
    sentiment: tuple[Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from infersdk.convert import torch_weights

    monkeypatch.setattr(torch_weights, "LARGE_MODEL_BYTES", 1)
    monkeypatch.setattr(torch_weights, "_LARGE_WEIGHT_BYTES", 1000)
    signature = converter.infer_signature(sentiment, EXAMPLE)
    written = converter.to_onnx(sentiment, signature, example=EXAMPLE)
    assert written.external_folder is not None
    served = _load(sentiment)
    assert served.plan.kind == "onnx"
    served.save(tmp_path / "sentiment.onnx")
    expected = _outputs(*sentiment, NEW)[1].logits.numpy()
    for predictor in (served, infersdk.load(tmp_path / "sentiment.onnx")):
        np.testing.assert_allclose(predictor.logits(NEW), expected, atol=1e-5)


@pytest.mark.slow
def test_the_encoder_of_a_model_that_writes() -> None:
    model, tokenizer = tiny.model("T5", "Seq2SeqLM"), tiny.tokenizer()
    served = _load((model.get_encoder(), tokenizer))
    assert served.plan.kind == "onnx"
    tokens = tokenizer(["not bad"], return_tensors="pt")
    expected = model.get_encoder()(input_ids=tokens["input_ids"]).last_hidden_state
    answer = served("not bad")["last_hidden_state"]
    np.testing.assert_allclose(answer, expected.detach().numpy(), atol=1e-4)


@pytest.mark.parametrize(
    "example", ["no", ["no"], ("no", "yes"), np.array(["no"]), {"text": "a", "text_pair": "b"}]
)
def test_examples_of_one_kind_or_the_other(example: Any) -> None:
    from infersdk.convert.transformers_graph import are_pairs, edge_texts

    made = edge_texts(tiny.model("BERT"), None, example, 9, np.random.default_rng(0))
    assert len(made) == 9
    assert are_pairs(made) == isinstance(example, dict)


@pytest.mark.parametrize("example", [[3], [("a", "b", "c")], [{"text": "a"}], [None]])
def test_examples_that_are_no_texts_are_refused(example: Any, sentiment: tuple[Any, Any]) -> None:
    with pytest.raises(ConversionError, match="an example of texts"):
        converter.infer_signature(sentiment, example)


def test_edge_rows_are_texts(sentiment: tuple[Any, Any]) -> None:
    signature = converter.infer_signature(sentiment, EXAMPLE)
    rng = np.random.default_rng(0)
    rows = converter.edge_rows(sentiment, signature, EXAMPLE, n_rows=100, rng=rng)
    assert "" in rows
    assert max(len(row.split()) for row in rows) > 40
    pairs = [("a", "b"), ("c", "d")]
    made = converter.edge_rows(sentiment, signature, pairs, n_rows=5, rng=rng)
    assert made.shape == (5, 2)
    assert all(isinstance(text, str) for text in made.ravel())
