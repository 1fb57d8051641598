"""One row of the gallery: how its model is made, and what is measured about it.

Nothing here imports a framework; neither may a gallery module at its top, so that finding the entries
costs nothing.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

__all__ = ["FLOOR", "Entry", "Made", "Record", "Rival", "find", "measure"]

FLOOR = -12
"""The smallest power of ten that is told from zero: below it is how a processor sums."""

_NO_MODULES = {"__init__", "__main__", "entry", "table"}


@dataclass(frozen=True)
class Made:
    """A fitted model and rows for it.

    Parameters
    ----------
    model : object
        What is given to ``infersdk.load``.
    example : rows
        Given to ``load(example=...)``.
    rows : rows
        Other rows, on which Predictor and source are compared.
    methods : tuple of str, optional
        By default all of the Predictor's methods.
    ask : callable, optional
        ``(model, method, rows) -> answer`` of the source framework; by default the converter's ``call``.
    """

    model: Any
    example: Any
    rows: Any
    methods: tuple[str, ...] | None = None
    ask: Callable[[Any, str, Any], Any] | None = None


@dataclass(frozen=True)
class Rival:
    """What another tool makes of the same model; only the generator asks it.

    Parameters
    ----------
    name : str
        Heading of its column.
    judge : callable
        ``(made) -> "agrees", "differs" or "fails"``.
    """

    name: str
    judge: Callable[[Made], str]


@dataclass(frozen=True)
class Entry:
    """A model of the gallery.

    Parameters
    ----------
    section : str
        Heading in docs/frameworks.md.
    name : str
        Row, unique in its section.
    make : callable
        Builds and fits the model, seeded; imports its framework.
    rival : Rival, optional
        Of all entries of a section or of none.
    slow : bool
        Whether the quick tests leave it out.
    """

    section: str
    name: str
    make: Callable[[], Made]
    rival: Rival | None = None
    slow: bool = False

    def __str__(self) -> str:
        return f"{self.section}: {self.name}"


@dataclass(frozen=True)
class Record:
    """What was found about an entry.

    Attributes
    ----------
    plan : {"onnx", "hybrid", "native"}
    error : float
        The largest error of any method's numbers, relative where the source's number is above 1,
        absolute below. Infinity where an answer has another shape, dtype or form.
    flips : int or None
        Rows whose discrete answer is another one; None where nothing is discrete.
    reason : str
        Why it is not all ONNX, or what was repaired.
    rival : str
        The rival's verdict, empty where there is none.
    """

    plan: Literal["onnx", "hybrid", "native"]
    error: float
    flips: int | None
    reason: str
    rival: str = ""

    @property
    def power(self) -> float:
        """The smallest whole power of ten that bounds the error, not below FLOOR."""
        if self.error <= 10.0**FLOOR:
            return FLOOR
        # A bound that was read back from the table is its own power of ten.
        return math.ceil(round(math.log10(self.error), 9)) if self.error < math.inf else math.inf


def find(prefix: str = "") -> Iterator[tuple[str, list[Entry]]]:
    """Module name and entries of each gallery module whose file name starts so."""
    for path in sorted(Path(__file__).parent.glob("*.py")):
        name = path.stem
        if name in _NO_MODULES or name.startswith(("_", "test_")) or not name.startswith(prefix):
            continue
        module = importlib.import_module(f"tests.gallery.{name}")
        if hasattr(module, "ENTRIES"):
            yield name, list(module.ENTRIES)


def measure(entry: Entry, *, with_rival: bool = False) -> Record:
    """Make, load, ask and compare.

    Raises
    ------
    ModuleNotFoundError
        A framework is missing.
    """
    import infersdk
    from infersdk import Execution

    made = entry.make()
    predictor = infersdk.load(
        made.model, example=made.example, execution=Execution(calibration_s=0.0, threads=1)
    )
    with predictor:
        methods = made.methods or tuple(predictor._methods)
        error, flips = 0.0, None
        for method in methods:
            ours = getattr(predictor, method)(made.rows)
            theirs = _ask(made, predictor.signature, method)
            worst, changed = _difference(ours, theirs)
            error = max(error, worst)
            if changed is not None:
                flips = (flips or 0) + changed
        plan = predictor.plan
    rival = entry.rival.judge(made) if with_rival and entry.rival else ""
    return Record(plan.kind, error, flips, _reason(plan), rival)


def _ask(made: Made, signature: Any, method: str) -> Any:
    if made.ask is not None:
        return made.ask(made.model, method, made.rows)
    from infersdk.binding import to_source
    from infersdk.convert import registry

    converter = registry.find(made.model)
    source = registry.open_source(made.model, converter)
    return converter.call(source, method, to_source(signature, made.rows))


def _difference(ours: Any, theirs: Any) -> tuple[float, int | None]:
    """The largest error, and rows with another discrete answer (None where nothing is discrete)."""
    from infersdk.convert.compare import leaves

    mine, other = leaves(ours), leaves(theirs)
    if [leaf.where for leaf in mine] != [leaf.where for leaf in other]:
        return math.inf, None
    error, flips = 0.0, None
    for left, right in zip(mine, other, strict=True):
        a, b = _dense(left), _dense(right)
        if a.shape != b.shape or left.is_discrete != right.is_discrete:
            return math.inf, flips
        if right.is_discrete:
            flips = (flips or 0) + _count_rows(a != b)
        elif a.size:
            wide = np.complex128 if b.dtype.kind == "c" else np.float64
            a, b = a.astype(wide), b.astype(wide)
            with np.errstate(all="ignore"):
                away = np.abs(a - b) / np.maximum(np.abs(b), 1.0)
            same = (a == b) | (np.isnan(a) & np.isnan(b))
            away = np.where(same, 0.0, np.where(np.isfinite(away), away, np.inf))
            error = max(error, float(away.max()))
    return error, flips


def _dense(leaf: Any) -> np.ndarray:
    return leaf.value.toarray() if leaf.is_sparse else np.asarray(leaf.value)


def _count_rows(wrong: np.ndarray) -> int:
    wrong = np.atleast_1d(wrong)
    return int(wrong.reshape(len(wrong), -1).any(axis=1).sum()) if wrong.size else 0


def _reason(plan: Any) -> str:
    if plan.kind == "native":
        return plan.reason
    parts = [part for part in plan.parts if part.runs == "source"]
    texts = [f"{part.path} ({part.kind}): {part.reason}" for part in parts]
    return "; ".join((*texts, *plan.notes))
