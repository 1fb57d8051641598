"""How far a model converts, how exactly, and what to change: ``diagnose(model, example)``.

The conversion is made as :func:`infersdk.load` makes it, and its proof is looked at more closely: not
only the largest error of each method, but how all errors of each output are distributed.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from infersdk.convert import model_file, parity, registry
from infersdk.convert.advice import advise
from infersdk.convert.compare import Leaf
from infersdk.convert.conversion import Conversion, convert_model
from infersdk.convert.distribution import OutputErrors
from infersdk.errors import (
    ConversionError,
    InferSDKError,
    MissingDependencyError,
    SessionError,
)
from infersdk.types import ParityReport, Plan, PlanPart

__all__ = ["Change", "Diagnosis", "diagnose"]

Verdict = Literal["proven", "onnx", "unproven", "different", "native", "refused"]

_SENTENCES: dict[str, str] = {
    "proven": "it converts, and every answer that was compared agrees",
    "onnx": "it is ONNX already, and runs; ONNX Runtime's answers are its answers",
    "unproven": "it converts, but no answer was compared with the source model's",
    "different": "part of it answers differently as ONNX, and is served by its own framework",
    "native": "it does not convert, and is served by its own framework",
    "refused": "it cannot be served",
}


@dataclass(frozen=True, slots=True)
class Change:
    """Something about the model that keeps it from converting, and what to do.

    Parameters
    ----------
    where : str
        The part or method; "" for the model itself.
    why : str
    do : str
        "" where nothing is known.
    """

    where: str
    why: str
    do: str


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What became of a model.

    Attributes
    ----------
    name : str
    kind : str
        Its type.
    framework : str
        "" where no converter knows the type.
    verdict : {"proven", "onnx", "unproven", "different", "native", "refused"}
        "onnx" is a model that was ONNX already and runs.
    plan : Plan or None
        None where the model cannot be served at all.
    parity : ParityReport or None
        The comparison, also one that failed.
    errors : tuple of OutputErrors
        How the errors of each output of each method are distributed.
    changes : tuple of Change
        What keeps the model from converting as a whole.
    methods : tuple of str
        What a Predictor of it would answer.
    warnings : tuple of str
        What converting made the model's framework warn of.
    seconds : float
        What converting and comparing took.
    """

    name: str
    kind: str
    framework: str
    verdict: Verdict
    plan: Plan | None
    parity: ParityReport | None
    errors: tuple[OutputErrors, ...]
    changes: tuple[Change, ...]
    methods: tuple[str, ...]
    warnings: tuple[str, ...]
    seconds: float

    @property
    def is_sound(self) -> bool:
        """Whether the whole model runs in ONNX Runtime, and is proven where there is a source."""
        whole = self.plan is not None and self.plan.kind == "onnx"
        return whole and self.verdict in ("proven", "onnx")

    @property
    def parts(self) -> tuple[PlanPart, ...]:
        """What became of each part, for models made of parts."""
        return self.plan.parts if self.plan is not None else ()

    @property
    def sentence(self) -> str:
        """The verdict in words."""
        if self.verdict == "proven" and self.plan is not None and self.plan.kind == "hybrid":
            return "parts of it convert, the others run in their framework; every answer compared agrees"
        return _SENTENCES[self.verdict]

    def __str__(self) -> str:
        lines = [f"{self.name} ({self.kind}): {self.sentence}"]
        if self.plan is not None:
            lines.append(str(self.plan))
        if self.parity is not None:
            lines.append(str(self.parity))
        for change in self.changes:
            lines.append(f"{change.where or self.name}: {change.why}")
            if change.do:
                lines.append(f"  -> {change.do}")
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "kind": self.kind,
            "framework": self.framework,
            "verdict": self.verdict,
            "sound": self.is_sound,
            "plan": None if self.plan is None else self.plan.to_json(),
            "parity": None if self.parity is None else self.parity.to_json(),
            "errors": [one.to_json() for one in self.errors],
            "changes": [asdict(change) for change in self.changes],
            "methods": list(self.methods),
            "warnings": list(self.warnings),
            "seconds": round(self.seconds, 3),
        }


def diagnose(
    model: Any,
    example: Any = None,
    *,
    name: str | None = None,
    trust: bool | Sequence[str] = False,
    clock: Callable[[], float] = time.monotonic,
) -> Diagnosis:
    """Convert a model, and say what came of it in more detail than a plan does.

    Parameters
    ----------
    model, example, name, trust
        As for :func:`infersdk.load`.
    clock : callable
        Seconds.

    Returns
    -------
    Diagnosis
        Also of models that cannot be converted or served: it then says why.

    Raises
    ------
    InputError
        The example does not fit the model.
    ArtifactError
        An ONNX file is damaged or unsafe.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from infersdk.convert.diagnosis import diagnose
    >>> X, y = load_iris(return_X_y=True)
    >>> found = diagnose(LogisticRegression(max_iter=500).fit(X, y), X)
    >>> found.verdict, found.parity.label_flips
    ('proven', 0)
    """
    start_s = clock()
    name = name or registry.name_of(model)
    kind = _kind_of(model)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            if model_file.is_model_file(model):
                model = model_file.open_model_file(model, trust)
                kind = _kind_of(model)
            conversion = convert_model(model, example=example, name=name, trust=trust)
        except (ConversionError, MissingDependencyError) as exc:
            why = str(exc)
            return Diagnosis(
                name=name,
                kind=kind,
                framework=_framework_of(model),
                verdict="refused",
                plan=None,
                parity=None,
                errors=(),
                changes=(Change("", why, advise(why, kind)),),
                methods=(),
                warnings=_texts(caught),
                seconds=clock() - start_s,
            )
        compared = conversion
        if conversion.parity is not None and not conversion.parity.passed:
            # What failed is not in the artifact any more; once more, with all that was written.
            compared = convert_model(
                model, example=example, name=name, on_mismatch="warn", trust=trust
            )
        errors = _errors(compared, example)
    verdict = _verdict(conversion)
    changes = _changes(conversion, verdict, kind)
    if verdict == "onnx":
        problem = _does_not_run(conversion, example)
        if problem:
            verdict, changes = "refused", (Change("", problem, advise(problem, kind)),)
    methods = [method.name for method in conversion.signature.methods]
    methods += (method.name for method in conversion.source_methods)
    return Diagnosis(
        name=name,
        kind=kind,
        framework=conversion.converter.FRAMEWORK,
        verdict=verdict,
        plan=conversion.plan,
        parity=conversion.parity,
        errors=errors,
        changes=changes,
        methods=tuple(methods),
        warnings=_texts(caught),
        seconds=clock() - start_s,
    )


def _verdict(conversion: Conversion) -> Verdict:
    if conversion.artifact is None:
        return "native"
    if conversion.parity is None:
        return "onnx" if conversion.converter.FRAMEWORK == "ONNX" else "unproven"
    return "proven" if conversion.parity.passed and not conversion.source_methods else "different"


def _changes(conversion: Conversion, verdict: Verdict, kind: str) -> tuple[Change, ...]:
    plan = conversion.plan
    changes = [
        Change(f"{part.path} ({part.kind})", part.reason, advise(part.reason, part.kind))
        for part in plan.parts
        if part.runs == "source"
    ]
    if verdict == "native":
        changes.insert(0, Change("", plan.reason, advise(plan.reason, kind)))
    elif verdict == "unproven":
        why = plan.notes[-1]
        changes.insert(0, Change("", why, advise(why)))
    if verdict == "different" and conversion.parity is not None:
        for method in conversion.parity.methods:
            if not method.passed:
                why = f"{method.mismatched_rows} rows differ: {method.message}"
                changes.append(Change(method.method, why, advise(why)))
        failed = {method.method for method in conversion.parity.methods}
        for source_method in conversion.source_methods:
            if source_method.name not in failed:
                changes.append(Change(source_method.name, "it was not written as ONNX", ""))
    return tuple(changes)


def _errors(conversion: Conversion, example: Any) -> tuple[OutputErrors, ...]:
    """Compare once more, and count all errors on the way."""
    artifact = conversion.artifact
    if artifact is None or conversion.converter.FRAMEWORK == "ONNX":
        return ()
    found: dict[tuple[str, str], OutputErrors] = {}

    def count(method: str, ours: list[Leaf], theirs: list[Leaf], n_rows: int) -> None:
        known = {leaf.where: leaf for leaf in ours}
        for leaf in theirs:
            if leaf.where in known:
                errors = found.setdefault((method, leaf.where), OutputErrors(method, leaf.where))
                errors.add(known[leaf.where], leaf, n_rows)

    parity.check(
        artifact,
        conversion.source,
        conversion.converter,
        example,
        sources=conversion.sources,
        watch=count,
    )
    return tuple(found.values())


def _does_not_run(conversion: Conversion, example: Any) -> str:
    """Why a model that is ONNX already does not load, or not answer the example; "" where it does."""
    from infersdk._native import Session

    artifact = conversion.artifact
    assert artifact is not None
    model = artifact.session_model()
    folder = artifact.external_folder if isinstance(model, bytes) else None
    try:
        Session(model, name=conversion.name, external_folder=folder).close()
        if example is not None:
            with parity.Converted(artifact, conversion.sources) as converted:
                converted.ask(example)
    except (SessionError, MissingDependencyError) as exc:
        return str(exc)
    return ""


def _kind_of(model: Any) -> str:
    if isinstance(model, str | os.PathLike):
        return "folder" if os.path.isdir(model) else "file"
    return registry.class_of(model).__qualname__


def _framework_of(model: Any) -> str:
    try:
        return registry.find(model).FRAMEWORK
    except InferSDKError:
        return ""


def _texts(caught: list[warnings.WarningMessage]) -> tuple[str, ...]:
    # infersdk's own are in the plan already.
    texts = (str(one.message).strip() for one in caught if "infersdk" not in str(one.filename))
    return tuple(dict.fromkeys(text for text in texts if text))
