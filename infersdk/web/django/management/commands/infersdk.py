"""``manage.py infersdk``: the project's models on the command line."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from infersdk.web import inspection
from infersdk.web.django import conf
from infersdk.web.django.checks import TAG

__all__ = ["Command"]


class Command(BaseCommand):
    """``manage.py infersdk list|check|info|predict|openapi``."""

    help = "The project's models: list, check, describe and ask them."
    requires_system_checks = [TAG]  # noqa: RUF012 - as Django declares it

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare what can be said."""
        words = parser.add_subparsers(dest="word", required=True, metavar="COMMAND")
        words.add_parser("list", help="list the models, opening none")
        check = words.add_parser("check", help="open models, warm them up, say how they run")
        check.add_argument("models", nargs="*", metavar="MODEL", help="by default all")
        info = words.add_parser("info", help="show what a model takes and gives")
        info.add_argument("model", metavar="MODEL")
        info.add_argument(
            "--json", action="store_true", dest="as_json", help="as the model's route gives it"
        )
        predict = words.add_parser("predict", help="answer rows of JSON with a model, in JSON")
        predict.add_argument("model", metavar="MODEL")
        predict.add_argument("--method", help="of the model; by default its main one")
        predict.add_argument(
            "--rows",
            default="-",
            metavar="FILE",
            help="JSON: a row, or a list of rows; by default standard input",
        )
        openapi = words.add_parser(
            "openapi", help="write the OpenAPI document of the models' routes, in JSON"
        )
        openapi.add_argument("--title", default="Models", metavar="TEXT")
        openapi.add_argument("--version", default="1", dest="api_version", metavar="TEXT")
        openapi.add_argument(
            "--prefix", help="where the routes are mounted; by default where the URLconf says"
        )

    def handle(self, *_: Any, word: str, **options: Any) -> None:
        """Do what the word says.

        Raises
        ------
        CommandError
            A model cannot be opened, or the rows do not fit it.
        """
        try:
            getattr(self, f"_{word}")(options)
        except inspection.InspectionError as error:
            raise CommandError(str(error)) from error

    def _list(self, _: dict[str, Any]) -> None:
        self._show(inspection.list_models(conf.service()))

    def _check(self, options: dict[str, Any]) -> None:
        for checked in inspection.check_models(conf.service(), options["models"]):
            if checked.is_fine:
                self.stdout.write(self.style.SUCCESS(checked.headline))
                self._show(checked.details)
            else:
                self.stderr.write("\n".join([checked.headline, *checked.details]))

    def _info(self, options: dict[str, Any]) -> None:
        service, name = conf.service(), options["model"]
        if options["as_json"]:
            self.stdout.write(inspection.describe_as_json(service, name))
        else:
            self._show(inspection.describe_model(service, name))

    def _predict(self, options: dict[str, Any]) -> None:
        self.stdout.write(
            inspection.answer_rows(
                conf.service(), options["model"], options["method"], options["rows"]
            )
        )

    def _openapi(self, options: dict[str, Any]) -> None:
        prefix = options["prefix"]
        self.stdout.write(
            inspection.openapi_as_json(
                conf.service(),
                title=options["title"],
                version=options["api_version"],
                prefix=_mounted_at() if prefix is None else prefix,
            )
        )

    def _show(self, lines: list[str]) -> None:
        self.stdout.write("\n".join(lines))


def _mounted_at() -> str | None:
    """Where the project's URLconf has the routes, if it has them."""
    from django.urls import NoReverseMatch, reverse

    try:
        return reverse("infersdk:models")
    except NoReverseMatch:
        return None
