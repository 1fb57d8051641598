"""What became of the models of an accelerated function."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from infersdk.types import ParityReport, Plan

__all__ = ["AccelerationReport", "ModelReport", "State"]

State = Literal["watching", "converting", "comparing", "converted", "original"]


@dataclass(frozen=True, slots=True)
class ModelReport:
    """What became of one model of an accelerated function.

    Parameters
    ----------
    name : str
        The expression by which the function gets it.
    kind : str
        Its class.
    state : {"watching", "converting", "comparing", "converted", "original"}
    reason : str
        Why it is in this state; for "original" what differed or failed.
    plan : Plan or None
        The Predictor's, where there is one.
    parity : ParityReport or None
        The proof of its conversion.
    comparisons : int
        Calls that both the model and its Predictor answered.
    mismatches : int
        Of these, those with answers of another kind or too far off.
    refused : int
        Calls that the Predictor refused; the model answered them.
    failures : int
        Errors of the Predictor; the model answered.
    max_abs_error : float
        The largest difference that was seen.
    methods : tuple of str
        Those that the Predictor answers by now.
    """

    name: str
    kind: str
    state: State
    reason: str
    plan: Plan | None
    parity: ParityReport | None
    comparisons: int
    mismatches: int
    refused: int
    failures: int
    max_abs_error: float
    methods: tuple[str, ...]

    def __str__(self) -> str:
        lines = [f"{self.name} ({self.kind}): {self.state}"]
        if self.reason:
            lines[0] += f": {self.reason}"
        if self.methods:
            lines.append(f"  its Predictor answers {', '.join(self.methods)}")
        if self.comparisons:
            lines.append(
                f"  {self.comparisons} calls compared, {self.mismatches} mismatches, "
                f"max abs error {self.max_abs_error:.3g}"
            )
        if self.refused or self.failures:
            lines.append(f"  {self.refused} calls refused, {self.failures} failed")
        for part in (self.plan, self.parity):
            if part is not None:
                lines.append("  " + str(part).replace("\n", "\n  "))
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class AccelerationReport:
    """What became of the models of an accelerated function; its ``str`` is for reading.

    Parameters
    ----------
    function : str
        The function's qualified name.
    models : tuple of ModelReport
        Those it has asked so far, in the order in which they were first met.
    notes : tuple of str
        Why it is not accelerated, if that is to be seen from the function itself.
    """

    function: str
    models: tuple[ModelReport, ...]
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [f"{self.function}: {len(self.models)} model{'s' * (len(self.models) != 1)}"]
        lines += [f"  - {note}" for note in self.notes]
        lines += ["  " + str(model).replace("\n", "\n  ") for model in self.models]
        return "\n".join(lines)
