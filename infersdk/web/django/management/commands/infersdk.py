"""``manage.py infersdk``: the project's models on the command line."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from infersdk.predictors import Predictors
from infersdk.web.django import conf
from infersdk.web.django.checks import TAG

__all__ = ["Command"]


class Command(BaseCommand):
    """``manage.py infersdk list|check|info|predict|openapi``."""

    help = "The project's models: list them, check that they open, describe them, ask them."
    requires_system_checks = [TAG]  # noqa: RUF012 - as Django declares it

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare what can be said."""
        words = parser.add_subparsers(dest="word", required=True, metavar="COMMAND")
        words.add_parser("list", help="names and sources; opens nothing")
        check = words.add_parser("check", help="open and warm up models, as a worker does")
        check.add_argument("models", nargs="*", metavar="MODEL", help="by default all")
        info = words.add_parser("info", help="a model's plan, proof, methods and fields, as JSON")
        info.add_argument("model")
        predict = words.add_parser("predict", help="answer rows, as the model's route does")
        predict.add_argument("model")
        predict.add_argument("--method", help="by default the model's main one")
        predict.add_argument(
            "--rows",
            default="-",
            metavar="FILE",
            help="JSON: a row, or a list of rows; by default standard input",
        )
        openapi = words.add_parser("openapi", help="OpenAPI 3.1 of the models' routes, as JSON")
        openapi.add_argument("--title", default="Models")
        openapi.add_argument("--version", default="1", dest="api_version")
        openapi.add_argument("--prefix", help="where the routes are mounted, e.g. /models")

    def handle(self, *_: Any, word: str, **options: Any) -> None:
        """Do what the word says.

        Raises
        ------
        CommandError
            A model cannot be opened, or the rows do not fit it.
        """
        getattr(self, f"_{word}")(options)

    def _list(self, _: dict[str, Any]) -> None:
        predictors = conf.service().predictors
        width = max(map(len, predictors), default=0)
        states = predictors.health()["models"]
        for name in predictors:
            source = _describe(predictors.config(name).source)
            self.stdout.write(f"{name:<{width}}  {states[name]['state']:<6}  {source}")

    def _check(self, options: dict[str, Any]) -> None:
        predictors = conf.service().predictors
        failed = []
        for name in options["models"] or predictors:
            try:
                predictor = _open(predictors, name)
                predictor.warm_up(predictors.config(name).warm_up_rows)
            except CommandError as error:
                failed.append(name)
                self.stderr.write(self.style.ERROR(str(error)))
                continue
            except Exception as error:
                failed.append(name)
                self.stderr.write(self.style.ERROR(f"{name}: cannot be warmed up: {error}"))
                continue
            parity = predictor.parity
            proof = "no proof with it" if parity is None else str(parity)
            self.stdout.write(
                f"{self.style.SUCCESS(name)}: plan {predictor.plan.kind}; "
                f"{', '.join(method.name for method in predictor.signature.methods)}\n"
                f"  {proof}"
            )
        if failed:
            raise CommandError(f"{len(failed)} of the models failed: {', '.join(failed)}")

    def _info(self, options: dict[str, Any]) -> None:
        from infersdk.web.openapi import describe

        service = conf.service()
        _open(service.predictors, options["model"])
        self._write_json(describe(service, options["model"]))

    def _predict(self, options: dict[str, Any]) -> None:
        service = conf.service()
        _open(service.predictors, options["model"])
        try:
            body = (
                sys.stdin.buffer.read()
                if options["rows"] == "-"
                else Path(options["rows"]).read_bytes()
            )
        except OSError as error:
            raise CommandError(f"The rows cannot be read: {error}") from error
        reply = service.answer(options["model"], options["method"], body, lambda _: None)
        text = reply.body.decode()
        if reply.status != 200:
            problem = json.loads(text)
            lines = [problem["title"], *(item["detail"] for item in problem.get("errors", ()))]
            raise CommandError(
                "\n  ".join(lines if len(lines) > 1 else [*lines, problem["detail"]])
            )
        self.stdout.write(text)

    def _openapi(self, options: dict[str, Any]) -> None:
        from infersdk.web.openapi import openapi

        service = conf.service()
        for name in service.predictors:
            _open(service.predictors, name)
        document = openapi(service, title=options["title"], version=options["api_version"])
        prefix = options["prefix"] or _mounted_at()
        if prefix:
            document["servers"] = [{"url": "/" + prefix.strip("/")}]
        self._write_json(document)

    def _write_json(self, value: Any) -> None:
        from infersdk.web.json_rows import encode

        self.stdout.write(json.dumps(json.loads(encode(value)), indent=2, ensure_ascii=False))


def _open(predictors: Predictors, name: str) -> Any:
    try:
        return predictors[name]
    except Exception as error:
        raise CommandError(f"{name}: {error}") from error


def _mounted_at() -> str | None:
    """Where the project's URLconf has the routes, if it has them."""
    from django.urls import NoReverseMatch, reverse

    try:
        return reverse("infersdk:models")
    except NoReverseMatch:
        return None


def _describe(source: Any) -> str:
    if isinstance(source, conf.Imported):
        return source.name
    if isinstance(source, (str, Path)):
        return str(source)
    return f"a {type(source).__module__}.{type(source).__qualname__}"
