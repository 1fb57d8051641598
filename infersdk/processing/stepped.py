"""Rows to the inputs of a graph that has steps in front of it.

A graph's inputs are filled either by the fields of a row, as `binding.Binder` does, or by a step: a tokenizer,
or a part of the source model that has no ONNX form. Steps run in the caller's thread, each once a call; those
that a head's graph does not read are not run for it. A part that stands in the middle of a model reads tensors of
the graph: what they need of the graph is a **stage**, a session of its own, and runs first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infersdk._native import Bound, Session
from infersdk.artifact import Artifact
from infersdk.binding import SourceBinder
from infersdk.binding.refusals import first_refusal
from infersdk.binding.table import TableBinder
from infersdk.binding.text import TextBinder
from infersdk.errors import ArtifactError, InputError
from infersdk.processing.source import SourcePart
from infersdk.types import Signature, Step, TensorSpec

__all__ = ["RowSteps", "SteppedBinder"]

OpenSession = Callable[["bytes | str"], Session]


class RowSteps:
    """The steps of one model, ready to fill the inputs of its heads.

    Safe to use from any number of threads.

    Parameters
    ----------
    artifact : Artifact
    sources : Mapping of str to object
        The parts of the source model that steps call, by the step's name.
    model : str
        The model's name in messages.
    open_session : callable
        Opens a session over what ``artifact.stage_model`` gives.

    Raises
    ------
    ArtifactError
        A step lacks what it needs.
    """

    def __init__(
        self,
        artifact: Artifact,
        sources: Mapping[str, Any],
        *,
        model: str,
        open_session: OpenSession,
    ) -> None:
        signature = artifact.signature
        self._artifact = artifact
        self._signature = signature
        self._model = model
        self._open_session = open_session
        self._stages: dict[str, Session] = {}
        self._filled_by = {name: step for step in signature.steps for name in step.outputs}
        self._functions = {step.name: self._function(step, sources) for step in signature.steps}
        read = _fields_read(signature)
        self._source = SourceBinder(signature, model=model, columns=read)
        self._places = {field: place for place, field in enumerate(read or ())}
        """Where a field stands in what the parts are given; empty where they are given all."""
        own = [spec for spec in signature.inputs if spec.name not in self._filled_by]
        self._own = [spec.name for spec in own]
        self._rows: TableBinder | TextBinder | None = None
        if own and signature.container == "text":
            self._rows = TextBinder(own, model=model)
        elif own:
            self._rows = TableBinder(signature.fields, own, model=model)

    @property
    def is_slow(self) -> bool:
        """Whether a step may take long enough to keep an event loop waiting."""
        return any(step.kind == "source" for step in self._signature.steps)

    def binder(self, head: str) -> SteppedBinder:
        """The binder of one head."""
        outputs = {
            name
            for method in self._signature.methods
            if method.head == head
            for name in method.outputs
        }
        return SteppedBinder(self, self._artifact.inputs_of(outputs))

    def close(self) -> None:
        """Close the sessions of the stages."""
        for session in self._stages.values():
            session.close()

    def refusals(self, rows: Any, limit: int) -> list[InputError]:
        """Find what is wrong with rows before any step sees them."""
        if isinstance(self._rows, TableBinder):
            errors = self._rows.refusals(rows, limit)
            if errors:
                return errors
        return self._source.refusals(rows, limit)

    def fill(self, rows: Any, names: Sequence[str]) -> Bound:
        """Bind rows to the inputs of these names, in this order."""
        given = self._source.bind(rows)
        values: dict[str, NDArray[Any]] = {}
        n_rows = len(given)
        if self._rows is not None:
            # The rows as they came: what the source model takes may hold less (a category's code).
            bound = self._rows.fast(rows) or self._rows.bind(rows)
            values.update(zip(self._own, bound.arrays, strict=True))
            n_rows = bound.n_rows
        for name in names:
            self._fill(name, given, n_rows, values)
        return Bound([values[name] for name in names], n_rows)

    def _fill(self, name: str, given: Any, n_rows: int, values: dict[str, NDArray[Any]]) -> None:
        if name in values:
            return
        step = self._filled_by[name]
        rows = given
        if step.tensors:
            rows = self._run_stage(step, given, n_rows, values)
        elif step.columns is not None:
            places = [self._places.get(field, field) for field in step.columns]
            if places != list(range(given.shape[1])):
                rows = given.iloc[:, places] if hasattr(given, "iloc") else given[:, places]
        if step.flat:
            rows = rows.iloc[:, 0] if hasattr(rows, "iloc") else rows[:, 0]
        values.update(zip(step.outputs, self._functions[step.name](rows, n_rows), strict=True))

    def _run_stage(
        self, step: Step, given: Any, n_rows: int, values: dict[str, NDArray[Any]]
    ) -> Any:
        session = self._stages.get(step.name)
        if session is None:
            # Two threads may both open one; a lock could be left taken in a forked child.
            opened = self._open_session(self._artifact.stage_model(step.tensors))
            session = self._stages.setdefault(step.name, opened)
            if session is not opened:
                opened.close()
        for spec in session.inputs:
            self._fill(spec.name, given, n_rows, values)
        answers = session.run_ordered([values[spec.name] for spec in session.inputs])
        if len(answers) == 1:
            return answers[0]
        return np.concatenate([answer.astype(object) for answer in answers], axis=1)

    def _function(
        self, step: Step, sources: Mapping[str, Any]
    ) -> Callable[[Any, int], list[NDArray[Any]]]:
        if step.kind == "source":
            if step.name not in sources:
                raise ArtifactError(
                    f"Model `{self._model}`: its part `{step.name}` runs in its own framework and is not "
                    "in the file. Save it with predictor.save(), which keeps such parts"
                )
            (output,) = step.outputs
            spec = next(spec for spec in self._signature.inputs if spec.name == output)
            assert isinstance(spec, TensorSpec)
            return SourcePart(sources[step.name], step, spec, model=self._model)
        from infersdk.processing.tokenize import Tokenize

        document = self._artifact.documents.get("tokenizer")
        if document is None:
            raise ArtifactError(f"Model `{self._model}`: its tokenizer is not in the file")
        tokenize = Tokenize(step, document, model=self._model)
        return lambda rows, n_rows: tokenize(rows)


class SteppedBinder:
    """Binds rows for one head; has the ways of :class:`infersdk.binding.Binder`."""

    __slots__ = ("_names", "_steps")

    def __init__(self, steps: RowSteps, names: Sequence[str]) -> None:
        self._steps = steps
        self._names = tuple(names)

    def fast(self, rows: Any) -> Bound | None:
        """None: there is no compiled way past the steps."""
        return None

    def general(self, rows: Any) -> Bound:
        """Bind rows of any form that the model takes."""
        return self._steps.fill(rows, self._names)

    bind = general

    def refusals(self, rows: Any, limit: int) -> list[InputError]:
        """Find every reason why rows do not fit; see :meth:`infersdk.binding.Binder.refusals`."""
        return self._steps.refusals(rows, limit) or first_refusal(self.bind, rows)


def _fields_read(signature: Signature) -> list[int] | None:
    """The fields that steps read, in order; None where some step takes them all."""
    read: set[int] = set()
    for step in signature.steps:
        if step.columns is not None:
            read.update(step.columns)
        elif not step.tensors:
            return None
    return sorted(read)
