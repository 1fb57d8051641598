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
    drawn = [errors for errors in diagnosis.errors if errors.n_flips is None and errors.n_values]
    tolerance = diagnosis.parity.atol if diagnosis.parity is not None else 1e-5
    ends = [errors.cumulative()[0] for errors in drawn if errors.buckets]
    left = max(_SMALLEST, min((end[0] for end in ends), default=tolerance) / 10)
    right = max((end[-1] for end in ends), default=tolerance)
    right = max(right, tolerance) * 10
    for errors in drawn:
        at, share = errors.cumulative()
        # From the share of equal numbers, along the left edge, to the share that is finite at all.
        equal = errors.n_equal / errors.n_values
        axes.step(
            [left, *at.clip(left), right],
            [equal, *share, share[-1] if len(share) else equal],
            where="post",
            # A label that began with an underscore would not be shown.
            label=f"{errors.n_values:,} numbers of {errors.label}",
        )
    axes.axvline(tolerance, color="gray", linestyle=":", label="absolute tolerance")
    axes.set_xscale("log")
    axes.set_xlim(left, right)
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel("|ours - theirs|")
    axes.set_ylabel("share of numbers off by at most that")
    axes.set_title(f"{diagnosis.name}: {diagnosis.sentence}", fontsize="medium")
    axes.legend(loc="lower right")
    figure.savefig(path)
