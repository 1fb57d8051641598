"""What the commands do alike: open a model and its example, and keep other programs' noise off the answer."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any

import typer

from infersdk.cli import screen
from infersdk.cli.inputs import UsageError, open_example, open_model
from infersdk.convert.diagnosis import Diagnosis
from infersdk.errors import ArtifactError, InferSDKError, InputError

__all__ = ["examine_model", "opened", "quiet"]


def examine_model(model: str, *, example: str | None, trust: bool) -> Diagnosis:
    """Open and diagnose the model that the command line names.

    Raises
    ------
    typer.Exit
        With status 2, after saying why, where the model or the example cannot be opened or do not fit.
    """
    from infersdk.convert.diagnosis import diagnose

    with quiet(f"Converting {model}"):
        source, rows = opened(model, example, trust=trust)
        try:
            return diagnose(source, rows, trust=trust)
        except (InputError, ArtifactError) as exc:
            screen.fail(str(exc))
            if "trust=" in str(exc):
                screen.fail("On the command line: --trust")
            raise typer.Exit(2) from exc


def opened(model: str, example: str | None, *, trust: bool) -> tuple[Any, Any]:
    """Return the model and the example; what cannot be opened ends the command with status 2."""
    try:
        return open_model(model, trust=trust), None if example is None else open_example(example)
    except (UsageError, InferSDKError) as exc:
        screen.fail(str(exc))
        raise typer.Exit(2) from exc


@contextlib.contextmanager
def quiet(doing: str) -> Iterator[None]:
    """Keep what frameworks and exporters print off standard output; show a spinner on a terminal."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with screen.working(doing), contextlib.redirect_stdout(sys.stderr), _native_output_to_stderr():
        yield


@contextlib.contextmanager
def _native_output_to_stderr() -> Iterator[None]:
    """The same for what compiled code writes, which knows file descriptors only."""
    try:
        sys.__stdout__.flush()  # type: ignore[union-attr]
        kept = os.dup(1)
    except (AttributeError, OSError):  # there is no standard output
        yield
        return
    try:
        os.dup2(2, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
