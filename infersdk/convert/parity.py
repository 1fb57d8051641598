"""Proving that a converted model answers as its source does.

Two lots of rows are compared: the example that the user gave (sampled where it is long), and edge rows
that the converter makes up around split thresholds and category edges, where a conversion is most likely
to go wrong. The converted model is asked exactly as a Predictor asks it: rows are bound by
``binding.Binder``, run by ``_native.Session`` and answered by ``binding.answer``. ``compare`` has the rule
by which answers agree.

What is strict and why:

- A single disagreeing row fails a method. There is no share of wrong answers that goes unsaid.
- A discrete answer (class, cluster, inlier) must be equal. It counts as a flip even where the source's
  own two best scores are within the tolerance of each other; the message then says so, since the class
  on either side of such a tie is arbitrary, but it still is another answer than before.
- Some rows are also sent alone. ONNX Runtime takes other paths for one row than for many, and a
  Predictor puts rows of different callers into one batch.

What is left out is said in the report's notes: edge rows that the source model itself refuses, and rows
for which there was no time.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from infersdk._native import Session
from infersdk.artifact import Artifact
from infersdk.binding import Binder, answer, to_source
from infersdk.convert import rows as row_access
from infersdk.convert.compare import Comparison, Leaf, compare, leaves, scales
from infersdk.convert.registry import Converter
from infersdk.errors import ArtifactError, InputError, SessionError
from infersdk.processing import RowSteps, SteppedBinder
from infersdk.types import Method, MethodParity, ParityReport, Signature, TensorSpec

__all__ = ["Converted", "check", "in_source_form"]

logger = logging.getLogger("infersdk")

Watch = Callable[[str, list[Leaf], list[Leaf], int], None]

TOLERANCE = (1e-4, 1e-5)
"""rtol and atol of float32 and wider models."""

HALF_TOLERANCE = (1e-2, 1e-2)
"""rtol and atol of models that take or give float16 or bfloat16, which have 3 and 2 digits."""

_CHUNK_ROWS = 512
_CHUNK_TEXTS = 32
"""All are filled up to the longest, and what a transformer needs of memory grows with its square."""
_CHUNK_BYTES = 16 * 2**20
_ALONE_ROWS = 16
_BISECTIONS = 64


@dataclass(slots=True)
class _Lot:
    """Rows of one kind, and both models' answers to them, chunk by chunk."""

    part: str
    rows: Any
    chunks: list[_Chunk] = field(default_factory=list)

    @property
    def n_rows(self) -> int:
        return sum(chunk.n_rows for chunk in self.chunks)


@dataclass(slots=True)
class _Chunk:
    """Answers to neighboring rows, by method."""

    first: int
    n_rows: int
    rows: Any
    ours: dict[str, list[Leaf]]
    theirs: dict[str, list[Leaf]]


def check(
    artifact: Artifact,
    model: Any,
    converter: Converter,
    example: Any = None,
    *,
    sources: Mapping[str, Any] | None = None,
    open_session: Callable[[], Any] | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    max_example_rows: int = 2000,
    max_edge_rows: int = 1000,
    max_seconds: float = 30.0,
    rng: np.random.Generator | None = None,
    clock: Callable[[], float] = time.monotonic,
    watch: Watch | None = None,
) -> ParityReport | None:
    """Compare a converted model with its source, method by method.

    Parameters
    ----------
    artifact : Artifact
        The converted model.
    model : object
        The source model.
    converter : Converter
        Asks the source model and makes up edge rows.
    example : rows, optional
        Anything a Predictor takes: a DataFrame, an array, a list of dicts, tensors, ...
    sources : Mapping of str to object, optional
        The parts of the source model that steps before the graph call, by the step's name.
    open_session : callable, optional
        Opens what is asked in place of a session on the artifact; ``Written.open_session``.
    rtol, atol : float, optional
        Relative and absolute tolerance of continuous answers, by default 1e-4 and 1e-5, and 1e-2 both
        for models over float16 or bfloat16. ``atol`` grows with the size of the answers as the module
        ``compare`` describes.
    max_example_rows, max_edge_rows : int
        The most rows to compare.
    max_seconds : float
        The comparison stops after the chunk of rows that reaches this time; at least one chunk of
        each kind is compared.
    rng : numpy.random.Generator, optional
        Samples the example and makes up edge rows; seeded with 0 by default.
    clock : callable
        Seconds, for `max_seconds`.
    watch : callable, optional
        Is told of every lot of rows that was compared: the method, our answer, theirs, how many rows.

    Returns
    -------
    ParityReport or None
        None when there are no rows to compare: no example, and no edge rows that both sides take.

    Raises
    ------
    InputError
        The source model itself, or its signature, refuses the example.
    """
    rng = np.random.default_rng(0) if rng is None else rng
    signature = artifact.signature
    default = HALF_TOLERANCE if _is_half(signature) else TOLERANCE
    rtol = default[0] if rtol is None else rtol
    atol = default[1] if atol is None else atol
    notes: list[str] = []

    lots: list[_Lot] = []
    if example is not None:
        if hasattr(example, "toarray"):
            example = _sample(example.tocsr(), signature, max_example_rows, rng, notes).toarray()
        given = in_source_form(signature, example)
        lots.append(_Lot("example", _sample(given, signature, max_example_rows, rng, notes)))
    edges = converter.edge_rows(model, signature, example, n_rows=max_edge_rows, rng=rng)
    if edges is not None and row_access.count(edges):
        lots.append(_Lot("edge", edges))
    if not lots:
        return None

    source = _Source(model, converter, signature.methods)
    with Converted(artifact, sources or {}, open_session) as converted:
        deadline = clock() + max_seconds
        for lot in lots:
            _answer_lot(lot, signature, source, converted, notes, deadline, clock)
        lots = [lot for lot in lots if lot.chunks]
        if not lots:
            return None
        judge = _Judge(lots, signature.methods, rtol, atol, notes)
        judge.compare_batches(source.failures)
        if watch is not None:
            for chunk in (chunk for lot in lots for chunk in lot.chunks):
                for name, theirs in chunk.theirs.items():
                    watch(name, chunk.ours[name], theirs, chunk.n_rows)
        judge.compare_alone(converted, source, signature)
    judge.explain(source)
    return ParityReport(
        n_example_rows=sum(lot.n_rows for lot in lots if lot.part == "example"),
        n_edge_rows=sum(lot.n_rows for lot in lots if lot.part == "edge"),
        methods=tuple(judge.verdict(method) for method in signature.methods),
        rtol=rtol,
        atol=atol,
        notes=tuple(dict.fromkeys(notes)),
    )


class Converted:
    """The artifact, asked as a Predictor asks it; sessions are opened head by head."""

    def __init__(
        self,
        artifact: Artifact,
        sources: Mapping[str, Any],
        open_session: Callable[[], Any] | None = None,
    ) -> None:
        self._artifact = artifact
        self._open_session = open_session
        self._name = artifact.name or "model"
        self._sessions: dict[str, Session] = {}
        self._steps: RowSteps | None = None
        try:
            if artifact.signature.steps:
                self._steps = RowSteps(artifact, sources, model=self._name, open_session=self._open)
                self._binders: dict[str, Binder | SteppedBinder] = {
                    head: self._steps.binder(head) for head in artifact.heads
                }
            else:
                binder = Binder(artifact.signature, model=self._name)
                self._binders = dict.fromkeys(artifact.heads, binder)
        except ValueError as exc:
            raise ArtifactError(f"The signature of `{self._name}` is of no use: {exc}") from exc

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        for session in self._sessions.values():
            session.close()
        self._sessions.clear()
        if self._steps is not None:
            self._steps.close()

    def ask(self, rows: Any) -> dict[str, list[Leaf]]:
        """Answer every method, as leaves.

        Raises
        ------
        InputError
            The signature refuses a row.
        """
        answers = {}
        bound, bound_by = None, None
        for head, binder in self._binders.items():
            if bound is None or binder is not bound_by:
                bound, bound_by = binder.bind(rows), binder
            session = self._session(head)
            values = session.run_ordered(bound.arrays)
            named = dict(zip((spec.name for spec in session.outputs), values, strict=True))
            for method in self._artifact.signature.methods:
                if method.head == head:
                    outputs = [named[name] for name in method.outputs]
                    answers[method.name] = leaves(
                        answer(method, outputs, bound.n_rows, torch=bound.torch)
                    )
        return answers

    def inputs(self, rows: Any) -> tuple[Session, list[Any]]:
        """Return the first method's session, and what it is run on for these rows."""
        head = self._artifact.heads[0]
        return self._session(head), list(self._binders[head].bind(rows).arrays)

    def _session(self, head: str) -> Session:
        session = self._sessions.get(head)
        if session is None:
            if self._open_session is not None:
                session = self._open_session()
            else:
                session = self._open(self._artifact.session_model(head))
            self._sessions[head] = session
        return session

    def _open(self, model: bytes | str) -> Session:
        folder = self._artifact.external_folder if isinstance(model, bytes) else None
        return Session(model, name=self._name, external_folder=folder)


class _Source:
    """The source model, asked through its converter."""

    def __init__(self, model: Any, converter: Converter, methods: Sequence[Method]) -> None:
        self._model = model
        # A converter may answer for the proof otherwise than in service: on the CPU, in float32.
        self._answer = getattr(converter, "reference", converter.call)
        self._methods = methods
        self.failures: dict[str, str] = {}
        """Why a method other than the first could not be asked."""

    def ask(self, rows: Any, *, strict: bool = True) -> dict[str, list[Leaf]]:
        """Answer every method, as leaves.

        The first method's exceptions are the caller's to judge, and with ``strict=False`` those of
        every method. Otherwise another method's failure is remembered and the method left out.
        """
        answers = {}
        for position, method in enumerate(self._methods):
            if method.name in self.failures:
                continue
            try:
                answers[method.name] = leaves(self._answer(self._model, method.name, rows))
            except Exception as exc:  # user's and frameworks' code: any exception is possible
                if position == 0 or not strict:
                    raise
                self.failures[method.name] = _sentence(exc)
        return answers


class _Judge:
    """Collects what differs, and passes the verdict on each method."""

    def __init__(
        self,
        lots: list[_Lot],
        methods: Sequence[Method],
        rtol: float,
        atol: float,
        notes: list[str],
    ) -> None:
        self._lots = lots
        self._methods = methods
        self._rtol = rtol
        self._atol = atol
        self._notes = notes
        self._found = {method.name: Comparison() for method in methods}
        self._remarks: dict[str, list[str]] = {method.name: [] for method in methods}
        self._scales: dict[str, list[Any]] = {}

    def compare_batches(self, failures: Mapping[str, str]) -> None:
        for name, found in self._found.items():
            if name in failures:
                found.problems.append(f"the source model itself cannot answer: {failures[name]}")
                continue
            chunks = [(lot.part, chunk) for lot in self._lots for chunk in lot.chunks]
            # The user's own rows say how large the answers are; made-up rows only where there are none.
            scale_of = [chunk for part, chunk in chunks if part == chunks[0][0]]
            self._scales[name] = scales([chunk.theirs[name] for chunk in scale_of])
            for part, chunk in chunks:
                compare(
                    found,
                    chunk.ours[name],
                    chunk.theirs[name],
                    rtol=self._rtol,
                    atol=self._atol,
                    scale=self._scales[name],
                    n_rows=chunk.n_rows,
                    part=part,
                    first_row=chunk.first,
                )
            if found.eased:
                widest = max(float(np.max(scale)) for scale in self._scales[name])
                self._notes.append(
                    f"{name}: {found.eased} numbers agree only because atol grows with the size of the "
                    f"answers, here to {self._atol * widest:.3g}"
                )

    def compare_alone(self, converted: Converted, source: _Source, signature: Signature) -> None:
        """Send some rows alone: each must be answered as in its batch."""
        lot = self._lots[0]
        if lot.n_rows < 2 or not row_access.can_split(lot.rows, signature):
            return
        chunk = lot.chunks[0]
        picked = np.unique(np.linspace(0, chunk.n_rows - 1, _ALONE_ROWS).astype(np.int64))
        open_names = {name for name in self._scales if not self._found[name].problems}
        for index in picked.tolist():
            alone = row_access.take(chunk.rows, np.array([index], dtype=np.int64))
            row = chunk.first + index
            try:
                ours = converted.ask(_as_one_row(signature, alone))
            except InputError as exc:
                for found in self._found.values():
                    found.report(lot.part, [row], f"{lot.part} row {row} is refused alone: {exc}")
                return
            theirs: dict[str, list[Leaf]] | None = None
            for name in sorted(open_names):
                in_batch = _row_of(chunk.ours[name], index, chunk.n_rows)
                if in_batch is not None and signature.steps:
                    in_batch = _cut_back(in_batch, ours[name])
                if in_batch is None or self._agrees(name, ours[name], in_batch):
                    continue
                # Perhaps the source itself answers a row alone otherwise than among others.
                theirs = source.ask(alone) if theirs is None else theirs
                if self._agrees(name, ours[name], theirs.get(name, [])):
                    open_names.discard(name)
                    self._notes.append(
                        f"{name}: the source model's answer to a row depends on the other rows of its "
                        "batch; do not batch rows of different requests"
                    )
                    continue
                compare(
                    self._found[name],
                    ours[name],
                    in_batch,
                    rtol=self._rtol,
                    atol=self._atol,
                    scale=self._scales[name],
                    n_rows=1,
                    part=lot.part,
                    first_row=row,
                    remark=" when it comes alone",
                )

    def explain(self, source: _Source) -> None:
        """Say what is known about why methods failed."""
        for name, found in self._found.items():
            if not found.problems or name not in self._scales:
                continue
            chunk = self._lots[0].chunks[0]
            again = source.ask(chunk.rows).get(name, [])
            if not self._agrees(name, again, chunk.theirs[name], chunk.n_rows):
                self._remarks[name].append(
                    "the source model answers the same rows differently each time"
                )
            tied = self._tied_flips(found)
            if tied:
                self._remarks[name].append(
                    f"in {tied} of these rows the source's own two best scores are within the tolerance"
                )

    def verdict(self, method: Method) -> MethodParity:
        found = self._found[method.name]
        # One example of what differs is enough; the counts say how much does.
        sentences = [*found.problems[:1], *self._remarks[method.name]]
        return MethodParity(
            method=method.name,
            max_abs_error=found.max_abs_error,
            max_rel_error=found.max_rel_error,
            label_flips=found.flips,
            mismatched_rows=len(found.rows),
            passed=not found.problems,
            message="; ".join(sentences),
        )

    def _agrees(self, name: str, ours: list[Leaf], theirs: list[Leaf], n_rows: int = 1) -> bool:
        return compare(
            Comparison(),
            ours,
            theirs,
            rtol=self._rtol,
            atol=self._atol,
            scale=self._scales[name],
            n_rows=n_rows,
            part="",
        )

    def _tied_flips(self, found: Comparison) -> int:
        """Flipped rows in which the source's two best scores are as good as equal."""
        tied = 0
        for lot in self._lots:
            for chunk in lot.chunks:
                margins = _margins(chunk)
                if margins is None:
                    continue
                rows = [row - chunk.first for part, row in found.flipped if part == lot.part]
                tied += sum(
                    bool(margins[row] <= self._atol) for row in rows if 0 <= row < chunk.n_rows
                )
        return tied


def _answer_lot(
    lot: _Lot,
    signature: Signature,
    source: _Source,
    converted: Converted,
    notes: list[str],
    deadline: float,
    clock: Callable[[], float],
) -> None:
    total = row_access.count(lot.rows)
    if not row_access.can_split(lot.rows, signature):
        _answer_whole(lot, lot.rows, 0, total, source, converted)
        return
    most = _CHUNK_TEXTS if any(item.kind == "tokenize" for item in signature.steps) else _CHUNK_ROWS
    step = int(np.clip(_CHUNK_BYTES // row_access.bytes_per_row(lot.rows), 1, most))
    for first in range(0, total, step):
        if first and clock() > deadline:
            notes.append(f"{first} of {total} {lot.part} rows were compared before time was up")
            return
        rows = row_access.take(lot.rows, np.arange(first, min(first + step, total)))
        if lot.part == "example":
            _answer_whole(
                lot, rows, first, len(range(first, min(first + step, total))), source, converted
            )
        else:
            _answer_edges(lot, rows, first, source, converted, notes)


def _answer_whole(
    lot: _Lot, rows: Any, first: int, n_rows: int, source: _Source, converted: Converted
) -> None:
    try:
        theirs = source.ask(rows)
    except Exception as exc:  # whatever the user's model raises
        raise InputError(
            f"The source model itself refuses the example: {_sentence(exc)}. Pass rows as the model "
            "takes them, for instance a part of its training data"
        ) from exc
    lot.chunks.append(_Chunk(first, n_rows, rows, converted.ask(rows), theirs))


def _answer_edges(
    lot: _Lot,
    rows: Any,
    first: int,
    source: _Source,
    converted: Converted,
    notes: list[str],
) -> None:
    """Answer made-up rows, leaving out those that either side refuses."""

    def theirs_of(part: Any) -> dict[str, list[Leaf]]:
        return source.ask(part, strict=False)

    n_rows = row_access.count(rows)
    try:
        lot.chunks.append(_Chunk(first, n_rows, rows, converted.ask(rows), theirs_of(rows)))
        return
    except SessionError:
        raise
    except Exception:  # some row is refused by one side; find out which
        logger.debug("edge rows from %d on are taken one by one", first, exc_info=True)
    kept = _accepted(theirs_of, rows, np.arange(n_rows), [_BISECTIONS], Exception)
    if len(kept) < n_rows:
        notes.append("the source model refuses some of the edge rows; they were left out")
    bound = _accepted(converted.ask, rows, kept, [_BISECTIONS], InputError)
    if len(bound) < len(kept):
        notes.append(
            "the signature refuses some of the edge rows that the source model answers; they were left out"
        )
    if len(bound):
        good = row_access.take(rows, bound)
        lot.chunks.append(_Chunk(first, len(bound), good, converted.ask(good), theirs_of(good)))


def _accepted(
    ask: Callable[[Any], object],
    rows: Any,
    index: NDArray[np.int64],
    budget: list[int],
    refusal: type[Exception],
) -> NDArray[np.int64]:
    """Find the rows that do not raise, halving what does; a spent budget drops what is left."""
    if not len(index) or budget[0] <= 0:
        return index[:0]
    budget[0] -= 1
    try:
        ask(row_access.take(rows, index))
    except refusal:
        if len(index) == 1:
            return index[:0]
        half = len(index) // 2
        return np.concatenate(
            [
                _accepted(ask, rows, index[:half], budget, refusal),
                _accepted(ask, rows, index[half:], budget, refusal),
            ]
        )
    return index


def _sample(
    rows: Any, signature: Signature, most: int, rng: np.random.Generator, notes: list[str]
) -> Any:
    if not row_access.can_split(rows, signature):
        return rows
    total = row_access.count(rows)
    if total == 0:
        raise InputError("Expected at least one row as the example, got none")
    if total <= most:
        return rows
    notes.append(f"{most} of the {total} example rows were sampled")
    return row_access.take(rows, np.sort(rng.choice(total, size=most, replace=False)))


def in_source_form(signature: Signature, example: Any) -> Any:
    """Return the example as the source model takes it; what it takes already stays untouched."""
    is_frame = hasattr(example, "iloc") and hasattr(example, "columns")
    ready = {
        "dataframe": is_frame,
        # A frame is put into the order of the fields first.
        "array": hasattr(example, "shape") and len(example.shape) == 2 and not is_frame,
        "text": isinstance(example, list) and all(isinstance(item, str) for item in example),
        "dicts": isinstance(example, list) and all(isinstance(item, dict) for item in example),
        "tensors": hasattr(example, "shape")
        or (isinstance(example, tuple) and all(hasattr(item, "shape") for item in example))
        or (isinstance(example, Mapping) and all(hasattr(v, "shape") for v in example.values())),
    }
    return example if ready[signature.container] else to_source(signature, example)


def _as_one_row(signature: Signature, rows: Any) -> Any:
    """Turn one row into what a web app sends: a dict, a flat list or a text; tensors stay."""
    if hasattr(rows, "to_dict"):
        return rows.to_dict("records")[0]
    if signature.container in ("array", "text", "dicts"):
        row = rows[0]
        return row.tolist() if hasattr(row, "tolist") else row
    return rows


def _row_of(answer: list[Leaf], index: int, n_rows: int) -> list[Leaf] | None:
    """One row of an answer; None where a part of it is not row by row."""
    rows = [leaf.row(index, n_rows) for leaf in answer]
    return None if None in rows else [leaf for leaf in rows if leaf is not None]


def _cut_back(in_batch: list[Leaf], alone: list[Leaf]) -> list[Leaf]:
    """Take off what a row of tokens was filled up with in its batch."""
    cut = []
    for leaf, own in zip(in_batch, alone, strict=True):
        if leaf.value.ndim == own.value.ndim and not (leaf.is_sparse or own.is_sparse):
            leaf = replace(leaf, value=leaf.value[tuple(map(slice, own.value.shape))])
        cut.append(leaf)
    return cut


def _margins(chunk: _Chunk) -> NDArray[np.float64] | None:
    """Difference of the source's two best scores in each row, where a method gives scores."""
    for name in ("predict_proba", "decision_function"):
        answers = chunk.theirs.get(name)
        if answers is None or len(answers) != 1 or answers[0].is_sparse:
            continue
        scores = np.asarray(answers[0].value, dtype=np.float64)
        if scores.ndim == 1:
            return np.abs(scores)
        if scores.ndim == 2 and scores.shape[1] > 1:
            best = np.sort(scores, axis=1)
            margins: NDArray[np.float64] = best[:, -1] - best[:, -2]
            return margins
    return None


def _is_half(signature: Signature) -> bool:
    return any(
        isinstance(spec, TensorSpec) and spec.dtype in ("float16", "bfloat16")
        for spec in (*signature.inputs, *signature.outputs)
    )


def _sentence(exc: BaseException) -> str:
    text = " ".join(str(exc).split())
    return f"{type(exc).__name__}: {text[:300]}" if text else type(exc).__name__
