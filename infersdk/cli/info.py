"""``infersdk info``: what an ``.onnx`` file says of itself."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from infersdk.artifact import Artifact
from infersdk.cli import screen
from infersdk.errors import ArtifactError

__all__ = ["info"]


def info(
    model: Annotated[
        str, typer.Argument(help="An .onnx file, of infersdk or another tool.", show_default=False)
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")] = False,
) -> None:
    """Show a model file's signature, plan, proof and origin; nothing in it is run.

    Exit status: 0, or 2 where the file cannot be opened.
    """
    try:
        artifact = Artifact.open(model)
    except ArtifactError as exc:
        screen.fail(str(exc))
        raise typer.Exit(2) from exc
    if as_json:
        screen.show_json(_to_json(artifact))
        return
    signature = artifact.signature
    screen.say(f"{artifact.name or model}: {artifact.size_bytes:,} bytes, sha256 {artifact.digest}")
    if artifact.provenance is not None:
        origin = artifact.provenance
        versions = ", ".join(f"{name} {version}" for name, version in origin.versions)
        screen.say(
            f"converted from {origin.source} ({origin.framework}) by infersdk {origin.infersdk} on "
            f"{origin.created}, with {versions}"
        )
    screen.say(f"plan {artifact.plan.kind}: {artifact.plan.reason}")
    for note in artifact.plan.notes:
        screen.say(f"  - {note}")
    screen.show_table(
        ("value", "name", "type"),
        [
            *(("input", value.name, str(value)) for value in signature.inputs),
            *(("output", value.name, str(value)) for value in signature.outputs),
        ],
    )
    screen.show_table(
        ("method", "gives", "of the outputs"),
        [(method.name, _gives(method), ", ".join(method.outputs)) for method in signature.methods],
    )
    if signature.fields:
        screen.show_table(
            ("field", "takes", "missing values"),
            [
                (
                    field.name,
                    field.dtype + (" (not read)" if field.input is None else ""),
                    "refused" if field.missing == "refuse" else f"become {field.missing}",
                )
                for field in signature.fields
            ],
        )
    if artifact.precision is not None:
        screen.say(str(artifact.precision))
    if artifact.parity is not None:
        screen.show_parity(artifact.parity)
    else:
        screen.say("no proof in the file: it was not compared with a source model")


def _gives(method: Any) -> str:
    if method.labels is not None:
        return f"labels, {len(method.labels.values)} classes ({method.labels.dtype})"
    return method.form + (f" of {method.dtype}" if method.dtype else "")


def _to_json(artifact: Artifact) -> dict[str, Any]:
    return {
        "name": artifact.name,
        "size_bytes": artifact.size_bytes,
        "sha256": artifact.digest,
        "signature": artifact.signature.to_json(),
        "plan": artifact.plan.to_json(),
        "precision": None if artifact.precision is None else artifact.precision.to_json(),
        "parity": None if artifact.parity is None else artifact.parity.to_json(),
        "provenance": None if artifact.provenance is None else artifact.provenance.to_json(),
    }
