"""``infersdk init``: write a small app that runs, with a model in it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from infersdk.cli import screen
from infersdk.cli.inputs import UsageError
from infersdk.cli.project import new_project, opened_model

__all__ = ["init"]


def init(
    host: Annotated[
        Literal["flask", "django", "fastapi"],
        typer.Argument(help="The framework of the app.", show_default=False),
    ],
    folder: Annotated[
        Path, typer.Argument(help="Where to write it; made if it is not there.")
    ] = Path(),
    model: Annotated[
        str | None,
        typer.Option(
            help="The .onnx file to serve. By default a small model of irises is written."
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Write over files that are there already.")
    ] = False,
) -> None:
    """Write a small app for HOST that answers with a model: code, tests, requirements and a README.

    Exit status: 0, or 2 where files are there already or the model cannot be opened.
    """
    try:
        project = new_project(host, folder, opened_model(model), force=force)
    except (UsageError, OSError) as exc:
        screen.fail(str(exc))
        raise typer.Exit(2) from exc
    for path in project.files:
        screen.say(f"wrote {folder / path}")
    screen.say("")
    screen.say("Start it:", style="bold")
    if folder != Path():
        screen.say(f"  cd {folder}")
    screen.say("  pip install -r requirements.txt")
    screen.say(f"  {project.start}")
    screen.say(f"{folder / 'README.md'} says how to ask it, test it and put it into production.")
