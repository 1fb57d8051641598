"""``infersdk doctor``: is this environment sound, and does this model convert?"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from infersdk.cli import screen
from infersdk.cli.environment import examine
from infersdk.cli.plot import check, draw
from infersdk.errors import MissingDependencyError

__all__ = ["doctor"]


def doctor(
    model: Annotated[
        str | None,
        typer.Argument(
            help="A model's file or folder, or module:attribute of your app.", show_default=False
        ),
    ] = None,
    example: Annotated[
        str | None,
        typer.Option(
            help="Rows as the model takes them: .npy, .npz, .csv, .parquet, .json, .jsonl or module:attribute."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")] = False,
    plot: Annotated[
        str | None, typer.Option(help="Draw the errors into this .png, .svg or .pdf file.")
    ] = None,
    trust: Annotated[
        bool, typer.Option("--trust", help="Open files that execute code, such as pickles.")
    ] = False,
) -> None:
    """Examine the environment; with MODEL, also whether and how exactly it converts.

    Exit status: 0 all is well, 1 there are problems, 2 the command was not understood.
    """
    if model is None and (plot or example):
        raise typer.BadParameter("--plot and --example need a MODEL")
    if plot:
        try:
            check(plot)
        except (ValueError, MissingDependencyError) as exc:
            raise typer.BadParameter(str(exc)) from exc
    environment = examine()
    report: dict[str, Any] = {"environment": environment.to_json()}
    sound = environment.is_sound
    if model is None:
        if not as_json:
            screen.show_environment(environment)
    else:
        from infersdk.cli.examination import examine_model

        diagnosis = examine_model(model, example=example, trust=trust)
        report["model"] = diagnosis.to_json()
        sound = sound and diagnosis.is_sound
        if not as_json:
            screen.show_findings(environment.findings)
            screen.show_diagnosis(diagnosis)
        if plot:
            draw(diagnosis, plot)
            screen.say(f"Drawn into {plot}", quiet=as_json)
    if as_json:
        report["sound"] = sound
        screen.show_json(report)
    raise typer.Exit(0 if sound else 1)
