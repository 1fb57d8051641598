"""The commands, put together."""

from __future__ import annotations

import typer

from infersdk.cli.convert import convert
from infersdk.cli.doctor import doctor
from infersdk.cli.info import info

__all__ = ["app"]

app = typer.Typer(
    help="Any trained model inside your Flask, Django or FastAPI app, at native speed.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(doctor)
app.command()(convert)
app.command()(info)
