"""The whole way of a conversion: describe, write, compare, decide."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from infersdk.artifact import Artifact, Provenance, signature_from_graph
from infersdk.convert import model_file, parity, registry, saved_source
from infersdk.convert.registry import Converter, Written
from infersdk.errors import (
    ArtifactError,
    ConversionError,
    InferSDKError,
    ParityError,
    SessionError,
)
from infersdk.types import Method, ParityReport, Plan, Signature, TensorSpec, ValueSpec

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["Conversion", "convert_model"]

logger = logging.getLogger("infersdk")

OnMismatch = Literal["fallback", "raise", "warn"]

_UNPROVEN = (
    "not proven: there were no rows to compare with the source model. Pass `example=` with some rows of "
    "its training data"
)


@dataclass(frozen=True, slots=True)
class Conversion:
    """What became of a model.

    Attributes
    ----------
    plan : Plan
        "onnx" or "hybrid" with an artifact, or "native" with the reason why not.
    signature : Signature
        What the model takes and gives under that plan.
    artifact : Artifact or None
        The converted model; None under the native plan.
    parity : ParityReport or None
        The comparison, also one that failed; None where there were no rows to compare, and for models
        that were ONNX already.
    source : object
        The model as it was given; of one given by its path what was opened.
    converter : Converter
        Answers for the source model under the native plan.
    name : str
        The model's name: the one given, or of its file, folder or class.
    source_methods : tuple of Method
        Methods that the graph does not have, or did not prove, beside those it has: the source model
        answers them.
    sources : Mapping of str to object
        Under the hybrid plan the parts of the source model that the graph's steps call.
    provenance : Provenance or None
        Where the model came from.
    """

    plan: Plan
    signature: Signature
    artifact: Artifact | None
    parity: ParityReport | None
    source: Any
    converter: Converter
    name: str = "model"
    source_methods: tuple[Method, ...] = ()
    sources: Mapping[str, Any] = field(default_factory=dict)
    provenance: Provenance | None = None

    def call(self, method: str, rows: Any) -> Any:
        """Ask the source model itself; `rows` are in the container that it takes."""
        return self.converter.call(self.source, method, rows)

    def __reduce__(self) -> tuple[Any, ...]:
        # The source model is pickled only where it is still needed, and its converter, a module, never.
        needs_source = self.artifact is None or self.source_methods
        state = {
            "plan": self.plan,
            "signature": self.signature,
            "artifact": self.artifact,
            "parity": self.parity,
            "source": self.source if needs_source else None,
            "name": self.name,
            "source_methods": self.source_methods,
            "sources": dict(self.sources),
            "provenance": self.provenance,
        }
        return _unpickled, (state,)


def convert_model(
    model: Any,
    *,
    example: Any = None,
    name: str | None = None,
    on_mismatch: OnMismatch = "fallback",
    opset: int | None = None,
    trust: bool | Sequence[str] = False,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Conversion:
    """Convert a model to ONNX and prove that it answers as before.

    Parameters
    ----------
    model : object
        A fitted model of a supported framework, or an ONNX model: a path, bytes or a ModelProto.
    example : rows, optional
        Rows as the model takes them, best a few hundred of its training data: the dtypes and names of
        its fields are read from them, and they are what the comparison is made on.
    name : str, optional
        The model's name in messages and in the file; by default it is called after its file, its folder
        or its class, and the file names none.
    on_mismatch : {"fallback", "raise", "warn"}
        What happens when the converted model answers differently or cannot be written: serve the
        source model as it is ("fallback"), raise, or keep the converted model and warn ("warn"; a
        model that cannot be written at all falls back). A method other than the first that differs is
        left out of the graph under "fallback", and the source model answers it.
    opset : int, optional
        ONNX operator set; by default the one that the converter knows to be right.
    trust : bool or sequence of str
        What a file may bring along that is more than data: anything, nothing, or the types and
        ``module:function`` of these names.
    clock : callable
        UTC time for the provenance.

    Returns
    -------
    Conversion

    Raises
    ------
    UnsupportedModelError
        No converter knows the model's type, or the model is not even fitted.
    ConversionError
        It cannot be converted, and `on_mismatch` is "raise".
    ParityError
        It answers differently, and `on_mismatch` is "raise"; ``report`` has the comparison.
    InputError
        The source model itself refuses the example.
    MissingDependencyError
        A package that converting needs is missing.
    ArtifactError
        The ONNX file is damaged or unsafe.

    Warns
    -----
    UserWarning
        The conversion could not be proven, or it failed the proof under "warn".
    """
    if on_mismatch not in ("fallback", "raise", "warn"):
        raise ValueError(
            f"Expected on_mismatch to be 'fallback', 'raise' or 'warn', got {on_mismatch!r}"
        )
    shown_name = name or registry.name_of(model)
    label = f"model `{shown_name}`"
    if not (name or isinstance(model, str | os.PathLike)):
        label = f"`{registry.type_name(model)}`"
    if model_file.is_model_file(model):
        model = model_file.open_model_file(model, trust)
    converter = registry.find(model)
    if converter.FRAMEWORK == "ONNX":
        return _take_onnx(model, converter, name, example, opset, trust)
    model = registry.open_source(model, converter)
    with registry.naming_the_extra(converter):
        signature = converter.infer_signature(model, example)

    def native(reason: str, report: ParityReport | None = None) -> Conversion:
        logger.info("%s is served by %s itself: %s", label, converter.FRAMEWORK, reason)
        plan = Plan("native", reason)
        provenance = _provenance(model, converter, clock)
        return Conversion(
            plan, signature, None, report, model, converter, shown_name, provenance=provenance
        )

    try:
        written = _write_graph(model, converter, signature, label, example, opset)
    except ConversionError as exc:
        if on_mismatch == "raise":
            raise
        reason = f"it cannot be converted: {exc}"
        return native(reason)

    attempt = _attempt(written, model, converter, signature, example, name, clock)
    while written.retry is not None and not attempt.holds:
        try:
            written = written.retry()
            other = _attempt(written, model, converter, signature, example, name, clock)
        except Exception:  # the first way has told why already
            logger.info("%s: another way to write it failed", label, exc_info=True)
            break
        if other.holds:
            attempt = other
    del written

    if isinstance(attempt, _Failed):
        if on_mismatch == "raise":
            raise ConversionError(
                f"{label}: the converted model does not run: {attempt.error}"
            ) from attempt.error
        reason = f"the converted model does not run: {attempt.error}"
        return native(reason)

    artifact, report, plan = attempt.artifact, attempt.report, attempt.artifact.plan
    signature = artifact.signature
    all_methods = attempt.all_methods
    if report is None:
        warnings.warn(f"{label}: {_UNPROVEN}", UserWarning, stacklevel=3)
        plan = replace(plan, notes=(*plan.notes, _UNPROVEN))
    elif not report.passed:
        if on_mismatch == "raise":
            raise ParityError(f"{label} answers differently as ONNX\n{report}", report)
        if on_mismatch == "warn":
            warnings.warn(
                f"{label} answers differently as ONNX\n{report}", UserWarning, stacklevel=3
            )
            plan = replace(plan, notes=(*plan.notes, *_differences(report)))
        elif not report.methods[0].passed:
            reason = f"as ONNX it answers differently: {_differences(report)[0]}"
            return native(reason, report)
        else:
            dropped = {method.method for method in report.methods if not method.passed}
            signature = replace(
                signature, methods=tuple(m for m in signature.methods if m.name not in dropped)
            )
            plan = replace(
                plan,
                notes=(*plan.notes, *(f"left out: {text}" for text in _differences(report))),
            )
    artifact = artifact.revised(signature=signature, plan=plan, parity=report)
    logger.info("%s: %s", label, plan.reason)
    proven = {method.name for method in signature.methods}
    source_methods = tuple(method for method in all_methods if method.name not in proven)
    if source_methods:
        names = ", ".join(method.name for method in source_methods)
        # Not in the artifact's own plan: whoever opens the file has no source model.
        plan = replace(plan, notes=(*plan.notes, f"answered by {converter.FRAMEWORK}: {names}"))
    return Conversion(
        plan,
        signature,
        artifact,
        report,
        model,
        converter,
        shown_name,
        source_methods,
        attempt.sources,
        artifact.provenance,
    )


@dataclass(frozen=True, slots=True)
class _Attempt:
    """A written model that runs, and how it compares."""

    artifact: Artifact
    report: ParityReport | None
    all_methods: tuple[Method, ...]
    sources: Mapping[str, Any]

    @property
    def holds(self) -> bool:
        return self.report is None or self.report.passed


@dataclass(frozen=True, slots=True)
class _Failed:
    """The exporter wrote what ONNX Runtime or the signature cannot take."""

    error: Exception
    holds = False


def _attempt(
    written: Written,
    model: Any,
    converter: Converter,
    signature: Signature,
    example: Any,
    name: str | None,
    clock: Callable[[], datetime],
) -> _Attempt | _Failed:
    """Make an artifact of what was written, and compare it with its source."""
    signature = written.signature or signature
    all_methods = signature.methods
    graph = written.graph
    try:
        artifact = Artifact(
            graph,
            signature=_with_fixed_axes(_as_written(signature, graph), graph),
            plan=_plan(written, converter),
            provenance=_provenance(model, converter, clock),
            name=name,
            documents=written.documents,
            external_folder=written.external_folder,
            owns_folder=True,
        )
        # Large weights are in the artifact's own file by now.
        del graph
        report = parity.check(
            artifact,
            model,
            converter,
            example,
            sources=written.sources,
            open_session=written.open_session,
        )
    except (ArtifactError, SessionError) as exc:
        return _Failed(exc)
    return _Attempt(artifact, report, all_methods, written.sources)


def _plan(written: Written, converter: Converter) -> Plan:
    if not written.sources:
        return Plan("onnx", f"converted from {converter.FRAMEWORK}", written.notes, written.parts)
    left = [f"{part.path} ({part.kind})" for part in written.parts if part.runs == "source"]
    names = ", ".join(left or written.sources)
    reason = f"converted from {converter.FRAMEWORK}, which still runs {names}"
    return Plan("hybrid", reason, written.notes, written.parts)


def _unpickled(state: dict[str, Any]) -> Conversion:
    source = state["source"]
    converter = registry.find("model.onnx" if source is None else source)
    return Conversion(**state, converter=converter)


def _as_written(signature: Signature, graph: ModelProto) -> Signature:
    """Leave out methods, after the first, that the converter did not write, and their outputs."""
    written = {value.name for value in graph.graph.output}
    first, *others = signature.methods
    methods = (first, *(m for m in others if written.issuperset(m.outputs)))
    needed = {name for method in methods for name in method.outputs}
    outputs = tuple(v for v in signature.outputs if v.name in written or v.name in needed)
    return replace(signature, methods=methods, outputs=outputs)


def _with_fixed_axes(signature: Signature, graph: ModelProto) -> Signature:
    """Take over the sizes of axes that the exporter had to fix although the source model does not."""
    written = signature_from_graph(graph)
    if len(written.inputs) != len(signature.inputs) or len(written.outputs) != len(
        signature.outputs
    ):
        return signature  # The Artifact says in which names the two differ.
    return replace(
        signature,
        inputs=tuple(map(_narrowed, signature.inputs, written.inputs)),
        outputs=tuple(map(_narrowed, signature.outputs, written.outputs)),
    )


def _narrowed(spec: ValueSpec, written: ValueSpec) -> ValueSpec:
    if not isinstance(spec, TensorSpec) or not isinstance(written, TensorSpec):
        return spec
    if spec.shape is None or written.shape is None or len(spec.shape) != len(written.shape):
        return spec
    dims = zip(spec.shape, written.shape, strict=True)
    return replace(
        spec, shape=tuple(theirs if isinstance(theirs, int) else ours for ours, theirs in dims)
    )


def _take_onnx(
    model: Any,
    converter: Converter,
    name: str | None,
    example: Any,
    opset: int | None,
    trust: bool | Sequence[str],
) -> Conversion:
    """Take a model that is ONNX already; its own proof, if it has one, travels in the file."""
    if opset is not None:
        # Refuses every opset but the model's own.
        converter.to_onnx(model, converter.infer_signature(model, example), opset=opset)
    if isinstance(model, (str, os.PathLike)):
        artifact = Artifact.open(model)
    elif isinstance(model, bytes):
        artifact = Artifact.from_bytes(model)
    else:
        signature = converter.infer_signature(model, example)
        plan = Plan("onnx", "the model is ONNX already")
        artifact = Artifact(model, signature=signature, plan=plan, name=name)
    name = name or artifact.name or registry.name_of(model)
    provenance = artifact.provenance
    held = saved_source.opened(artifact, trust)
    if held is not None and "model" in held.sources:
        source = held.sources["model"]
        return Conversion(
            held.plan,
            held.signature,
            None,
            artifact.parity,
            source,
            registry.find(source),
            name,
            provenance=provenance,
        )
    return Conversion(
        artifact.plan,
        artifact.signature,
        artifact,
        artifact.parity,
        model,
        converter,
        name,
        sources={} if held is None else held.sources,
        provenance=provenance,
    )


def _write_graph(
    model: Any,
    converter: Converter,
    signature: Signature,
    label: str,
    example: Any,
    opset: int | None,
) -> Written:
    try:
        with registry.naming_the_extra(converter):
            return converter.to_onnx(model, signature, example=example, opset=opset)
    except InferSDKError:
        raise
    except Exception as exc:
        # Exporters run over models that nobody has tried before; whatever stops one stops it alone.
        logger.info("%s: the exporter failed", label, exc_info=True)
        raise ConversionError(f"{label}: the exporter failed: {type(exc).__name__}: {exc}") from exc


def _differences(report: ParityReport) -> list[str]:
    """One sentence for each method that failed."""
    sentences = []
    for method in report.methods:
        if method.passed:
            continue
        text = f"{method.method} differs in {method.mismatched_rows} rows"
        if method.label_flips:
            text += f" ({method.label_flips} other labels)"
        elif method.max_abs_error:
            text += f" (by up to {method.max_abs_error:.3g})"
        sentences.append(f"{text}: {method.message}" if method.message else text)
    return sentences


def _provenance(model: Any, converter: Converter, clock: Callable[[], datetime]) -> Provenance:
    packages = {"numpy", "onnx", *registry.EXPORTERS}
    packages.update(base.__module__.partition(".")[0] for base in registry.class_of(model).__mro__)
    versions = []
    for package in sorted(packages):
        # Whatever took part has been imported by now.
        version = getattr(sys.modules.get(package), "__version__", None)
        if isinstance(version, str):
            versions.append((package, version))
    return Provenance(
        framework=converter.FRAMEWORK,
        source=registry.type_name(model),
        versions=tuple(versions),
        infersdk=_own_version(),
        created=clock().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    )


def _own_version() -> str:
    import importlib.metadata  # half as dear to import as numpy

    try:
        return importlib.metadata.version("infersdk")
    except importlib.metadata.PackageNotFoundError:
        # Run from a source tree that was never installed.
        return "unknown"
