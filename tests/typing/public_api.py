"""How apps use the public names, for type checkers to read: mypy and pyright both, under `make types`.

What is wrong on purpose carries the error that both must report; a suppression that suppresses nothing
is an error itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, assert_type

import numpy as np

import infersdk
from infersdk import (
    Artifact,
    Calibration,
    Execution,
    InputError,
    ParityError,
    ParityReport,
    Plan,
    Predictor,
    Signature,
)


def loads(fitted: object, rows: list[dict[str, float]]) -> None:
    predictor = infersdk.load(fitted, example=rows, name="churn", on_mismatch="raise")
    assert_type(predictor, Predictor)
    assert_type(predictor.name, str)
    assert_type(predictor.plan, Plan)
    assert_type(predictor.signature, Signature)
    assert_type(predictor.parity, ParityReport | None)
    assert_type(predictor.artifact, Artifact | None)
    assert_type(predictor.execution, Execution)
    assert_type(predictor.calibration, Calibration)
    assert_type(predictor.save(Path("churn.onnx")), str)


def answers(predictor: Predictor, row: dict[str, float]) -> None:
    assert_type(predictor.predict(row), Any)
    assert_type(predictor.predict_proba([row, row]), Any)
    assert_type(predictor(np.zeros((2, 3))), Any)
    assert_type(predictor.run({"x": np.zeros((1, 3), np.float32)}, ["y"]), dict[str, Any])
    assert_type(predictor.warm_up(), Calibration)


async def awaits(predictor: Predictor, row: dict[str, float]) -> None:
    assert_type(await predictor.apredict(row), Any)
    assert_type(await predictor.apredict([row], method="predict_proba"), Any)


def closes(path: Path) -> None:
    with infersdk.load(path, execution=Execution(threads=1, release_gil=True)) as predictor:
        assert_type(predictor, Predictor)
    predictor.close()


def converts(fitted: object) -> None:
    artifact = infersdk.convert(fitted, opset=18)
    assert_type(artifact, Artifact)
    assert_type(artifact.save("churn.onnx"), str)
    assert_type(Artifact.open("churn.onnx", verify=True), Artifact)


def refuses(predictor: Predictor) -> tuple[str | None, int | None]:
    try:
        predictor.predict({})
    except InputError as error:
        return error.field, error.row
    except ParityError as error:
        raise ValueError(str(error)) from error
    return None, None


def reads(report: ParityReport, signature: Signature, plan: Plan) -> None:
    assert_type(report.passed, bool)
    assert_type(report.max_abs_error, float)
    assert_type([method.label_flips for method in report.methods], list[int | None])
    assert_type([item.name for item in signature.fields], list[str])
    if plan.kind == "native":
        assert_type(plan.reason, str)


def is_told(fitted: object, predictor: Predictor) -> None:
    infersdk.load(fitted, None)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    infersdk.load(fitted, on_mismatch="ignore")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Execution(2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Execution(threads="2")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    predictor.plan.kind = "onnx"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


@infersdk.batched
def lengths(texts: list[str]) -> list[int]:
    return [len(text) for text in texts]


@infersdk.batched(max_batch_size=8, instances=2, timeout_s=1.0)
def squares(numbers: Sequence[float]) -> tuple[float, ...]:
    return tuple(number**2 for number in numbers)


class Encoder:
    @infersdk.batched(name="encoder")
    def embed(self, texts: list[str]) -> list[bytes]:
        return [text.encode() for text in texts]


async def batches(encoder: Encoder) -> None:
    assert_type(lengths("one"), int)
    assert_type(await lengths.acall("one", timeout_s=1, priority=2), int)
    assert_type(lengths.many(["one", "two"]), list[int])
    assert_type(squares(2.0), float)
    assert_type(encoder.embed("one"), bytes)
    assert_type(await encoder.embed.acall("one"), bytes)
    assert_type(encoder.embed.queue_stats(), dict[str, int])
    lengths(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    lengths("one", "two")  # type: ignore[call-arg, arg-type]  # pyright: ignore[reportCallIssue]
