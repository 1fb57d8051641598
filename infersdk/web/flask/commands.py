"""``flask infersdk ...``: an app's models, seen from the command line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import click
from flask import current_app
from flask.cli import AppGroup

from infersdk.errors import InputError
from infersdk.predictors import ModelConfig
from infersdk.runtime import Predictor
from infersdk.web.json_rows import InvalidJSON, decode, encode
from infersdk.web.openapi import describe, openapi
from infersdk.web.service import Service

__all__ = ["commands"]

commands = AppGroup("infersdk", help="Models of the app.")


@commands.command("list")
def list_models() -> None:
    """List the models, opening none."""
    predictors = _service().predictors
    if not len(predictors):
        click.echo("No model is declared.")
        return
    states = predictors.health()["models"]
    _table(
        ("model", "state", "source", "methods"),
        [
            (name, states[name]["state"], _source(config), ", ".join(config.methods or ["all"]))
            for name, config in ((name, predictors.config(name)) for name in predictors)
        ],
    )


@commands.command()
def check() -> None:
    """Open every model, warm it up, and say how it runs.

    Exit status: 0, or 1 if a model could not be opened.
    """
    predictors = _service().predictors
    failed = 0
    for name in predictors:
        try:
            predictor = predictors[name]
            predictor.warm_up(predictors.config(name).warm_up_rows)
        except Exception as error:
            failed += 1
            click.secho(f"{name}: failed", fg="red", err=True)
            click.echo(_indented(f"{type(error).__name__}: {error}"), err=True)
        else:
            click.secho(f"{name}: fine", fg="green")
            _show_how_it_runs(predictor)
    if failed:
        raise click.ClickException(f"{failed} of {len(predictors)} models could not be opened")


@commands.command()
@click.argument("model")
@click.option("--method", help="Of the model; by default its main one.")
@click.option(
    "--rows",
    type=click.File("rb"),
    default="-",
    show_default="standard input",
    help="A file of JSON: a row, or a list of rows.",
)
def predict(model: str, method: str | None, rows: Any) -> None:
    """Answer rows of JSON with MODEL, in JSON.

    Exit status: 0, or 1 if the rows do not fit, and each reason on standard error.
    """
    predictor = _open(model)
    known = [item.name for item in predictor.signature.methods]
    method = method or (_service().predictors.config(model).methods or known)[0]
    if method not in known:
        raise click.BadParameter(f"`{model}` has {', '.join(known)}", param_hint="--method")
    try:
        given = decode(rows.read())
    except InvalidJSON as error:
        raise click.ClickException(f"The rows are not JSON: {error}") from error
    try:
        answers = predictor(given) if method == "__call__" else getattr(predictor, method)(given)
    except InputError as error:
        reasons = predictor.check(given) or [error]
        raise click.ClickException("\n".join(map(str, reasons))) from error
    click.echo(encode({"answers": answers}))


@commands.command()
@click.argument("model")
def info(model: str) -> None:
    """Show what MODEL takes and gives."""
    predictor = _open(model)
    service = _service()
    click.echo(f"{model}: {predictor.plan.kind}")
    click.echo(f"methods: {', '.join(describe(service, model)['methods'])}")
    signature = predictor.signature
    _table(("input", "type"), [(value.name, str(value)) for value in signature.inputs])
    _table(("output", "type"), [(value.name, str(value)) for value in signature.outputs])
    if signature.fields:
        _table(
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


@commands.command("openapi")
def show_openapi() -> None:
    """Write the OpenAPI document of the models' routes, in JSON."""
    service = _service()
    for name in service.predictors:
        _open(name)
    document = json.loads(encode(openapi(service, title=current_app.name)))
    click.echo(json.dumps(document, indent=2, ensure_ascii=False))


def _service() -> Service:
    service: Service = current_app.extensions["infersdk"]
    return service


def _open(name: str) -> Predictor:
    """A model of the app, or the end of the command with one readable error."""
    predictors = _service().predictors
    if name not in predictors:
        known = ", ".join(predictors) or "none"
        raise click.BadParameter(f"no model `{name}` is declared; there is: {known}")
    try:
        return predictors[name]
    except Exception as error:
        raise click.ClickException(
            f"{name} could not be opened\n{_indented(f'{type(error).__name__}: {error}')}"
        ) from error


def _show_how_it_runs(predictor: Predictor) -> None:
    parity = predictor.parity
    for text in (
        f"plan: {predictor.plan}",
        "parity: there was nothing to compare with" if parity is None else str(parity),
        # The last of its lines is what follows from the measurements before it.
        f"calibration: {str(predictor.calibration).splitlines()[-1]}",
    ):
        click.echo(_indented(text))


def _source(config: ModelConfig) -> str:
    """Where a model comes from, in a few words."""
    source = config.source
    if isinstance(source, str) or hasattr(source, "__fspath__"):
        return str(source)
    return getattr(source, "__qualname__", type(source).__qualname__)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    for row in (head, *rows):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo("  ".join(cells).rstrip())


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())
