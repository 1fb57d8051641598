"""Saving and opening what of a model is not in its graph: the framework's part of a hybrid or native plan.

It travels in the artifact's document ``source``, in one of two forms:

- ``skops``: scikit-learn estimators in skops' format. Opening one builds only types that skops knows to be
  harmless, and those that the app names in ``trust``.
- ``import``: the name of a function of the app, ``module:function``, that returns the source model. It is
  called only where the app names it in ``trust``.

Nothing is ever pickled or unpickled. A native plan has no graph; its file holds one that hands its input
through, so that it is a valid ONNX file, and its signature stands in the document.
"""

from __future__ import annotations

import base64
import importlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from infersdk.artifact import Artifact
from infersdk.artifact.metadata import MAX_DOCUMENT_BYTES, parse_plan, parse_signature
from infersdk.convert import registry
from infersdk.errors import ArtifactError, MissingDependencyError
from infersdk.types import Method, Plan, Signature, TensorSpec

if TYPE_CHECKING:
    from infersdk.convert.conversion import Conversion

__all__ = ["Held", "opened", "with_source"]

_LARGEST_BYTES = MAX_DOCUMENT_BYTES * 3 // 4 - 2**20
"""Of a skops file, which base64 makes a third larger."""

_PLACEHOLDER = Signature(
    inputs=(TensorSpec("rows", "string", ("N",)),),
    outputs=(TensorSpec("rows_unchanged", "string", ("N",)),),
    methods=(Method("predict", ("rows_unchanged",)),),
)


@dataclass(frozen=True, slots=True)
class Held:
    """The signature and plan of a whole model, and the framework's parts that its file held, by name.

    ``"model"`` is the whole model, of a native plan.
    """

    signature: Signature
    plan: Plan
    sources: dict[str, Any]


def with_source(conversion: Conversion, target: str | None, *, name: str) -> Artifact:
    """Return the artifact of a conversion with all that opening it needs.

    Parameters
    ----------
    conversion : Conversion
        Of any plan.
    target : str, optional
        ``module:function`` of the app that returns the source model. By default scikit-learn's part is
        stored through skops.
    name : str
        The model's name.

    Raises
    ------
    ArtifactError
        The framework's part cannot be stored, or `target` does not give the model.
    MissingDependencyError
        skops is not installed.
    """
    native = conversion.artifact is None
    if not native and not conversion.sources:
        assert conversion.artifact is not None
        return conversion.artifact
    sources = {"model": conversion.source} if native else dict(conversion.sources)
    document: dict[str, Any] = {"version": 1}
    if target is None:
        document |= {"format": "skops", "data": _packed(sources, conversion, name)}
    else:
        _imported(target, conversion.plan, sources)
        document |= {"format": "import", "target": target}
    if native:
        document["signature"] = conversion.signature.to_json()
        document["type"] = registry.type_name(conversion.source)
        return Artifact(
            _placeholder(),
            signature=_PLACEHOLDER,
            plan=conversion.plan,
            parity=conversion.parity,
            provenance=conversion.provenance,
            name=name,
            documents={"source": document},
        )
    assert conversion.artifact is not None
    return conversion.artifact.revised(
        signature=conversion.artifact.signature,
        plan=conversion.artifact.plan,
        parity=conversion.parity,
        documents={"source": document},
    )


def opened(artifact: Artifact, trust: bool | Sequence[str]) -> Held | None:
    """Read what an opened artifact says about its source; None where its graph is all there is.

    Raises
    ------
    ArtifactError
        The document is malformed, or needs trust that was not given; the message says what to trust.
    MissingDependencyError
        skops is not installed.
    """
    document = artifact.documents.get("source")
    if document is None:
        if artifact.plan.kind != "onnx":
            raise ArtifactError(
                f"{artifact!r} is a {artifact.plan.kind} model whose file lacks the framework's part. "
                "Save it with predictor.save()"
            )
        return None
    if document["version"] != 1:
        raise ArtifactError(
            f"The document `infersdk.source` has version {document['version']}; this infersdk reads 1"
        )
    try:
        native = "signature" in document
        signature = parse_signature(document["signature"]) if native else artifact.signature
        plan = parse_plan({**artifact.plan.to_json(), "version": 1})
        wanted = ["model"] if native else [s.name for s in signature.steps if s.kind == "source"]
        if document["format"] == "skops":
            sources = _unpacked(base64.b64decode(document["data"], validate=True), trust)
        elif document["format"] == "import":
            target = document["target"]
            if not (trust is True or (not isinstance(trust, bool) and target in trust)):
                raise ArtifactError(
                    f"The model comes from the function `{target}` of its app. If it is yours, load it "
                    f"with trust=({target!r},)"
                )
            sources = _imported(target, plan, dict.fromkeys(wanted))
        else:
            raise ArtifactError(f"Unknown format of a source: {document['format']!r}")
    except (KeyError, TypeError, ValueError) as exc:
        if isinstance(exc, ArtifactError):
            raise
        raise ArtifactError(f"The document `infersdk.source` is malformed: {exc!r}") from exc
    if not isinstance(sources, Mapping) or not set(wanted) <= set(sources):
        raise ArtifactError(f"Expected the parts {wanted} in the file, got {list(sources)}")
    _tell_of_other_versions(artifact)
    return Held(signature, plan, dict(sources))


# -- skops


def _packed(sources: Mapping[str, Any], conversion: Conversion, name: str) -> str:
    advice = (
        'Save it with predictor.save(path, source="module:function"), naming a function of your app that '
        "returns the model"
    )
    for part in sources.values():
        if not any(cls.__module__.split(".")[0] == "sklearn" for cls in type(part).__mro__):
            raise ArtifactError(
                f"Model `{name}` runs in {conversion.converter.FRAMEWORK}, which has no file that is safe to "
                f"open again. {advice}"
            )
    skops = _skops()
    try:
        data: bytes = skops.dumps(dict(sources))
        # It writes some things, such as methods of built-in types, that it cannot read.
        skops.loads(data, trusted=skops.get_untrusted_types(data=data))
    except Exception as exc:  # skops meets classes that it has never seen
        raise ArtifactError(f"skops cannot store model `{name}`: {exc}. {advice}") from exc
    if len(data) > _LARGEST_BYTES:
        raise ArtifactError(
            f"The part of model `{name}` that stays in scikit-learn takes {len(data) / 1e6:.0f} MB; at most "
            f"{_LARGEST_BYTES / 1e6:.0f} MB fit in the file. {advice}"
        )
    return base64.b64encode(data).decode()


def _unpacked(data: bytes, trust: bool | Sequence[str]) -> Any:
    skops = _skops()
    try:
        unknown = skops.get_untrusted_types(data=data)
    except Exception as exc:  # damaged, or written by a skops that does other things
        raise ArtifactError(
            f"The part of the model that stays in scikit-learn cannot be read: {exc}"
        ) from exc
    names = set() if isinstance(trust, bool) else set(trust)
    refused = [] if trust is True else sorted(set(unknown) - names)
    if refused:
        raise ArtifactError(
            f"The file holds objects of types that are not known to be harmless: {', '.join(refused)}. "
            f"If they are yours, load it with trust={tuple(refused)!r}"
        )
    try:
        return skops.loads(data, trusted=unknown)
    except Exception as exc:  # classes that moved, versions that differ
        raise ArtifactError(
            f"The part of the model that stays in scikit-learn cannot be opened: {exc}"
        ) from exc


def _skops() -> Any:
    try:
        import skops.io
    except ImportError as exc:
        raise MissingDependencyError.for_extra(
            "skops", "skops", "Saving or opening a model that runs in scikit-learn in part"
        ) from exc
    return skops.io


# -- a function of the app


def _imported(target: str, plan: Plan, expected: Mapping[str, Any]) -> dict[str, Any]:
    """Call ``module:function`` and find the parts in the model that it returns."""
    from infersdk.convert.sklearn_structure import named_parts

    module_name, colon, function_name = target.partition(":")
    if not (colon and module_name and function_name):
        raise ArtifactError(f"Expected `module:function`, got {target!r}")
    try:
        function: Any = importlib.import_module(module_name)
        for attribute in function_name.split("."):
            function = getattr(function, attribute)
    except (ImportError, AttributeError) as exc:
        raise ArtifactError(f"The function `{target}` cannot be imported: {exc}") from exc
    model = function()
    if plan.kind == "native":
        # The function may return a path, as load() takes them.
        whole = None if model is None else registry.open_source(model, registry.find(model))
        sources = {"model": whole}
    else:
        paths = dict(named_parts(model))
        sources = {name: paths.get(name.rpartition(".")[0]) for name in expected}
    for name, part in expected.items():
        found = sources.get(name)
        if found is None or (
            part is not None and registry.class_of(found) is not registry.class_of(part)
        ):
            raise ArtifactError(
                f"`{target}` gave a {type(model).__name__} in which the part `{name}` is "
                f"{'missing' if found is None else registry.class_of(found).__name__}"
            )
    return sources


# -- the rest


def _placeholder() -> Any:
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [helper.make_node("Identity", ["rows"], ["rows_unchanged"])],
        "placeholder",
        [helper.make_tensor_value_info("rows", TensorProto.STRING, ["N"])],
        [helper.make_tensor_value_info("rows_unchanged", TensorProto.STRING, ["N"])],
        doc_string="The model runs in its own framework; see infersdk.source in the metadata.",
    )
    return helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", 18)],
        producer_name="infersdk",
        ir_version=10,
    )


def _tell_of_other_versions(artifact: Artifact) -> None:
    """scikit-learn promises nothing about fitted models of its other versions."""
    provenance = artifact.provenance
    if provenance is None:
        return
    import importlib.metadata

    for package, there in provenance.versions:
        if package != "sklearn":
            continue
        here = importlib.metadata.version("scikit-learn")
        if here.split(".")[:2] != there.split(".")[:2]:
            warnings.warn(
                f"{artifact!r} holds parts of scikit-learn {there}, and {here} is installed; its parts may "
                f"answer differently. Install scikit-learn=={there}, or save the model anew",
                UserWarning,
                stacklevel=4,
            )
