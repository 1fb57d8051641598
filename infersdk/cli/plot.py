"""The distribution of a conversion's errors as a picture, drawn by matplotlib."""

from __future__ import annotations

import importlib.util
import os
from typing import Any

from infersdk.convert.diagnosis import Diagnosis
from infersdk.errors import MissingDependencyError

__all__ = ["check", "draw"]

_SUFFIXES = (".png", ".svg", ".pdf")
_SMALLEST = 1e-18


def check(path: str) -> None:
    """Say early whether a picture can be drawn into this file.

    Raises
    ------
    ValueError
        The path does not end in .png, .svg or .pdf.
    MissingDependencyError
        matplotlib is not installed.
    """
    if os.path.splitext(path)[1].lower() not in _SUFFIXES:
        raise ValueError(
            f"Expected a picture's name to end in {', '.join(_SUFFIXES)}, got {path!r}"
        )
    if importlib.util.find_spec("matplotlib") is None:
        raise MissingDependencyError(
            "Drawing the errors needs matplotlib, which is not installed. "
            "Install it with: pip install matplotlib"
        )


def draw(diagnosis: Diagnosis, path: str) -> None:
    """Write a picture: for each output, which share of its numbers is off by at most so much.

    Parameters
    ----------
    diagnosis : Diagnosis
    path : str
        As :func:`check` takes it.

    Raises
    ------
    OSError
        The file cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes: Any = figure.subplots()
    for errors in diagnosis.errors:
        if errors.n_flips is not None:
            continue
        at, share = errors.cumulative()
        # From the share of equal numbers, along the left edge, up to 1 at the largest error.
        axes.step(
            [_SMALLEST, *at],
            [errors.n_equal / max(errors.n_values, 1), *share],
            where="post",
            label=f"{errors.label} ({errors.n_values:,} numbers)",
        )
    if diagnosis.parity is not None:
        axes.axvline(diagnosis.parity.atol, color="gray", linestyle=":", label="absolute tolerance")
    axes.set_xscale("log")
    axes.set_xlim(left=_SMALLEST)
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel("|ours - theirs|")
    axes.set_ylabel("share of numbers off by at most that")
    axes.set_title(f"{diagnosis.name}: {diagnosis.sentence}", fontsize="medium")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="lower right")
    figure.savefig(path)
