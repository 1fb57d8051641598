"""LightningModules: trained, still held by their trainer, logging in forward() and with metrics inside."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="PyTorch is not installed")
pytest.importorskip("onnxscript", reason="onnxscript is not installed")
pytest.importorskip("lightning", reason="lightning is not installed")

import infersdk
from infersdk import Execution
from infersdk.convert import torch as converter
from infersdk.errors import UnsupportedModelError

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*:UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

QUIET = Execution(calibration_s=0.0, threads=1)


def _module(*, with_example: bool = False, decides: bool = False) -> Any:
    import lightning
    import torch
    import torchmetrics

    class Model(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layers = torch.nn.Sequential(
                torch.nn.Linear(6, 16),
                torch.nn.BatchNorm1d(16),
                torch.nn.Dropout(0.3),
                torch.nn.Linear(16, 3),
            )
            self.accuracy = torchmetrics.classification.MulticlassAccuracy(3)
            if with_example:
                self.example_input_array = torch.randn(4, 6)

        def forward(self, x: Any) -> Any:
            scores = self.layers(x)
            self.log("norm", scores.norm())
            if decides and scores.sum() > 1e9:
                return -scores
            return scores

        def training_step(self, batch: Any, index: int) -> Any:
            x, y = batch
            scores = self(x)
            self.accuracy(scores, y)
            self.log("accuracy", self.accuracy)
            return torch.nn.functional.cross_entropy(scores, y)

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), 0.1)

    torch.manual_seed(0)
    return Model()


def _trained(folder: Any, **options: Any) -> tuple[Any, Any, Any]:
    """A module, its trainer, and rows."""
    import lightning
    import torch

    module = _module(**options)
    rows = torch.randn(32, 6, generator=torch.Generator().manual_seed(1))
    data = torch.utils.data.TensorDataset(rows, torch.arange(32) % 3)
    trainer = lightning.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    trainer.fit(module, torch.utils.data.DataLoader(data, batch_size=16))
    return module, trainer, rows


def _expected(module: Any, rows: Any) -> np.ndarray:
    """What its layers answer; forward() itself logs, which raises outside of the trainer's loops."""
    import torch

    layers = [layer for layer in module.layers if not isinstance(layer, torch.nn.Dropout)]
    normed = layers[1]
    with torch.no_grad():
        hidden = layers[0](rows)
        hidden = torch.nn.functional.batch_norm(
            hidden,
            normed.running_mean,
            normed.running_var,
            normed.weight,
            normed.bias,
            eps=normed.eps,
        )
        return layers[2](hidden).numpy()


def test_a_trained_module_is_converted_and_keeps_its_trainer(tmp_path):
    module, trainer, rows = _trained(tmp_path)
    flags = [part.training for part in module.modules()]
    with infersdk.load(module, example=rows, execution=QUIET) as predictor:
        assert predictor.plan.kind == "onnx", predictor.plan
        np.testing.assert_allclose(predictor(rows.numpy()), _expected(module, rows), atol=1e-5)
    assert module.trainer is trainer
    assert [part.training for part in module.modules()] == flags


@pytest.mark.parametrize("training", [True, False])
def test_a_module_held_by_its_trainer_is_served_natively_too(tmp_path, training):
    module, trainer, rows = _trained(tmp_path, decides=True)
    module.train(training)
    with infersdk.load(module, example=rows, execution=QUIET) as predictor:
        assert predictor.plan.kind == "native", predictor.plan
        np.testing.assert_allclose(predictor(rows.numpy()), _expected(module, rows), atol=1e-6)
    assert module.trainer is trainer


def test_its_own_example_is_taken():
    module = _module(with_example=True)
    signature = converter.infer_signature(module)
    assert signature.inputs[0].shape == ("N", 6)
    with infersdk.load(module, execution=QUIET) as predictor:
        assert predictor.plan.kind == "onnx", predictor.plan
        assert not any("made up" in note for note in predictor.plan.notes)
        assert predictor.parity is not None


def test_a_checkpoint_is_not_opened(tmp_path):
    _, trainer, _ = _trained(tmp_path)
    path = tmp_path / "last.ckpt"
    trainer.save_checkpoint(path)
    with pytest.raises(UnsupportedModelError, match=r"LightningModule\.load_from_checkpoint"):
        infersdk.load(path)


def test_torch_models_need_no_lightning():
    code = (
        "import sys, torch\n"
        "sys.modules['lightning'] = sys.modules['pytorch_lightning'] = None\n"
        "import infersdk\n"
        "quiet = infersdk.Execution(calibration_s=0.0, threads=1)\n"
        "with infersdk.load(torch.nn.Linear(3, 2), execution=quiet) as predictor:\n"
        "    assert predictor.plan.kind == 'onnx', predictor.plan\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
