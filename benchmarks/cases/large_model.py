"""How much memory a model of 2.3 GB takes: ``python -m benchmarks.cases.large_model [--gigabytes 2.3]``

Not part of ``make bench``: it takes minutes, and twice the model on the disk. Each step is a process of its
own, and its peak is what the kernel counted (``VmHWM``): interpreter, libraries and the source model's own
weights included, which makes 1.0 the least that converting can take. ``RssAnon`` and ``RssFile`` are what
the process holds at its end, in memory of its own and in mapped files.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

__all__ = ["main"]

WIDTH = 2048
VOCABULARY = 35_000
ROWS, LENGTH = 4, 12


def build(gigabytes: float) -> Any:
    """An encoder of about that many GB of float32 weights, seeded, on token numbers."""
    import torch
    from torch import nn

    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(VOCABULARY, WIDTH)
            left = gigabytes * 1e9 - 4 * VOCABULARY * WIDTH
            self.layers = nn.ModuleList(
                nn.TransformerEncoderLayer(WIDTH, 16, 4 * WIDTH, batch_first=True)
                for _ in range(max(1, round(left / (4 * 12 * WIDTH**2))))
            )
            self.scores = nn.Linear(WIDTH, 16)

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            y = self.embedding(tokens)
            for layer in self.layers:
                y = layer(y)
            scores: torch.Tensor = self.scores(y.mean(1))
            return scores

    torch.manual_seed(0)
    return Encoder().eval()


def convert(folder: Path, gigabytes: float) -> None:
    import numpy as np
    import torch

    import infersdk

    model = build(gigabytes)
    size = sum(item.nbytes for item in model.parameters())
    report("build", size)
    tokens = torch.randint(0, VOCABULARY, (ROWS, LENGTH))
    start = time.perf_counter()
    artifact = infersdk.convert(model, example=tokens)
    report("convert", size, seconds=time.perf_counter() - start, parity=verdict(artifact.parity))
    start = time.perf_counter()
    artifact.save(folder / "large.onnx")
    report("save", size, seconds=time.perf_counter() - start)
    with torch.inference_mode():
        answer = model(tokens).numpy()
    np.savez(folder / "rows.npz", tokens=tokens.numpy(), answer=answer)


def verdict(parity: Any) -> str:
    return f"parity: max abs error {parity.max_abs_error:.2g}, passed: {parity.passed}"


def load(folder: Path, gigabytes: float) -> None:
    import numpy as np

    import infersdk

    start = time.perf_counter()
    with infersdk.load(folder / "large.onnx") as served:
        size = served.artifact.size_bytes
        report("load", size, seconds=time.perf_counter() - start)
        rows = np.load(folder / "rows.npz")
        served(rows["tokens"][:1])
        start = time.perf_counter()
        served(rows["tokens"][:1])
        seconds = time.perf_counter() - start
        error = float(np.abs(served(rows["tokens"]) - rows["answer"]).max())
        report("answer a row", size, seconds=seconds, parity=f"max abs error {error:.2g}")


def report(step: str, size_bytes: int, **more: Any) -> None:
    with open("/proc/self/status") as file:
        fields = dict(line.split(":", 1) for line in file)
    found = {
        key: 1024 * int(fields[key].split()[0]) for key in ("VmHWM", "VmRSS", "RssAnon", "RssFile")
    }
    print(json.dumps({"step": step, "size_bytes": size_bytes, **found, **more}), flush=True)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cases.large_model")
    parser.add_argument("--gigabytes", type=float, default=2.3)
    parser.add_argument("--step", choices=("convert", "load"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.step:
        {"convert": convert, "load": load}[options.step](options.folder, options.gigabytes)
        return 0
    print(f"{'step':<14}{'GB':>7}{'peak':>8}{'ratio':>8}{'anon':>8}{'file':>8}{'s':>8}")
    worst = 0.0
    with tempfile.TemporaryDirectory(prefix="infersdk-bench-") as folder:
        for step in ("convert", "load"):
            command = [sys.executable, "-m", __spec__.name, "--step", step, "--folder", folder]
            command += ["--gigabytes", str(options.gigabytes)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            for line in done.stdout.splitlines():
                if not line.startswith("{"):
                    continue
                item = json.loads(line)
                ratio = item["VmHWM"] / item["size_bytes"]
                worst = max(worst, ratio)
                figures = (item[key] / 1e9 for key in ("RssAnon", "RssFile"))
                print(
                    f"{item['step']:<14}{item['size_bytes'] / 1e9:>7.2f}{item['VmHWM'] / 1e9:>8.2f}"
                    f"{ratio:>7.2f}x" + "".join(f"{figure:>8.2f}" for figure in figures),
                    f"{item.get('seconds', 0):>7.2f}  {item.get('parity', '')}",
                )
    print(f"peak: at most {worst:.2f} times the model")
    return 0


if __name__ == "__main__":
    sys.exit(main())
