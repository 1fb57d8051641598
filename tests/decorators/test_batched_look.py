"""What others see of a batched function: its signature, its models, its report."""

from __future__ import annotations

import functools
import inspect
import pydoc
import typing
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal, Optional

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import infersdk
from infersdk import Predictor
from infersdk.decorators import BatchedReport


def untyped(items):
    return items


def texts_as_text(texts: list[str]) -> Sequence[float]:
    """Lengths."""
    return [float(len(text)) for text in texts]


def only_for_type_checkers(rows: list[NoSuchName]) -> typing.List[NoSuchName[int]]:  # type: ignore[name-defined]  # noqa: F821, UP006
    return rows


def an_array(rows: tuple[dict[str, float], ...]) -> np.ndarray:
    return np.zeros(len(rows))


def no_container(rows: Optional[list[str]]) -> Literal["x"]:  # noqa: UP045
    return "x"


# With annotations that are objects, as without `from __future__ import annotations`.
def evaluated(function: Any) -> Any:
    function.__annotations__ = typing.get_type_hints(function, include_extras=True)
    return function


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (untyped, "(items, /, *, {options})"),
        (texts_as_text, "(texts: 'str', /, *, {options}) -> 'float'"),
        (only_for_type_checkers, "(rows: 'NoSuchName', /, *, {options}) -> 'NoSuchName[int]'"),
        (an_array, "(rows: 'dict[str, float]', /, *, {options})"),
        (no_container, "(rows, /, *, {options})"),
        (lambda *lists, scale=2: lists[0], "(lists, /, *, {options})"),
    ],
)
def test_the_signature_is_one_of_an_item(function: Any, expected: str) -> None:
    options = "timeout_s: float | None = None, priority: int = 0"
    batched = infersdk.batched(function)
    assert str(inspect.signature(batched)) == expected.format(options=options)


def test_annotations_that_are_objects() -> None:
    @infersdk.batched
    @evaluated
    def embed(texts: list[str]) -> tuple[list[float], ...]:
        return tuple([float(len(text))] for text in texts)

    @infersdk.batched
    @evaluated
    def noted(texts: Annotated[list[str], "note"]) -> int | float:
        return 1

    signature = inspect.signature(embed)
    assert signature.parameters["texts"].annotation is str
    assert signature.return_annotation == list[float]
    assert typing.get_type_hints(embed) == {
        "texts": str,
        "timeout_s": float | None,
        "priority": int,
        "return": list[float],
    }
    signature = inspect.signature(noted)
    assert signature.parameters["texts"].annotation is inspect.Parameter.empty
    assert signature.return_annotation is inspect.Signature.empty


class Encoder:
    @infersdk.batched
    def embed(self, texts: list[str]) -> list[int]:
        """How long."""
        return [len(text) for text in texts]

    @infersdk.batched
    async def aembed(self, texts: list[str]) -> list[int]:
        return [len(text) for text in texts]


def test_methods() -> None:
    encoder = Encoder()
    for on_class, bound in ((Encoder.embed, encoder.embed), (Encoder.aembed, encoder.aembed)):
        assert [*inspect.signature(on_class).parameters][:2] == ["self", "texts"]
        parameters = inspect.signature(bound).parameters
        assert [*parameters] == ["texts", "timeout_s", "priority"]
        assert parameters["texts"].annotation == "str"
    assert "How long." in pydoc.render_doc(Encoder)


def test_what_does_not_say_what_it_takes() -> None:
    batched = infersdk.batched(functools.partial(map, str))
    with pytest.raises(ValueError, match="signature"):
        inspect.signature(batched)


@pytest.fixture(scope="module")
def predictor() -> Iterator[Predictor]:
    node = helper.make_node("Neg", ["x"], ["y"])
    infos = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n"]) for n in ("x", "y")]
    graph = helper.make_graph([node], "neg", infos[:1], infos[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    assert isinstance(model, onnx.ModelProto)
    with infersdk.load(model, name="neg") as opened:
        yield opened


_of_the_module: Any = None


@infersdk.batched
def reads_a_global(rows: list[Any]) -> list[Any]:
    return [_of_the_module(row) for row in rows]


def test_the_predictors_it_reads(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    assert reads_a_global.predictors == {}
    monkeypatch.setattr(f"{__name__}._of_the_module", predictor)
    assert reads_a_global.predictors == {"_of_the_module": predictor}

    @infersdk.batched
    async def reads_its_closure(
        rows: list[Any], also: Any = predictor, *, named: Any = 1
    ) -> list[Any]:
        return [predictor(row) for row in rows]

    assert reads_its_closure.predictors == {"predictor": predictor, "also": predictor}
    assert infersdk.batched(functools.partial(reads_its_closure.function)).predictors
    assert Encoder().embed.predictors == {}
    assert infersdk.batched(sorted).predictors == {}

    class Reads:
        def __call__(self, rows: list[Any]) -> list[Any]:
            return [predictor(row) for row in rows]

    assert infersdk.batched(Reads()).predictors == {"predictor": predictor}
    with pytest.raises(TypeError):
        reads_its_closure.predictors["x"] = predictor  # type: ignore[index]
    later: Any

    @infersdk.batched
    def reads_what_is_not_there(rows: list[Any]) -> list[Any]:
        return [later(row) for row in rows]

    assert reads_what_is_not_there.predictors == {}
    later = predictor
    assert reads_what_is_not_there.predictors == {"later": predictor}


def test_a_report() -> None:
    @infersdk.batched(name="lengths")
    def lengths(texts: list[str]) -> list[int]:
        return [len(text) for text in texts]

    assert lengths("one") == 3
    report = lengths.report()
    assert isinstance(report, BatchedReport)
    assert str(report) == "`lengths`: 1 call answered at once"
    assert report.mean_batch == 0
    with pytest.raises(AttributeError):
        report.items = 3  # type: ignore[misc]


def test_a_report_as_text() -> None:
    report = BatchedReport(
        name="embed",
        calls_at_once=1200,
        batches=3,
        items=10,
        largest_batch=6,
        refused=2,
        expired=0,
        cancelled=1,
        failed=0,
        waiting=1,
        running=2,
    )
    assert str(report).splitlines() == [
        "`embed`: 1,200 calls answered at once",
        "10 items in 3 batches, 3.3 each, the largest of 6",
        "2 refused, 1 cancelled",
        "now: 2 running, 1 item waiting",
    ]
