"""The hybrid plan: parts of a scikit-learn model that stay in scikit-learn.

An estimator that has no exact ONNX form becomes an input of the graph: a step calls it in the caller's thread
and hands its answer to the graph, which holds everything else. The estimator is always the innermost one that
cannot be written, so the graph is as large as it can be. It reads the row's own columns where nothing was done
to them before, else an output of the graph.

A model of which nothing but such a part would be left is not written at all: it is served natively.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from infersdk.convert.sklearn_columns import layout_of
from infersdk.convert.sklearn_graph import BATCH, Columns
from infersdk.convert.sklearn_prune import drop_unread, names_read
from infersdk.convert.sklearn_structure import has_names, named_parts
from infersdk.convert.sklearn_writer import Kind, Writer
from infersdk.errors import UnsupportedModelError
from infersdk.processing.source import METHODS, ask
from infersdk.types import PlanPart, Signature, Step, TensorSpec

__all__ = ["Parts"]

_MOST_PARTS = 8
"""With more calls of scikit-learn than this, one call of the whole model is as good."""

_WIDEST = 2**16
"""Columns of a part's answer, which is handed over as a dense matrix."""


class Parts:
    """Collects the parts of one model that stay in scikit-learn while its graph is written.

    Parameters
    ----------
    model : sklearn.base.BaseEstimator
    signature : Signature
        The model's, without steps.
    example : rows, optional
    distrusts_others : bool
        Leave to scikit-learn too what sklearn-onnx or a registered function would write.
    """

    def __init__(
        self, model: Any, signature: Signature, example: Any, *, distrusts_others: bool = False
    ) -> None:
        self.distrusts_others = distrusts_others
        self.used_others = False
        self.accepts_more = True
        """Whether another estimator may become a part, or only those that are one already."""
        self._model = model
        self._signature = signature
        self._example = example
        self._paths = {id(part): path for path, part in named_parts(model)}
        self._positions: dict[tuple[int, int], int] = {}
        self._kept: list[Any] = []
        self._steps: list[Step] = []
        self._specs: dict[str, TensorSpec] = {}
        self._stages: list[TensorSpec] = []
        self._reasons: dict[int, str] = {}
        self.sources: dict[str, Any] = {}

    def rows_enter(self, columns: Columns) -> None:
        """Note which columns are the rows' own."""
        self._kept.append(columns)
        for position, column in enumerate(columns):
            self._positions[id(column.value), column.index] = position

    def leave(
        self,
        writer: Writer,
        kind: Kind,
        estimator: Any,
        columns: Columns,
        error: UnsupportedModelError,
    ) -> Any:
        """Make an estimator a part; returned is what its writer would have returned.

        Raises
        ------
        UnsupportedModelError
            It cannot be one; the error that came, or why.
        """
        known = id(estimator) in self._reasons
        path = self._paths.get(id(estimator))
        if kind not in METHODS or path is None or not (known or self.accepts_more):
            raise error
        if estimator is self._model:
            # All of it, and so nothing would be left for the graph.
            raise error
        if len(self._steps) >= _MOST_PARTS:
            raise error
        name = f"{path}.{METHODS[kind]}" if kind != "label" else f"{path}.label"
        taken = {step.name for step in self._steps}
        while name in taken:
            name += "_"
        step = Step(name, "source", (name,), method=kind)
        step, stage, spec = self._described(step, writer, estimator, columns, error)
        self._reasons.setdefault(id(estimator), str(error))
        if stage is not None:
            tensor, output = stage
            shape = tuple(BATCH if size is None else size for size in output.shape or ())
            writer.builder.output(output.name, tensor, output.dtype, shape)
            self._stages.append(output)
        self._steps.append(step)
        self._specs[name] = spec
        self.sources[name] = estimator
        shape = tuple(BATCH if size is None else size for size in spec.shape or ())
        value = writer.builder.input(name, spec.dtype, shape)
        return value.columns() if kind == "transform" else value.name

    def _described(
        self,
        step: Step,
        writer: Writer,
        estimator: Any,
        columns: Columns,
        error: UnsupportedModelError,
    ) -> tuple[Step, tuple[str, TensorSpec] | None, TensorSpec]:
        """What a part reads and gives."""
        positions = [self._positions.get((id(c.value), c.index)) for c in columns]
        own = [position for position in positions if position is not None]
        stage = None
        if len(own) == len(columns) and not any(column.replaced for column in columns):
            rows = self._own_rows(own, error)
            if own != list(range(len(self._signature.fields))) and self._signature.fields:
                step = replace(step, columns=tuple(own))
        else:
            dtype = "string" if all(column.is_text for column in columns) else "float64"
            if dtype == "float64" and any(column.is_text for column in columns):
                raise error
            tensor = writer.builder.matrix(columns, dtype)
            stage = (tensor, TensorSpec(f"{step.name}.rows", dtype, (None, len(columns))))
            step = replace(step, tensors=(stage[1].name,))
            rows = np.zeros((2, len(columns)))
            if dtype == "string":
                rows = np.full((2, len(columns)), "a", dtype=object)
        answer = _asked(estimator, step, rows)
        if answer is None and len(columns) == 1 and not isinstance(rows, list):
            # A text vectorizer reads one column as a vector.
            step = replace(step, flat=True)
            answer = _asked(estimator, step, rows)
        if answer is None or (answer.ndim == 2 and answer.shape[1] > _WIDEST):
            raise error
        dtype = "string" if answer.dtype == object else str(answer.dtype)
        return step, stage, TensorSpec(step.name, dtype, (None, *answer.shape[1:]))

    def _own_rows(self, positions: list[int], error: UnsupportedModelError) -> Any:
        """Two rows of the columns that a part reads, in the model's container."""
        container = self._signature.container
        if container == "text":
            return ["some words", "some words"]
        if container == "dicts":
            return layout_of(self._model, self._example).probe
        names = [field.name for field in self._signature.fields]
        numbered = names == [f"x{index}" for index in range(len(names))]
        if container == "dataframe" and numbered and not has_names(self._model):
            # The model knows its columns by number only; a frame of some of them tells less.
            raise error
        rows = layout_of(self._model, self._example).probe
        if rows is None:
            raise error
        return rows.iloc[:, positions] if hasattr(rows, "iloc") else rows[:, positions]

    def finish(self, graph: Any) -> tuple[Signature, tuple[PlanPart, ...]]:
        """Drop the parts that the finished graph does not read; describe the rest.

        Raises
        ------
        UnsupportedModelError
            The graph would only hand on what a part answers.
        """
        methods = {name for method in self._signature.methods for name in method.outputs}
        while True:
            read = names_read(graph.node)
            unread = [step for step in self._steps if step.name not in read]
            for step in unread:
                self._steps.remove(step)
                del self.sources[step.name]
            wanted = methods.union(*(step.tensors for step in self._steps))
            if not unread:
                break
            _keep(graph.output, wanted)
            drop_unread(graph)
        filled = {step.name for step in self._steps}
        own = {spec.name for spec in self._signature.inputs}
        _keep(graph.input, own | filled)
        if self._steps and all(node.op_type == "Identity" for node in graph.node):
            raise UnsupportedModelError(next(iter(self._reasons.values())))
        left = {id(part) for part in self.sources.values()}
        signature = replace(
            self._signature,
            inputs=(*self._signature.inputs, *(self._specs[step.name] for step in self._steps)),
            outputs=_in_order(graph, (*self._signature.outputs, *self._stages)),
            steps=tuple(self._steps),
        )
        return signature, tuple(self._plan_parts(left))

    def _plan_parts(self, left: set[int]) -> Iterator[PlanPart]:
        for path, part in named_parts(self._model):
            kind = type(part).__name__
            if id(part) in left:
                yield PlanPart(path, kind, "source", self._reasons[id(part)])
            elif part is not self._model and not any(
                other.startswith(f"{path}.") for other in self._paths.values()
            ):
                yield PlanPart(path, kind, "onnx")


def _asked(estimator: Any, step: Step, rows: Any) -> Any:
    """What a part answers to two rows; None where it does not."""
    assert step.method is not None
    if step.flat:
        rows = rows.iloc[:, 0] if hasattr(rows, "iloc") else rows[:, 0]
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            answer = ask(estimator, step.method, rows)
    except Exception:  # whatever a part raises, it is no part then
        return None
    return answer if len(answer) == 2 else None


def _keep(values: Any, names: set[str]) -> None:
    kept = [value for value in values if value.name in names]
    del values[:]
    values.extend(kept)


def _in_order(graph: Any, specs: tuple[Any, ...]) -> tuple[Any, ...]:
    """The specs of the graph's outputs in its order; those of methods that were not written stay."""
    by_name = {spec.name: spec for spec in specs}
    written = [by_name.pop(value.name) for value in graph.output]
    stages = {spec.name for spec in specs if spec.name.endswith(".rows")}
    return (*written, *(spec for name, spec in by_name.items() if name not in stages))
