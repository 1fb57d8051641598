"""The commands, put together."""

from __future__ import annotations

from typing import Annotated

import typer

from infersdk.cli.convert import convert
from infersdk.cli.doctor import doctor
from infersdk.cli.info import info
from infersdk.cli.init import init
from infersdk.cli.serve import serve
from infersdk.cli.versions import installed

__all__ = ["app"]

app = typer.Typer(
    help="Any trained model inside your Flask, Django or FastAPI app, at native speed.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def _whole(
    version: Annotated[bool, typer.Option("--version", help="Show the version and end.")] = False,
) -> None:
    if version:
        typer.echo(f"infersdk {installed(['infersdk']).get('infersdk', 'unknown')}")
        raise typer.Exit


app.command()(doctor)
app.command()(convert)
app.command()(info)
app.command()(init)
app.command()(serve)
