"""``infersdk serve``: a ready server."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from infersdk.cli import screen
from infersdk.cli.inputs import UsageError
from infersdk.cli.served_models import named_models
from infersdk.errors import InferSDKError

if TYPE_CHECKING:
    from infersdk.web.server import Prepared, ServerOptions

__all__ = ["serve"]

_MODELS = "Models"
_PLACE = "Where"
_ACCESS = "Who may ask"
_LIMITS = "Limits"
_LOGS = "Metrics and logs"
_TOKEN = "INFERSDK_TOKEN"


def serve(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME=]MODEL...",
            help="A model's file or folder, or module:function of your app, and what it is to be called. "
            "By default every model file of the model folder.",
            show_default=False,
        ),
    ] = None,
    trust: Annotated[
        bool,
        typer.Option(
            "--trust",
            envvar="INFERSDK_TRUST",
            help="Open files that execute code, such as pickles.",
            rich_help_panel=_MODELS,
        ),
    ] = False,
    model_dir: Annotated[
        str | None,
        typer.Option(
            envvar="INFERSDK_MODEL_DIR",
            help="The model folder, where no MODEL is named; by default /opt/ml/model.",
            show_default=False,
            rich_help_panel=_MODELS,
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            envvar="INFERSDK_WORKERS",
            min=1,
            help="Processes that answer, each with its own copy of the models. By default as many as cores, up to 8.",
            show_default=False,
            rich_help_panel=_MODELS,
        ),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            envvar="INFERSDK_THREADS",
            min=1,
            help="Of one run of a model. By default the cores divided by the workers.",
            show_default=False,
            rich_help_panel=_MODELS,
        ),
    ] = None,
    host: Annotated[
        str,
        typer.Option(
            envvar="INFERSDK_HOST",
            help="0.0.0.0 or :: for all addresses of this machine.",
            rich_help_panel=_PLACE,
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int,
        typer.Option(
            envvar=["INFERSDK_PORT", "SAGEMAKER_BIND_TO_PORT"],
            help="0 takes a free one.",
            rich_help_panel=_PLACE,
        ),
    ] = 8080,
    grpc_port: Annotated[
        int | None,
        typer.Option(
            envvar="INFERSDK_GRPC_PORT",
            help="Speak gRPC too, on a port of its own.",
            rich_help_panel=_PLACE,
        ),
    ] = None,
    protocol: Annotated[
        list[str] | None,
        typer.Option(
            envvar="INFERSDK_PROTOCOL",
            help="May be given several times: rows (plain JSON), oip (Open Inference Protocol), invocations "
            "(SageMaker, MLflow). By default all.",
            show_default=False,
            rich_help_panel=_PLACE,
        ),
    ] = None,
    url_prefix: Annotated[
        str | None,
        typer.Option(
            envvar="INFERSDK_URL_PREFIX",
            help="Where all paths begin, such as /models.",
            rich_help_panel=_PLACE,
        ),
    ] = None,
    token_env: Annotated[
        str,
        typer.Option(
            help="The environment variable that holds the token that clients must send; where it is not set, "
            "anybody may ask.",
            rich_help_panel=_ACCESS,
        ),
    ] = _TOKEN,
    token_file: Annotated[
        Path | None,
        typer.Option(
            envvar="INFERSDK_TOKEN_FILE",
            help="A file of tokens instead, one a line; each of them will do.",
            rich_help_panel=_ACCESS,
        ),
    ] = None,
    admin: Annotated[
        bool,
        typer.Option(
            "--admin",
            envvar="INFERSDK_ADMIN",
            help="Let clients open and close models. Needs a token, or a host of this machine only.",
            rich_help_panel=_ACCESS,
        ),
    ] = False,
    tls_cert: Annotated[
        Path | None,
        typer.Option(
            envvar="INFERSDK_TLS_CERT", help="PEM: the certificate.", rich_help_panel=_ACCESS
        ),
    ] = None,
    tls_key: Annotated[
        Path | None,
        typer.Option(
            envvar="INFERSDK_TLS_KEY", help="PEM: its private key.", rich_help_panel=_ACCESS
        ),
    ] = None,
    tls_client_ca: Annotated[
        Path | None,
        typer.Option(
            envvar="INFERSDK_TLS_CLIENT_CA",
            help="PEM: who must have signed clients' certificates.",
            rich_help_panel=_ACCESS,
        ),
    ] = None,
    max_body_bytes: Annotated[
        int,
        typer.Option(
            envvar="INFERSDK_MAX_BODY_BYTES",
            min=1,
            help="Larger requests are refused with 413.",
            rich_help_panel=_LIMITS,
        ),
    ] = 16 * 2**20,
    max_header_bytes: Annotated[
        int,
        typer.Option(
            envvar="INFERSDK_MAX_HEADER_BYTES",
            min=8192,
            help="Longer headers are refused with 431.",
            rich_help_panel=_LIMITS,
        ),
    ] = 64 * 2**10,
    max_rows: Annotated[
        int,
        typer.Option(
            envvar="INFERSDK_MAX_ROWS",
            min=1,
            help="Of one request; more are refused with 413.",
            rich_help_panel=_LIMITS,
        ),
    ] = 10_000,
    max_connections: Annotated[
        int,
        typer.Option(
            envvar="INFERSDK_MAX_CONNECTIONS",
            min=1,
            help="Of one worker; further ones wait.",
            rich_help_panel=_LIMITS,
        ),
    ] = 4096,
    timeout_s: Annotated[
        float,
        typer.Option(
            envvar="INFERSDK_TIMEOUT_S",
            help="The most seconds that a model may take to answer, then 504; 0 for no limit.",
            rich_help_panel=_LIMITS,
        ),
    ] = 25.0,
    body_timeout_s: Annotated[
        float,
        typer.Option(
            envvar="INFERSDK_BODY_TIMEOUT_S",
            help="The most seconds that a request's body may take to arrive, then 408.",
            rich_help_panel=_LIMITS,
        ),
    ] = 30.0,
    idle_timeout_s: Annotated[
        float,
        typer.Option(
            envvar="INFERSDK_IDLE_TIMEOUT_S",
            help="Seconds after which a connection is closed that sends no request, or half of its headers.",
            rich_help_panel=_LIMITS,
        ),
    ] = 75.0,
    graceful_timeout_s: Annotated[
        int,
        typer.Option(
            envvar="INFERSDK_GRACEFUL_TIMEOUT_S",
            min=1,
            help="Seconds that running calls have to finish at a stop.",
            rich_help_panel=_LIMITS,
        ),
    ] = 25,
    metrics: Annotated[
        bool,
        typer.Option(
            "--metrics/--no-metrics",
            envvar="INFERSDK_METRICS",
            help="Count, and show the counts to Prometheus at /metrics.",
            rich_help_panel=_LOGS,
        ),
    ] = True,
    metrics_alias: Annotated[
        list[str] | None,
        typer.Option(
            envvar="INFERSDK_METRICS_ALIAS",
            help="May be given several times: the names that dashboards of other servers know, triton or kserve.",
            show_default=False,
            rich_help_panel=_LOGS,
        ),
    ] = None,
    access_log: Annotated[
        bool,
        typer.Option(
            "--access-log",
            envvar="INFERSDK_ACCESS_LOG",
            help="A line of JSON for each request, on standard output.",
            rich_help_panel=_LOGS,
        ),
    ] = False,
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        typer.Option(envvar="INFERSDK_LOG_LEVEL", help="Of standard error.", rich_help_panel=_LOGS),
    ] = "info",
    log_format: Annotated[
        Literal["text", "json"],
        typer.Option(
            envvar="INFERSDK_LOG_FORMAT", help="Of standard error.", rich_help_panel=_LOGS
        ),
    ] = "text",
) -> None:
    """Serve MODELs over HTTP, and over gRPC if asked to, until Ctrl-C or SIGTERM.

    Exit status: 0 it was stopped, 1 its workers kept ending, 2 it could not start.
    """
    try:
        from infersdk.web import server
        from infersdk.web.settings import PROTOCOLS, Settings

        found = named_models(models or [], trust=trust, folder=model_dir)
        if (tls_cert is None) != (tls_key is None) or (tls_client_ca and not tls_cert):
            raise UsageError("TLS needs both --tls-cert and --tls-key")
        settings = Settings(
            models={name: {"source": source, "trust": trust} for name, source in found.items()},
            url_prefix=url_prefix,
            max_body_bytes=max_body_bytes,
            max_rows=max_rows,
            timeout_s=timeout_s or None,
            protocols=protocol or tuple(PROTOCOLS),
            metrics=metrics,
            metrics_aliases=metrics_alias or (),
            token=_tokens(token_env, token_file),
            admin=admin,
            access_log=access_log,
        )
        options = server.ServerOptions(
            settings=settings,
            host=host,
            port=port,
            grpc_port=grpc_port,
            workers=workers or server.default_workers(),
            threads=threads,
            tls=server.TLSFiles(certificate=tls_cert, key=tls_key, client_authority=tls_client_ca)
            if tls_cert and tls_key
            else None,
            max_header_bytes=max_header_bytes,
            idle_timeout_s=idle_timeout_s,
            body_timeout_s=body_timeout_s,
            max_connections=max_connections,
            graceful_timeout_s=graceful_timeout_s,
            log_level=log_level,
            log_format=log_format,
        )
        server.serve(options, _announce)
    except KeyboardInterrupt as exc:
        raise typer.Exit(0) from exc
    except (UsageError, InferSDKError, ValueError, TypeError) as exc:
        screen.fail(str(exc))
        raise typer.Exit(2) from exc


def _tokens(variable: str, file: Path | None) -> list[str] | None:
    if file is not None:
        try:
            tokens = [line.strip() for line in file.read_text().splitlines() if line.strip()]
        except OSError as exc:
            raise UsageError(f"The token file {str(file)!r} cannot be read: {exc}") from exc
        if not tokens:
            raise UsageError(f"Expected a token on each line of {str(file)!r}, got an empty file")
        return tokens
    token = os.environ.get(variable, "").strip()
    if not token and variable != _TOKEN:
        raise UsageError(
            f"Expected a token in the environment variable {variable}, which is not set or empty"
        )
    return [token] if token else None


def _announce(options: ServerOptions, prepared: Prepared) -> None:
    """Say what is served, and where."""
    settings = options.settings
    scheme = "https" if options.tls else "http"
    host = f"[{options.host}]" if ":" in options.host else options.host
    base = f"{scheme}://{host}:{options.port}"
    root = base + (settings.url_prefix or "")
    if not sys.stdout.isatty():
        logger = logging.getLogger("infersdk")
        for model in prepared.models:
            logger.info("model %s (%s): %s", model.name, model.plan, ", ".join(model.methods))
        grpc = f", gRPC at port {options.grpc_port}" if options.grpc_port is not None else ""
        logger.info("serving at %s%s, %d workers", root, grpc, options.workers)
        return
    screen.show_table(
        ("model", "plan", "methods", "URL"),
        [
            (model.name, model.plan, ", ".join(model.methods), _url(root, model.name, options))
            for model in prepared.models
        ],
    )
    pages = ["/health/ready", "/openapi.json", *(["/metrics"] if settings.metrics else [])]
    screen.say("")
    screen.say(f"{options.workers} workers at {root}; also {', '.join(pages)}")
    if options.grpc_port is not None:
        screen.say(f"gRPC at {host}:{options.grpc_port}")
    if not settings.tokens:
        screen.say(
            f"No token is asked for; set {_TOKEN} to have one",
            style="dim" if options.is_local else "yellow",
        )
    screen.say("Ctrl-C stops the server")


def _url(root: str, name: str, options: ServerOptions) -> str:
    if "rows" in options.settings.protocols:
        return f"{root}/{name}"
    if "oip" in options.settings.protocols:
        return f"{root}/v2/models/{name}/infer"
    return f"{root}/{name}/invocations"
