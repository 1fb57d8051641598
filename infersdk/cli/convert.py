"""``infersdk convert``: write a proven ONNX file."""

from __future__ import annotations

import warnings
from typing import Annotated, Literal

import typer

import infersdk.api
from infersdk.cli import screen
from infersdk.cli.examination import opened, quiet
from infersdk.convert.advice import advise
from infersdk.errors import ConversionError, InferSDKError

__all__ = ["convert"]


def convert(
    model: Annotated[
        str,
        typer.Argument(
            help="A model's file or folder, or module:attribute of your app.", show_default=False
        ),
    ],
    output: Annotated[
        str, typer.Option("--output", "-o", help="The .onnx file to write.", show_default=False)
    ],
    example: Annotated[
        str | None,
        typer.Option(
            help="Rows as the model takes them: .npy, .npz, .csv, .parquet, .json, .jsonl or "
            "module:attribute."
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="The model's name in messages.")] = None,
    precision: Annotated[
        Literal["fp16", "int8", "int4"] | None,
        typer.Option(help="Fewer bits: smaller and mostly faster, less exact. Needs an example."),
    ] = None,
    max_drop: Annotated[
        float, typer.Option(help="With --precision: how far answers may move before it is refused.")
    ] = 0.01,
    trust: Annotated[
        bool, typer.Option("--trust", help="Open files that execute code, such as pickles.")
    ] = False,
) -> None:
    """Convert MODEL to ONNX, prove that it answers as before, and write it.

    Exit status: 0 it was written and proven, 1 it does not convert, answers differently, or could not be
    proven (it is written then, with a warning), 2 the command was not understood.
    """
    with quiet(f"Converting {model}"):
        source, rows = opened(model, example, trust=trust)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                artifact = infersdk.api.convert(
                    source,
                    example=rows,
                    name=name,
                    precision=precision,
                    max_drop=max_drop,
                    trust=trust,
                )
            path = artifact.save(output)
        except ConversionError as exc:
            screen.fail(str(exc))
            do = advise(str(exc), type(source).__name__)
            if do:
                screen.fail(f"-> {do}")
            raise typer.Exit(1) from exc
        except (InferSDKError, OSError, ValueError) as exc:
            screen.fail(str(exc))
            raise typer.Exit(2) from exc
    screen.say(f"{path}: {artifact.size_bytes:,} bytes")
    if artifact.precision is not None:
        screen.say(str(artifact.precision))
    if artifact.parity is not None:
        screen.show_parity(artifact.parity)
    else:
        screen.fail("not proven: there were no rows to compare with. Give some with --example")
        raise typer.Exit(1)
