"""Throughput and p99 against offered load, one picture each for every model under open load."""

from __future__ import annotations

from pathlib import Path

from benchmarks.load_runner import LoadResult

__all__ = ["plot_open_load"]


def plot_open_load(variant: str, results: list[LoadResult], folder: Path) -> list[Path]:
    """Write ``throughput-VARIANT.png`` and ``p99-VARIANT.png``; their paths."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, key, scale, title in (
        ("throughput", "throughput_per_s", 1.0, "answered, calls/s"),
        ("p99", "p99_us", 1e-3, "p99 from the due time, ms"),
    ):
        figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
        for label in dict.fromkeys(result.label for result in results):
            points = sorted(
                (result.figures["offered_per_s"], scale * result.figures[key])
                for result in results
                if result.label == label
            )
            axes.plot(*zip(*points, strict=True), marker="o", label=label)
        axes.set_xlabel("offered, calls/s")
        axes.set_ylabel(title)
        axes.set_title(variant)
        if name == "p99":
            axes.set_yscale("log")
        axes.grid(alpha=0.3)
        axes.legend()
        path = folder / f"{name}-{variant}.png"
        figure.savefig(path, dpi=120)
        plt.close(figure)
        paths.append(path)
    return paths
