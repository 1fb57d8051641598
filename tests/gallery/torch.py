"""PyTorch: architectures, ways to be called, and forms of a program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.gallery.entry import Entry, Made

_N_EXAMPLE = 24
_N_ROWS = 40


def _normal(seed: int, *shape: int) -> Any:
    import torch

    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _made(model: Any, *shapes: tuple[int, ...]) -> Made:
    """Rows of normal numbers of such shapes."""
    model.eval()

    def rows(n_rows: int, seed: int) -> Any:
        tensors = [_normal(seed + index, n_rows, *shape) for index, shape in enumerate(shapes)]
        return tensors[0] if len(tensors) == 1 else tuple(tensors)

    return Made(model, rows(_N_EXAMPLE, 1), rows(_N_ROWS, 50))


def _ids(n_rows: int, length: int, below: int, seed: int) -> Any:
    import torch

    return torch.randint(0, below, (n_rows, length), generator=torch.Generator().manual_seed(seed))


def _module(build: Callable[[Any], dict[str, Any]], forward: Callable[..., Any]) -> Any:
    """A module of the parts that `build(torch.nn)` gives, answering as `forward(module, ...)`."""
    import torch

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for name, part in build(torch.nn).items():
                setattr(self, name, part)

    # torch reads the names of the arguments.
    Model.forward = forward  # type: ignore[method-assign]
    torch.manual_seed(0)
    return Model().eval()


def _mlp() -> Made:
    import torch
    from torch import nn

    torch.manual_seed(0)
    layers = [nn.Linear(8, 32), nn.LayerNorm(32), nn.GELU(), nn.Dropout(0.5), nn.Linear(32, 3)]
    return _made(nn.Sequential(*layers), (8,))


def _in_training() -> Made:
    made = _mlp()
    made.model.train()
    return made


def _cnn() -> Made:
    import torch
    from torch import nn

    torch.manual_seed(0)
    layers = [
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 5),
    ]
    return _made(nn.Sequential(*layers), (3, 16, 16))


def _residual() -> Made:
    def build(nn: Any) -> dict[str, Any]:
        return {
            "stem": nn.Conv2d(3, 8, 3, padding=1, bias=False),
            "norm": nn.BatchNorm2d(8),
            "conv": nn.Conv2d(8, 8, 3, padding=1, bias=False),
            "last": nn.Linear(8, 4),
        }

    def forward(self: Any, image: Any) -> Any:
        x = self.stem(image)
        x = (x + self.norm(self.conv(x)).relu()).relu()
        return self.last(x.mean((2, 3)))

    return _made(_module(build, forward), (3, 12, 12))


def _depthwise() -> Made:
    import torch
    from torch import nn

    torch.manual_seed(0)
    layers = [
        nn.Conv2d(3, 8, 1),
        nn.Hardswish(),
        nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=8),
        nn.GroupNorm(4, 8),
        nn.SiLU(),
        nn.Conv2d(8, 4, 1),
    ]
    return _made(nn.Sequential(*layers), (3, 12, 12))


def _lstm() -> Made:
    def build(nn: Any) -> dict[str, Any]:
        return {"cells": nn.LSTM(4, 8, 2, batch_first=True), "last": nn.Linear(8, 2)}

    def forward(self: Any, x: Any) -> Any:
        return self.last(self.cells(x)[0][:, -1])

    return _made(_module(build, forward), (6, 4))


def _gru() -> Made:
    def build(nn: Any) -> dict[str, Any]:
        return {"cells": nn.GRU(4, 8, batch_first=True, bidirectional=True)}

    def forward(self: Any, x: Any) -> Any:
        states, last = self.cells(x)
        return states, last.transpose(0, 1)

    return _made(_module(build, forward), (6, 4))


def _transformer() -> Made:
    def build(nn: Any) -> dict[str, Any]:
        layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
        return {
            "embed": nn.Embedding(50, 16),
            "encoder": nn.TransformerEncoder(layer, 2, enable_nested_tensor=False),
            "last": nn.Linear(16, 3),
        }

    def forward(self: Any, input_ids: Any, attention_mask: Any) -> Any:
        x = self.encoder(self.embed(input_ids), src_key_padding_mask=attention_mask == 0)
        mask = attention_mask[..., None].float()
        return self.last((x * mask).sum(1) / mask.sum(1).clamp(min=1))

    def rows(n_rows: int, seed: int) -> dict[str, Any]:
        ids = _ids(n_rows, 7, 50, seed)
        lengths = _ids(n_rows, 1, 7, seed + 1) + 1
        import torch

        return {"input_ids": ids, "attention_mask": (torch.arange(7) < lengths).long()}

    return Made(_module(build, forward), rows(_N_EXAMPLE, 1), rows(_N_ROWS, 50))


def _cross_attention() -> Made:
    def build(nn: Any) -> dict[str, Any]:
        return {"attend": nn.MultiheadAttention(16, 4, batch_first=True)}

    def forward(self: Any, query: Any, memory: Any, *, scale: Any) -> Any:
        return self.attend(query * scale[:, None, None], memory, memory, need_weights=True)

    def rows(n_rows: int, seed: int) -> dict[str, Any]:
        return {
            "query": _normal(seed, n_rows, 5, 16),
            "memory": _normal(seed + 1, n_rows, 9, 16),
            "scale": _normal(seed + 2, n_rows),
        }

    return Made(_module(build, forward), rows(_N_EXAMPLE, 1), rows(_N_ROWS, 50))


def _embedding_bag() -> Made:
    def build(nn: Any) -> dict[str, Any]:
        return {"bag": nn.EmbeddingBag(60, 8, mode="mean"), "last": nn.Linear(8, 3)}

    def forward(self: Any, words: Any) -> Any:
        return self.last(self.bag(words))

    model = _module(build, forward)
    return Made(model, _ids(_N_EXAMPLE, 6, 60, 1), _ids(_N_ROWS, 6, 60, 50))


def _several_inputs() -> Made:
    def build(nn: Any) -> dict[str, Any]:
        return {"left": nn.Linear(4, 8), "right": nn.Linear(6, 8), "last": nn.Linear(8, 2)}

    def forward(self: Any, wide: Any, deep: Any) -> Any:
        hidden = self.left(wide).relu() + self.right(deep).relu()
        return {"scores": self.last(hidden), "class": self.last(hidden).argmax(1)}

    return _made(_module(build, forward), (4,), (6,))


def _autoencoder() -> Made:
    import torch
    from torch import nn

    torch.manual_seed(0)
    layers = [
        nn.Conv2d(1, 8, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.ConvTranspose2d(8, 1, 3, stride=2, padding=1, output_padding=1),
        nn.Sigmoid(),
    ]
    return _made(nn.Sequential(*layers), (1, 8, 8))


def _temporal() -> Made:
    import torch
    from torch import nn

    torch.manual_seed(0)
    layers = [
        nn.Conv1d(4, 8, 3, padding=2, dilation=2),
        nn.InstanceNorm1d(8, affine=True),
        nn.PReLU(),
        nn.Upsample(scale_factor=2, mode="linear"),
        nn.Conv1d(8, 2, 1),
    ]
    return _made(nn.Sequential(*layers), (4, 12))


def _sampling_grid() -> Made:
    def build(nn: Any) -> dict[str, Any]:
        return {"shift": nn.Linear(3 * 8 * 8, 2)}

    def forward(self: Any, image: Any) -> Any:
        import torch

        moved = torch.tanh(self.shift(image.flatten(1)))
        line = torch.linspace(-1, 1, 8)
        grid = torch.stack(torch.meshgrid(line, line, indexing="xy"), -1)
        return torch.nn.functional.grid_sample(
            image, grid[None] + moved[:, None, None], align_corners=False
        )

    return _made(_module(build, forward), (3, 8, 8))


def _odd_operators() -> Made:
    def forward(self: Any, x: Any) -> Any:
        import torch

        ordered, _ = torch.sort(x, dim=1)
        distance = torch.cdist(x[:, None], x[:, None] + 1)
        return torch.cumsum(ordered, 1), distance.flatten(1), torch.erf(x).logsumexp(1)

    return _made(_module(lambda nn: {}, forward), (6,))


def _half() -> Made:
    made = _mlp()
    return Made(made.model.half(), made.example.half(), made.rows.half())


def _bfloat16() -> Made:
    import torch

    made = _mlp()
    model = made.model.to(torch.bfloat16)

    def ask(model: Any, method: str, rows: Any) -> Any:
        from infersdk.convert import torch as converter

        return converter.reference(model, method, rows)

    return Made(model, made.example, made.rows, ask=ask)


def _quantized() -> Made:
    import torch

    made = _mlp()
    model = torch.ao.quantization.quantize_dynamic(made.model, {torch.nn.Linear}, torch.qint8)
    return Made(model, made.example, made.rows)


def _script() -> Made:
    import torch

    made = _cnn()
    return Made(torch.jit.script(made.model), made.example, made.rows)


def _trace() -> Made:
    import torch

    made = _mlp()
    return Made(torch.jit.trace(made.model, made.example), made.example, made.rows)


def _exported_program() -> Made:
    import torch

    made = _cnn()
    batch = torch.export.Dim("batch", min=1, max=4096)
    program = torch.export.export(made.model, (made.example,), dynamic_shapes=({0: batch},))
    return Made(program, made.example, made.rows)


def _compiled() -> Made:
    import torch

    made = _mlp()
    return Made(torch.compile(made.model, backend="eager"), made.example, made.rows)


def _decides() -> Made:
    def forward(self: Any, x: Any) -> Any:
        return self.only(x) if x.sum() > 0 else -self.only(x)

    return _made(_module(lambda nn: {"only": nn.Linear(4, 2)}, forward), (4,))


def _nested() -> Made:
    def forward(self: Any, x: Any) -> Any:
        return {"both": (x, self.only(x))}

    return _made(_module(lambda nn: {"only": nn.Linear(4, 2)}, forward), (4,))


def _lightning() -> Made:
    import lightning
    import torch
    import torchmetrics

    class Model(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layers = torch.nn.Sequential(
                torch.nn.Linear(6, 16), torch.nn.BatchNorm1d(16), torch.nn.Linear(16, 3)
            )
            self.accuracy = torchmetrics.classification.MulticlassAccuracy(3)

        def forward(self, x: Any) -> Any:
            return self.layers(x).softmax(1)

    torch.manual_seed(0)
    return _made(Model(), (6,))


_MAKES: dict[str, Callable[[], Made]] = {
    "MLP": _mlp,
    "MLP in training mode": _in_training,
    "CNN with BatchNorm": _cnn,
    "residual network": _residual,
    "depthwise convolution, GroupNorm": _depthwise,
    "LSTM, two layers": _lstm,
    "GRU, both ways": _gru,
    "Transformer encoder with padding": _transformer,
    "attention over named tensors": _cross_attention,
    "EmbeddingBag": _embedding_bag,
    "two inputs, a dict as the answer": _several_inputs,
    "convolutional autoencoder": _autoencoder,
    "dilated 1-D convolution, InstanceNorm, upsampling": _temporal,
    "grid_sample": _sampling_grid,
    "sort, cdist, cumsum, logsumexp": _odd_operators,
    "float16": _half,
    "bfloat16": _bfloat16,
    "dynamically quantized": _quantized,
    "TorchScript, scripted": _script,
    "TorchScript, traced": _trace,
    "ExportedProgram": _exported_program,
    "torch.compile": _compiled,
    "a branch on values": _decides,
    "a nested answer": _nested,
    "LightningModule with metrics": _lightning,
}

ENTRIES = [Entry("PyTorch", name, make, slow=True) for name, make in _MAKES.items()]
