"""``flask infersdk ...``: an app's models, seen from the command line."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import click
from flask import current_app
from flask.cli import AppGroup

from infersdk.web import inspection
from infersdk.web.service import Service

__all__ = ["commands"]


class _Commands(AppGroup):
    """Ends with the words of an InspectionError, and status 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except inspection.InspectionError as error:
            raise click.ClickException(str(error)) from error


commands = _Commands("infersdk", help="The app's models: list, check, describe and ask them.")


@commands.command("list")
def list_models() -> None:
    """List the models, opening none."""
    _show(inspection.list_models(_service()))


@commands.command()
@click.argument("models", nargs=-1, metavar="[MODEL]...")
def check(models: tuple[str, ...]) -> None:
    """Open models (by default all), warm them up, and say how they run.

    Exit status: 0, or 1 if one of them failed.
    """
    for checked in inspection.check_models(_service(), models):
        is_error = not checked.is_fine
        click.secho(checked.headline, fg="red" if is_error else "green", err=is_error)
        _show(checked.details, err=is_error)


@commands.command()
@click.argument("model")
@click.option("--json", "as_json", is_flag=True, help="As the model's route gives it.")
def info(model: str, as_json: bool) -> None:
    """Show what MODEL takes and gives."""
    if as_json:
        click.echo(inspection.describe_as_json(_service(), model))
    else:
        _show(inspection.describe_model(_service(), model))


@commands.command()
@click.argument("model")
@click.option("--method", help="Of the model; by default its main one.")
@click.option(
    "--rows",
    default="-",
    metavar="FILE",
    help="JSON: a row, or a list of rows; by default standard input.",
)
def predict(model: str, method: str | None, rows: str) -> None:
    """Answer rows of JSON with MODEL, in JSON.

    Exit status: 0, or 1 if the rows do not fit, with every reason on standard error.
    """
    click.echo(inspection.answer_rows(_service(), model, method, rows))


@commands.command("openapi")
@click.option("--title", default="Models", show_default=True)
@click.option("--version", "api_version", default="1", show_default=True)
@click.option("--prefix", help="Where the routes are mounted; by default where the settings say.")
def show_openapi(title: str, api_version: str, prefix: str | None) -> None:
    """Write the OpenAPI document of the models' routes, in JSON."""
    click.echo(
        inspection.openapi_as_json(_service(), title=title, version=api_version, prefix=prefix)
    )


def _service() -> Service:
    service: Service = current_app.extensions["infersdk"]
    return service


def _show(lines: Iterable[str], *, err: bool = False) -> None:
    for line in lines:
        click.echo(line, err=err)
