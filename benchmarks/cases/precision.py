"""Size, speed and accuracy in fewer bits: ``python -m benchmarks.cases.precision [MODEL ...]``

Not part of ``make bench``: it prints infersdk's own reports, in which the model in full precision is the
rival. Each model is trained here in a few seconds, so that its answers mean something; nothing is refused
(``max_drop=1``), and the last line says what ``max_drop=0.01`` would have done.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

__all__ = ["MODELS", "main"]

TRAINED_ROWS = 1200


def digits(image: bool) -> tuple[Any, Any, Any]:
    import torch
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    rows = torch.tensor(x / 16, dtype=torch.float32)
    return rows.reshape(-1, 1, 8, 8) if image else rows, torch.tensor(y), torch.nn


def mlp() -> tuple[Any, Any]:
    rows, labels, nn = digits(image=False)
    model = nn.Sequential(
        nn.Linear(64, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10)
    )
    return train(model, rows, labels), rows[TRAINED_ROWS:]


def cnn() -> tuple[Any, Any]:
    rows, labels, nn = digits(image=True)
    layers: list[Any] = []
    for before, after in ((1, 32), (32, 64), (64, 64)):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))
    return train(model, rows, labels), rows[TRAINED_ROWS:]


def encoder() -> tuple[Any, Any]:
    rows, labels, nn = digits(image=False)

    class Encoder(nn.Module):  # type: ignore[name-defined,misc]
        """The eight lines of an image as a sequence."""

        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(8, 128)
            self.layers = nn.ModuleList(
                nn.TransformerEncoderLayer(128, 4, 512, batch_first=True, dropout=0.0)
                for _ in range(2)
            )
            self.last = nn.Linear(8 * 128, 10)

        def forward(self, x: Any) -> Any:
            y = self.first(x.reshape(-1, 8, 8))
            for layer in self.layers:
                y = layer(y)
            return self.last(y.flatten(1))

    return train(Encoder(), rows, labels, rate=1e-3), rows[TRAINED_ROWS:]


def train(model: Any, rows: Any, labels: Any, rate: float = 3e-3) -> Any:
    import torch

    torch.manual_seed(0)
    for layer in model.modules():
        if hasattr(layer, "reset_parameters"):
            layer.reset_parameters()
    optimizer = torch.optim.Adam(model.parameters(), rate)
    loss_of = torch.nn.CrossEntropyLoss()
    for _ in range(60):
        optimizer.zero_grad()
        loss = loss_of(model(rows[:TRAINED_ROWS]), labels[:TRAINED_ROWS])
        loss.backward()
        optimizer.step()
    return model.eval()


MODELS: dict[str, Callable[[], tuple[Any, Any]]] = {"mlp": mlp, "cnn": cnn, "encoder": encoder}


def main(arguments: list[str] | None = None) -> int:
    import infersdk

    for name in arguments or MODELS:
        model, rows = MODELS[name]()
        for precision in ("fp16", "int8", "int4"):
            print(f"\n{name}")
            try:
                reduced = infersdk.convert(model, example=rows, precision=precision, max_drop=1.0)
            except infersdk.PrecisionError as error:
                print(f"refused: {error}")
                continue
            found = reduced.precision
            assert found is not None
            print(found)
            print(f"  max_drop=0.01 {'keeps' if found.drop <= 0.01 else 'refuses'} it")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
