"""What a case and its rivals agree on: one variant of a case, and where its files lie."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["Task"]


@dataclass(frozen=True, slots=True)
class Task:
    """One variant of a case.

    Parameters
    ----------
    case : str
        Module of the case under ``benchmarks.cases``.
    variant : str
        One of the case's ``VARIANTS``; with "@" and a name after it, the model's batch axis has
        that name.
    folder : Path
        Holds what the case's ``prepare`` wrote.
    """

    case: str
    variant: str
    folder: Path

    @property
    def name(self) -> str:
        """The variant without the name of its batch axis."""
        return self.variant.partition("@")[0]

    @property
    def axis(self) -> str:
        """What the model's batch axis is called."""
        return self.variant.partition("@")[2] or "N"

    @property
    def model(self) -> Path:
        """The ONNX model, or the artifact."""
        return self.folder / "model.onnx"

    @property
    def source(self) -> Path:
        """The source framework's model, as joblib wrote it."""
        return self.folder / "model.joblib"

    @property
    def inputs(self) -> Path:
        """The inputs, in a form of the case's own."""
        return self.folder / "inputs"

    @property
    def expected(self) -> Path:
        """The answers to all inputs, an .npz file: one array per output, rows along its first axis."""
        return self.folder / "expected.npz"
