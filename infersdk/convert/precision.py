"""Fewer bits, measured: a model in float16, int8 or int4 is kept only where its answers hold.

The model in full precision, which was proven against its source, is the truth here. The two answer the
same example rows; where there are 40 or more and the scales are taken from rows, every second row
calibrates and the others are compared.

How far answers move is one number per method, a ``drop`` from the full agreement of 1:

- labels (whole numbers, text, truth values): the share of rows with another answer, 1 - accuracy;
- numbers: 1 - R², R² = 1 - sum((reduced - full)²) / sum((full - mean(full))²), the sums over all rows and
  columns, the mean of each column: scikit-learn's ``r2_score(full, reduced,
  multioutput="variance_weighted")``. Noise of a tenth of the answers' own spread is a drop of 0.01;
- numbers in 2 to 1000 columns, which may be the scores of classes: the larger of 1 - R² and the share of
  rows in which another column is the largest.

The largest drop of all methods must not be above ``max_drop``.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from infersdk.artifact import Artifact
from infersdk.convert import rows as row_access
from infersdk.convert.compare import Leaf
from infersdk.convert.conversion import Conversion
from infersdk.convert.parity import Converted, in_source_form
from infersdk.convert.quantize import Feeds, Precision, Recipe, obstacle, recipes
from infersdk.errors import (
    ArtifactError,
    InputError,
    MissingDependencyError,
    PrecisionError,
    SessionError,
)
from infersdk.types import MethodPrecision, PrecisionReport, TensorSpec, ValueSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import ModelProto

__all__ = ["check_options", "reduce"]

logger = logging.getLogger("infersdk")

_MOST_ROWS = 2000
_CALIBRATION_ROWS = 256
_SPLIT_FROM_ROWS = 40
_CHUNK_ROWS = 64
_TIMED_ROWS = (1, 32)
_TIMING_S = 0.5
_MOST_SCORES = 1000
_OPEN = """
import sys
from infersdk._native import Session
from infersdk.artifact import Artifact

artifact = Artifact.open(sys.argv[1])
for head in artifact.heads or (None,):
    Session(artifact.session_model(head)).close()
"""
"""Opens the graph alone: of a hybrid model, what stays in its framework is not in the file yet."""

_NO_SCORES = ("transform", "encode", "embed")
"""Methods whose columns are features, not classes."""


def check_options(precision: str | None, example: Any, max_drop: float) -> None:
    """Refuse what cannot be meant, before the model is converted.

    Raises
    ------
    ValueError
    """
    if precision is None:
        return
    if precision not in get_args(Precision):
        raise ValueError(f"Expected precision to be 'fp16', 'int8' or 'int4', got {precision!r}")
    if isinstance(max_drop, bool) or not 0 <= max_drop <= 1:
        raise ValueError(f"Expected max_drop to be a share from 0 to 1, got {max_drop!r}")
    if example is None:
        raise ValueError(
            f"precision={precision!r} is measured on rows: pass some, best a few hundred, as example="
        )


def reduce(
    conversion: Conversion, precision: Precision, *, example: Any, max_drop: float
) -> Conversion:
    """Return a conversion in fewer bits, with ``artifact.precision`` telling what that cost and gained.

    Where there are several ways to a precision, the fastest of those within `max_drop` is taken; one whose
    rows cannot share runs only if it is faster by a fifth.

    Parameters
    ----------
    conversion : Conversion
        Of plan "onnx" or "hybrid". Left as it is.
    precision : {"fp16", "int8", "int4"}
    example : rows
        As the model takes them, best a few hundred of its training data.
    max_drop : float
        The largest drop of agreement to accept, from 0 to 1.

    Raises
    ------
    PrecisionError
        It does not apply to this model, or the trade is a bad one; ``report`` has what was measured.
    InputError
        The example does not fit the model.
    MissingDependencyError
        ONNX Runtime's Python package is not installed.
    """
    check_options(precision, example, max_drop)
    artifact = conversion.artifact
    if artifact is None:
        raise PrecisionError(
            f"{precision} does not apply: the model has no ONNX graph. {conversion.plan}"
        )
    graph = _whole_graph(artifact)
    problem = obstacle(precision, graph, artifact.size_bytes)
    if problem is not None:
        raise PrecisionError(problem)

    trial = _Trial(artifact, conversion.sources, example)
    passed: list[tuple[float, Artifact, PrecisionReport]] = []
    failed: list[PrecisionReport] = []
    failures: list[str] = []
    for recipe in recipes(precision, graph):
        try:
            reduced = _write(recipe, graph, artifact, trial.feeds())
            if recipe.may_crash:
                _survive(reduced)
            report = trial.compare(reduced, precision, recipe, max_drop)
        except InputError:
            raise
        except (ArtifactError, SessionError, PrecisionError) as exc:
            failures.append(f"{recipe.name}: {exc}")
            continue
        if not report.passed:
            failed.append(report)
        elif not _is_gain(report):
            failures.append(f"{recipe.name}: neither smaller nor faster\n{report}")
        else:
            # Rows that cannot share runs, or a risk on other machines, must be worth it.
            handicap = 1.2 if recipe.may_crash or recipe.mixes_rows else 1.0
            passed.append((handicap * report.run_s[0], reduced, report))
    if passed:
        _, reduced, report = min(passed, key=lambda item: item[0])
        return _with_report(conversion, artifact, reduced, report)
    if failed:
        best = min(failed, key=lambda report: report.drop)
        accepted = (
            f"max_drop={_rounded_up(best.drop):g} would accept it"
            if best.drop <= 1
            else "Nothing of the answers is left"
        )
        raise PrecisionError(
            f"{precision} changes the answers too much: expected a drop of at most {max_drop:g}, got "
            f"{best.drop:.4g}. {accepted}\n{best}",
            best,
        )
    raise PrecisionError(f"{precision} was of no use: {'; '.join(failures)}")


class _Trial:
    """The full model's answers to the example, beside which reduced ones are put."""

    def __init__(self, artifact: Artifact, sources: Mapping[str, Any], example: Any) -> None:
        self._artifact = artifact
        self._sources = sources
        signature = artifact.signature
        if hasattr(example, "toarray"):
            example = example.toarray()
        rows = in_source_form(signature, example)
        self._splits = row_access.can_split(rows, signature)
        total = row_access.count(rows)
        if total == 0:
            raise InputError("Expected at least one row as the example, got none")
        self._rows, self._calibration = rows, rows
        if self._splits:
            index = np.unique(np.linspace(0, total - 1, min(total, _MOST_ROWS)).astype(np.int64))
            for_scales = index
            if len(index) >= _SPLIT_FROM_ROWS:
                for_scales, index = index[::2], index[1::2]
            for_scales = for_scales[:: -(-len(for_scales) // _CALIBRATION_ROWS)]
            self._rows = row_access.take(rows, index)
            self._calibration = row_access.take(rows, for_scales)
        self._n_rows = row_access.count(self._rows)
        with Converted(artifact, sources) as full:
            self._theirs = [full.ask(part) for part in self._chunks(self._rows)]

    def feeds(self) -> Feeds:
        """What the graph is fed for the calibration rows."""
        feeds = []
        with Converted(self._artifact, self._sources) as full:
            for part in self._chunks(self._calibration):
                session, arrays = full.inputs(part)
                names = [spec.name for spec in session.inputs]
                feeds.append(
                    {name: np.asarray(array) for name, array in zip(names, arrays, strict=True)}
                )
        return feeds

    def compare(
        self, reduced: Artifact, precision: Precision, recipe: Recipe, max_drop: float
    ) -> PrecisionReport:
        """Ask and time the reduced model."""
        with (
            Converted(self._artifact, self._sources) as full,
            Converted(reduced, self._sources) as ours,
        ):
            answers = [ours.ask(part) for part in self._chunks(self._rows)]
            methods = tuple(
                _moved(
                    method.name,
                    [chunk[method.name] for chunk in answers],
                    [chunk[method.name] for chunk in self._theirs],
                    [len(index) for index in self._pieces(self._n_rows)],
                )
                for method in self._artifact.signature.methods
            )
            sizes, run_s, full_run_s = self._time(ours, full)
        report = PrecisionReport(
            precision=precision,
            recipe=recipe.name,
            n_rows=self._n_rows,
            max_drop=float(max_drop),
            methods=methods,
            size_bytes=reduced.size_bytes,
            full_size_bytes=self._artifact.size_bytes,
            run_rows=sizes,
            run_s=run_s,
            full_run_s=full_run_s,
        )
        return replace(report, notes=_notes(report, recipe))

    def _time(
        self, ours: Converted, full: Converted
    ) -> tuple[tuple[int, ...], tuple[float, ...], tuple[float, ...]]:
        """Time the fastest of runs of both models in turn, for one row and for some.

        The fastest, because other processes only ever add to a run, and on a busy machine often to the
        same one of the two.
        """
        sizes, run_s, full_run_s = [], [], []
        wanted = [n for n in _TIMED_ROWS if n <= self._n_rows] if self._splits else [self._n_rows]
        for n_rows in wanted:
            rows = self._rows
            if self._splits:
                rows = row_access.take(rows, np.arange(n_rows))
            pair = [full.inputs(rows), ours.inputs(rows)]
            for session, arrays in pair:
                session.run_ordered(arrays)
            taken: tuple[list[float], list[float]] = ([], [])
            start = time.perf_counter()
            while len(taken[0]) < 3 or (
                time.perf_counter() - start < _TIMING_S and len(taken[0]) < 1000
            ):
                for (session, arrays), seconds in zip(pair, taken, strict=True):
                    before = time.perf_counter()
                    session.run_ordered(arrays)
                    seconds.append(time.perf_counter() - before)
            sizes.append(n_rows)
            full_run_s.append(min(taken[0]))
            run_s.append(min(taken[1]))
        return tuple(sizes), tuple(run_s), tuple(full_run_s)

    def _chunks(self, rows: Any) -> list[Any]:
        if not self._splits:
            return [rows]
        return [row_access.take(rows, index) for index in self._pieces(row_access.count(rows))]

    def _pieces(self, n_rows: int) -> list[NDArray[np.int64]]:
        if not self._splits:
            return [np.arange(n_rows)]
        starts = range(0, n_rows, _CHUNK_ROWS)
        return [np.arange(start, min(start + _CHUNK_ROWS, n_rows)) for start in starts]


def _moved(
    method: str, ours: list[list[Leaf]], theirs: list[list[Leaf]], n_rows: list[int]
) -> MethodPrecision:
    """Compare the answers of one method, given in chunks of rows."""
    drop, error, flips = 0.0, 0.0, None
    measure = "r2"
    flipped = np.zeros(sum(n_rows), dtype=bool)
    for place in range(len(theirs[0])):
        mine = [_array(chunk[place]) for chunk in ours]
        full = [_array(chunk[place]) for chunk in theirs]
        if any(a.shape != b.shape for a, b in zip(mine, full, strict=True)):
            raise PrecisionError(f"{method} answers in another shape")
        by_row = all(item.shape[:1] == (n,) for item, n in zip(full, n_rows, strict=True))
        # What has no rows is one answer.
        a = np.concatenate(mine) if by_row else np.concatenate([x.reshape(1, -1) for x in mine], 1)
        b = np.concatenate(full) if by_row else np.concatenate([x.reshape(1, -1) for x in full], 1)
        a, b = a.reshape(len(a), -1), b.reshape(len(b), -1)
        if theirs[0][place].is_discrete:
            measure = "labels"
            other = (a != b).any(axis=1)
            drop = max(drop, float(other.mean()))
        else:
            drop = max(drop, 1 - _r2(a, b))
            both = np.isfinite(a) & np.isfinite(b)
            apart = np.where(both, a, 0.0) - np.where(both, b, 0.0)
            error = max(error, float(np.max(np.abs(apart), initial=0.0)))
            is_scores = by_row and full[0].ndim == 2 and 2 <= b.shape[1] <= _MOST_SCORES
            if not is_scores or method in _NO_SCORES:
                continue
            measure = "scores" if measure == "r2" else measure
            other = a.argmax(axis=1) != b.argmax(axis=1)
            drop = max(drop, float(other.mean()))
        flips = 0
        if len(other) == len(flipped):
            flipped |= other
    if flips is not None:
        flips = int(flipped.sum())
    return MethodPrecision(method, measure, drop, error, flips)  # type: ignore[arg-type]


def _array(leaf: Leaf) -> NDArray[Any]:
    value = leaf.value.toarray() if leaf.is_sparse else np.asarray(leaf.value)
    return value if leaf.is_discrete else value.astype(np.float64)


def _r2(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> float:
    """R² of all columns together; 0 where one is infinite or missing and the other is not."""
    finite = np.isfinite(theirs)
    if not (finite == np.isfinite(ours)).all():
        return 0.0
    ours, theirs = np.where(finite, ours, 0.0), np.where(finite, theirs, 0.0)
    error = float(((ours - theirs) ** 2).sum())
    spread = float(((theirs - theirs.mean(axis=0)) ** 2).sum())
    if spread == 0:  # one row, or all alike
        spread = float((theirs**2).sum())
    if spread == 0:
        return 1.0 if error == 0 else 0.0
    return 1 - error / spread


def _is_gain(report: PrecisionReport) -> bool:
    smaller = report.size_bytes < 0.95 * report.full_size_bytes
    pairs = zip(report.run_s, report.full_run_s, strict=True)
    return smaller or any(ours < 0.9 * full for ours, full in pairs)


def _notes(report: PrecisionReport, recipe: Recipe) -> tuple[str, ...]:
    notes = []
    if recipe.mixes_rows:
        notes.append(
            "the rows of a run share their scales, so rows of different callers are not put into one run"
        )
    if report.is_slower:
        slowest = max(
            ours / full for ours, full in zip(report.run_s, report.full_run_s, strict=True)
        )
        notes.append(
            f"SLOWER than full precision on this machine, by a factor of up to {slowest:.2f}"
        )
        if report.precision == "fp16":
            notes.append(
                "a CPU without float16 arithmetic computes in float32, and converts as well"
            )
    if report.size_bytes >= report.full_size_bytes:
        notes.append("LARGER than in full precision: there are few weights to reduce")
    return tuple(notes)


def _write(recipe: Recipe, graph: ModelProto, artifact: Artifact, feeds: Feeds) -> Artifact:
    try:
        reduced = recipe.write(graph, feeds)
    except ModuleNotFoundError as exc:
        raise MissingDependencyError.for_extra(
            exc.name or "onnxruntime", "quantize", f"A model in {recipe.name}"
        ) from exc
    except Exception as exc:  # the tools run over graphs that nobody has tried before
        logger.info("%s: the quantizer failed", recipe.name, exc_info=True)
        raise PrecisionError(
            f"ONNX Runtime's tool failed: {type(exc).__name__}: {str(exc)[:300]}"
        ) from exc
    signature = artifact.signature
    if recipe.mixes_rows:
        for value in (*reduced.graph.input, *reduced.graph.output):
            for dim in value.type.tensor_type.shape.dim:
                if dim.dim_param == "N":
                    dim.dim_param = "rows"
        signature = replace(
            signature,
            inputs=tuple(map(_of_mixed_rows, signature.inputs)),
            outputs=tuple(map(_of_mixed_rows, signature.outputs)),
        )
    return Artifact(
        reduced,
        signature=signature,
        plan=artifact.plan,
        parity=artifact.parity,
        provenance=artifact.provenance,
        name=artifact.name,
        documents=artifact.documents,
    )


def _survive(reduced: Artifact) -> None:
    """Load the model in another process first, which may crash.

    Raises
    ------
    PrecisionError
        That process was killed.
    """
    with tempfile.TemporaryDirectory(prefix="infersdk-") as folder:
        path = reduced.save(os.path.join(folder, "trial.onnx"))
        try:
            done = subprocess.run(
                [sys.executable, "-c", _OPEN, path],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                check=False,
            )
        except OSError:  # no interpreter to start, as in a frozen app
            logger.info("a model in fewer bits is loaded without a trial", exc_info=True)
            return
    if done.returncode < 0:
        raise PrecisionError(
            f"ONNX Runtime crashes when it loads the model (signal {-done.returncode})"
        )


def _with_report(
    conversion: Conversion, full: Artifact, reduced: Artifact, report: PrecisionReport
) -> Conversion:
    """Keep the report in the artifact, and one line of it in the plan."""
    note = (
        f"{report.precision}: {report.size_bytes / full.size_bytes:.2f} times the size, "
        f"{report.run_s[0] / report.full_run_s[0]:.2f} times the run time, answers dropped by "
        f"{report.drop:.2g} on {report.n_rows} rows"
    )
    parity = conversion.parity
    if parity is not None:
        parity = replace(parity, notes=(*parity.notes, "of the model in full precision"))
    document = {"version": 1, **report.to_json()}
    reduced = reduced.revised(
        signature=reduced.signature,
        plan=replace(full.plan, notes=(*full.plan.notes, note)),
        parity=parity,
        documents={"precision": document},
    )
    plan = replace(conversion.plan, notes=(*conversion.plan.notes, note))
    logger.info("%s", report)
    return replace(
        conversion, plan=plan, artifact=reduced, parity=parity, signature=reduced.signature
    )


def _of_mixed_rows(spec: ValueSpec) -> ValueSpec:
    """Take the name "N" from an axis: it is kept for rows that may share a run with any others."""
    if not isinstance(spec, TensorSpec) or spec.shape is None:
        return spec
    return replace(spec, shape=tuple("rows" if dim == "N" else dim for dim in spec.shape))


def _whole_graph(artifact: Artifact) -> ModelProto:
    """Read the graph with its weights."""
    import onnx

    stored = artifact.session_model()
    if isinstance(stored, bytes):
        model = onnx.ModelProto.FromString(stored)
        if artifact.external_folder is not None:
            onnx.load_external_data_for_model(model, artifact.external_folder)
    else:
        model = onnx.load(os.fspath(stored))
    kept = [item for item in model.metadata_props if not item.key.startswith("infersdk.")]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    return model


def _rounded_up(drop: float) -> float:
    """Two digits, upwards."""
    if drop <= 0:
        return 0.0
    step = 10.0 ** (np.floor(np.log10(drop)) - 1)
    return float(min(1.0, np.ceil(drop / step) * step))
