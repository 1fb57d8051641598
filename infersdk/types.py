"""What a model takes and gives, and what we know about a conversion: plain, frozen, JSON-able data.

Siblings meet through these types; nothing here imports a framework or compiled code.

A model has two faces. Its **values** (:class:`TensorSpec` and the sequence, map and optional kinds)
are what the ONNX graph takes and gives. Its **fields** and **methods** are what the source framework's
user sees: columns of a row going in, ``predict`` or ``predict_proba`` coming out. A :class:`Signature`
holds both, so that a row can be bound and an answer given without the framework.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

__all__ = [
    "Dim",
    "Field",
    "Labels",
    "MapSpec",
    "Method",
    "MethodParity",
    "MethodPrecision",
    "OptionalSpec",
    "ParityReport",
    "Plan",
    "PlanPart",
    "PrecisionReport",
    "SequenceSpec",
    "Signature",
    "Step",
    "TensorSpec",
    "ValueSpec",
    "value_spec_from_json",
]

Dim = int | str | None
"""One axis of a shape: a size, the name of a dynamic axis, or None for an unnamed dynamic axis."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A tensor the graph takes or gives.

    Parameters
    ----------
    name : str
        The value's name in the graph.
    dtype : str
        ``"string"``, or the name of a numpy or ml_dtypes dtype (``"float32"``, ``"bfloat16"``).
    shape : tuple of (int, str or None), or None
        One entry per axis; None instead of a tuple when even the rank is unknown.
    """

    name: str
    dtype: str
    shape: tuple[Dim, ...] | None

    def __str__(self) -> str:
        return f"{self.dtype} {_shape_text(self.shape)}"

    def to_json(self) -> dict[str, Any]:
        shape = None if self.shape is None else list(self.shape)
        return {"kind": "tensor", "name": self.name, "dtype": self.dtype, "shape": shape}


@dataclass(frozen=True, slots=True)
class SequenceSpec:
    """A sequence of values of one kind; ``element.name`` is empty."""

    name: str
    element: ValueSpec

    def __str__(self) -> str:
        return f"sequence of {self.element}"

    def to_json(self) -> dict[str, Any]:
        return {"kind": "sequence", "name": self.name, "element": self.element.to_json()}


@dataclass(frozen=True, slots=True)
class MapSpec:
    """A map from keys of dtype ``key`` (``"int64"`` or ``"string"``) to values."""

    name: str
    key: str
    value: ValueSpec

    def __str__(self) -> str:
        return f"map of {self.key} to {self.value}"

    def to_json(self) -> dict[str, Any]:
        return {"kind": "map", "name": self.name, "key": self.key, "value": self.value.to_json()}


@dataclass(frozen=True, slots=True)
class OptionalSpec:
    """A value that may be absent (Python's None)."""

    name: str
    element: ValueSpec

    def __str__(self) -> str:
        return f"optional {self.element}"

    def to_json(self) -> dict[str, Any]:
        return {"kind": "optional", "name": self.name, "element": self.element.to_json()}


ValueSpec = TensorSpec | SequenceSpec | MapSpec | OptionalSpec


def value_spec_from_json(data: Mapping[str, Any]) -> ValueSpec:
    """Rebuild a value's spec from ``to_json()``.

    Raises
    ------
    ValueError
        The kind is unknown.
    """
    kind = data["kind"]
    if kind == "tensor":
        shape = data["shape"]
        return TensorSpec(data["name"], data["dtype"], None if shape is None else tuple(shape))
    if kind == "sequence":
        return SequenceSpec(data["name"], value_spec_from_json(data["element"]))
    if kind == "map":
        return MapSpec(data["name"], data["key"], value_spec_from_json(data["value"]))
    if kind == "optional":
        return OptionalSpec(data["name"], value_spec_from_json(data["element"]))
    raise ValueError(f"Expected kind tensor, sequence, map or optional, got {kind!r}")


@dataclass(frozen=True, slots=True)
class Field:
    """One column of a row, and the place in the model's inputs that it fills.

    Parameters
    ----------
    name : str
        The key of a dict row, the column of a DataFrame.
    dtype : {"float", "int", "bool", "string"}
        What the app passes. "float" takes any real number, "int" any whole one, "bool" True and
        False, "string" text.
    input : str or None
        The model input that takes the column. None: the model never reads it; a row may hold it or not.
    column : int
        Column index within that input, whose shape is (n_rows, n_columns).
    missing : {"refuse", "nan", "empty"}
        What None, NaN and pandas.NA do: refuse the row, or become NaN (numbers) or "" (strings).
    infinity : {"refuse", "allow"}
        Whether a "float" field takes infinity; the other dtypes never do.
    categories : tuple, optional
        The values seen in training, where the model knows them.
    unknown : {"allow", "refuse"}
        Whether a value outside ``categories`` is passed on or refused.
    encoding : {"value", "code"}
        "code": the model takes the value's index in ``categories`` (float NaN when missing, and -1
        when unknown and allowed).
    source_dtype : str or None
        The column's dtype in the training data, to rebuild it for the source framework.
    """

    name: str
    dtype: Literal["float", "int", "bool", "string"]
    input: str | None
    column: int = 0
    missing: Literal["refuse", "nan", "empty"] = "refuse"
    infinity: Literal["refuse", "allow"] = "refuse"
    categories: tuple[str | int | float | bool, ...] | None = None
    unknown: Literal["allow", "refuse"] = "allow"
    encoding: Literal["value", "code"] = "value"
    source_dtype: str | None = None

    def to_json(self) -> dict[str, Any]:
        data = asdict(self)
        if self.categories is not None:
            data["categories"] = list(self.categories)
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Field:
        values = dict(data)
        if values.get("categories") is not None:
            values["categories"] = tuple(values["categories"])
        return cls(**values)


@dataclass(frozen=True, slots=True)
class Labels:
    """The classes of a classifier, in the order of the graph's class indices."""

    values: tuple[str | int | float | bool, ...]
    dtype: str
    """numpy dtype of the answer, e.g. ``"int64"``, ``"object"``, ``"<U10"``, ``"bool"``."""

    def to_json(self) -> dict[str, Any]:
        return {"values": list(self.values), "dtype": self.dtype}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Labels:
        return cls(tuple(data["values"]), data["dtype"])


@dataclass(frozen=True, slots=True)
class Method:
    """One method of the source model, and how graph outputs become its answer.

    Parameters
    ----------
    name : str
        The source model's own method: ``"predict"``, ``"predict_proba"``, ``"__call__"``, ...
    outputs : tuple of str
        The graph outputs the answer is made of; one, except for "tuple", "list" and "dict".
    form : {"array", "labels", "sparse", "tuple", "list", "dict"}
        "array": the output cast to ``dtype`` and reshaped to (n_rows, *shape) where ``shape`` is given.
        "labels": the output is an int64 class index into ``labels``. "sparse": as "array", then a
        scipy CSR matrix. "tuple", "list", "dict": one element per output, dicts under ``keys``.
    dtype : str, optional
        numpy dtype of the answer; None leaves what the graph gives.
    shape : tuple of int, optional
        Shape after the batch axis; ``()`` makes (n_rows, 1) flat. None leaves what the graph gives.
    labels : Labels, optional
        For "labels".
    keys : tuple of str, optional
        For "dict".
    head : str
        Methods of one head are computed together; other heads cost nothing. A graph whose methods need
        different work (probabilities, raw scores) has one head for each.
    """

    name: str
    outputs: tuple[str, ...]
    form: Literal["array", "labels", "sparse", "tuple", "list", "dict"] = "array"
    dtype: str | None = None
    shape: tuple[int, ...] | None = None
    labels: Labels | None = None
    keys: tuple[str, ...] | None = None
    head: str = "main"

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "outputs": list(self.outputs),
            "form": self.form,
            "dtype": self.dtype,
            "shape": None if self.shape is None else list(self.shape),
            "labels": None if self.labels is None else self.labels.to_json(),
            "keys": None if self.keys is None else list(self.keys),
            "head": self.head,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Method:
        return cls(
            name=data["name"],
            outputs=tuple(data["outputs"]),
            form=data["form"],
            dtype=data["dtype"],
            shape=None if data["shape"] is None else tuple(data["shape"]),
            labels=None if data["labels"] is None else Labels.from_json(data["labels"]),
            keys=None if data["keys"] is None else tuple(data["keys"]),
            head=data["head"],
        )


@dataclass(frozen=True, slots=True)
class Step:
    """Something done to rows in the caller's thread before the graph runs; it fills inputs of the graph.

    Parameters
    ----------
    name : str
        Unique in its signature; for "source" the name of the part of the source model that is called.
    kind : {"tokenize", "source"}
        "tokenize": texts become token ids, by the tokenizer in the artifact's document ``tokenizer``.
        "source": a part of the source model, one without an ONNX form, is called in its framework.
    outputs : tuple of str
        The inputs of the graph that it fills.
    method : str, optional
        For "source": what is asked of the part, a method's name or ``"label"``, the index of the class
        that its ``predict`` gives.
    columns : tuple of int, optional
        For "source": the fields that the part reads, by position; None for all of them.
    tensors : tuple of str
        For "source": outputs of the graph that the part reads instead of fields; what they need of the
        graph runs first.
    flat : bool
        For "source": whether the part takes its only column as a vector.
    pad : tuple of (str, str, float)
        Axis name, input name and fill value: what rows of several lengths may be filled up with so that
        they share a run.
    """

    name: str
    kind: Literal["tokenize", "source"]
    outputs: tuple[str, ...]
    method: str | None = None
    columns: tuple[int, ...] | None = None
    tensors: tuple[str, ...] = ()
    flat: bool = False
    pad: tuple[tuple[str, str, float], ...] = ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Step:
        return cls(
            name=data["name"],
            kind=data["kind"],
            outputs=tuple(data["outputs"]),
            method=data["method"],
            columns=None if data["columns"] is None else tuple(data["columns"]),
            tensors=tuple(data["tensors"]),
            flat=data["flat"],
            pad=tuple((axis, name, value) for axis, name, value in data["pad"]),
        )


@dataclass(frozen=True, slots=True)
class Signature:
    """What a model takes and gives, in the graph's terms and in its user's.

    Parameters
    ----------
    inputs, outputs : tuple of ValueSpec
        The graph's values, in its order. Empty under the native plan of a model without a graph.
    methods : tuple of Method
        What the source model's user calls; the first is the Predictor's ``__call__``.
    fields : tuple of Field
        The columns of a row, for tabular models; empty for models over tensors.
    container : {"dataframe", "array", "text", "dicts", "tensors"}
        What the source model itself takes: a DataFrame with the fields as columns, a 2-D float64 array
        with one column per field, a list of str, a list of dicts of any keys, or the tensors of
        ``inputs``.
    steps : tuple of Step
        What fills those of the ``inputs`` that rows do not fill directly, in order.
    """

    inputs: tuple[ValueSpec, ...]
    outputs: tuple[ValueSpec, ...]
    methods: tuple[Method, ...]
    fields: tuple[Field, ...] = ()
    container: Literal["dataframe", "array", "text", "dicts", "tensors"] = "tensors"
    steps: tuple[Step, ...] = ()

    def method(self, name: str) -> Method | None:
        """Return the method of that name, or None."""
        for method in self.methods:
            if method.name == name:
                return method
        return None

    def to_json(self) -> dict[str, Any]:
        return {
            "inputs": [value.to_json() for value in self.inputs],
            "outputs": [value.to_json() for value in self.outputs],
            "methods": [method.to_json() for method in self.methods],
            "fields": [item.to_json() for item in self.fields],
            "container": self.container,
            "steps": [step.to_json() for step in self.steps],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Signature:
        return cls(
            inputs=tuple(value_spec_from_json(item) for item in data["inputs"]),
            outputs=tuple(value_spec_from_json(item) for item in data["outputs"]),
            methods=tuple(Method.from_json(item) for item in data["methods"]),
            fields=tuple(Field.from_json(item) for item in data["fields"]),
            container=data["container"],
            steps=tuple(Step.from_json(item) for item in data.get("steps", ())),
        )


@dataclass(frozen=True, slots=True)
class PlanPart:
    """Where one part of a model runs, for models made of parts.

    Parameters
    ----------
    path : str
        Where in the model it stands, e.g. ``"prepare.text"``.
    kind : str
        Its type's name.
    runs : {"onnx", "source"}
        In the graph, or in its own framework.
    reason : str
        Why it is not in the graph, and what to change; empty for parts that are.
    """

    path: str
    kind: str
    runs: Literal["onnx", "source"]
    reason: str = ""

    def __str__(self) -> str:
        text = f"{self.path} ({self.kind}): {self.runs}"
        return f"{text}: {self.reason}" if self.reason else text


@dataclass(frozen=True, slots=True)
class Plan:
    """How a model is served, and why.

    Parameters
    ----------
    kind : {"onnx", "hybrid", "native"}
        "onnx": the whole model runs in ONNX Runtime. "hybrid": parts of it run in their own framework,
        in the caller's thread, and the rest in ONNX Runtime. "native": the model runs as it is, in its
        own framework, behind the same Predictor.
    reason : str
        One sentence.
    notes : tuple of str
        What was repaired or noticed on the way.
    parts : tuple of PlanPart
        What became of each part, for models made of parts.
    """

    kind: Literal["onnx", "hybrid", "native"]
    reason: str
    notes: tuple[str, ...] = ()
    parts: tuple[PlanPart, ...] = ()

    def __str__(self) -> str:
        lines = [f"{self.kind}: {self.reason}"]
        lines += (f"  {part}" for part in self.parts if part.runs == "source")
        lines += (f"  - {note}" for note in self.notes)
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "reason": self.reason,
            "notes": list(self.notes),
            "parts": [asdict(part) for part in self.parts],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Plan:
        return cls(
            data["kind"],
            data["reason"],
            tuple(data["notes"]),
            tuple(PlanPart(**part) for part in data.get("parts", ())),
        )


@dataclass(frozen=True, slots=True)
class MethodParity:
    """The comparison of one method's answers.

    Errors are taken over all rows and outputs. ``label_flips`` counts rows whose discrete answer
    (class, cluster, inlier or outlier) differs; None for methods with continuous answers.
    """

    method: str
    max_abs_error: float
    max_rel_error: float
    label_flips: int | None
    mismatched_rows: int
    passed: bool
    message: str = ""


@dataclass(frozen=True, slots=True)
class ParityReport:
    """Proof that a converted model answers as its source does.

    Parameters
    ----------
    n_example_rows : int
        Rows compared that the user gave.
    n_edge_rows : int
        Rows compared that were synthesised around split thresholds and category edges.
    methods : tuple of MethodParity
        One comparison per method.
    rtol, atol : float
        A number agrees when abs(ours - theirs) <= atol + rtol * abs(theirs).
    """

    n_example_rows: int
    n_edge_rows: int
    methods: tuple[MethodParity, ...]
    rtol: float
    atol: float
    notes: tuple[str, ...] = field(default=())

    @property
    def passed(self) -> bool:
        """Whether every method agrees."""
        return all(method.passed for method in self.methods)

    @property
    def label_flips(self) -> int:
        """Rows whose discrete answer differs, over all methods."""
        return sum(method.label_flips or 0 for method in self.methods)

    @property
    def max_abs_error(self) -> float:
        """The largest absolute difference over all methods."""
        return max((method.max_abs_error for method in self.methods), default=0.0)

    def __str__(self) -> str:
        verdict = "equal" if self.passed else "DIFFERENT"
        lines = [
            f"parity: {verdict} on {self.n_example_rows} example and {self.n_edge_rows} edge rows "
            f"(rtol {self.rtol:g}, atol {self.atol:g})"
        ]
        for method in self.methods:
            flips = "-" if method.label_flips is None else str(method.label_flips)
            lines.append(
                f"  {method.method:<18} max abs error {method.max_abs_error:.2e}  "
                f"max rel error {method.max_rel_error:.2e}  label flips {flips}"
                + (f"  {method.message}" if method.message else "")
            )
        lines.extend(f"  - {note}" for note in self.notes)
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ParityReport:
        values = dict(data)
        values["methods"] = tuple(MethodParity(**item) for item in values["methods"])
        values["notes"] = tuple(values["notes"])
        return cls(**values)


@dataclass(frozen=True, slots=True)
class MethodPrecision:
    """How far one method's answers moved, as a share.

    ``measure`` says what ``drop`` is: "labels", the share of rows with another label; "r2", 1 - R² of the
    answers as estimates of those in full precision; "scores", the larger of 1 - R² and the share of rows
    in which another column is the largest. ``label_flips`` counts the rows of these shares.
    """

    method: str
    measure: Literal["labels", "r2", "scores"]
    drop: float
    max_abs_error: float
    label_flips: int | None


@dataclass(frozen=True, slots=True)
class PrecisionReport:
    """A model in fewer bits beside the same model in full precision: size, speed and accuracy.

    Parameters
    ----------
    precision : {"fp16", "int8", "int4"}
    recipe : str
        How its bits were reduced.
    n_rows : int
        Example rows on which the two were compared.
    max_drop : float
        The largest drop that was allowed.
    methods : tuple of MethodPrecision
    size_bytes, full_size_bytes : int
        Of the whole model file, in fewer bits and in full precision.
    run_rows : tuple of int
        The numbers of rows that were timed.
    run_s, full_run_s : tuple of float
        Seconds of the fastest run of that many rows on one thread, the two models in turn.
    notes : tuple of str
    """

    precision: Literal["fp16", "int8", "int4"]
    recipe: str
    n_rows: int
    max_drop: float
    methods: tuple[MethodPrecision, ...]
    size_bytes: int
    full_size_bytes: int
    run_rows: tuple[int, ...]
    run_s: tuple[float, ...]
    full_run_s: tuple[float, ...]
    notes: tuple[str, ...] = ()

    @property
    def drop(self) -> float:
        """The largest drop over all methods."""
        return max((method.drop for method in self.methods), default=0.0)

    @property
    def passed(self) -> bool:
        """Whether no method's answers moved further than was allowed."""
        return self.drop <= self.max_drop

    @property
    def is_slower(self) -> bool:
        """Whether a run takes longer than in full precision by more than a tenth, for one row or for some."""
        pairs = zip(self.run_s, self.full_run_s, strict=True)
        return any(ours > 1.1 * full for ours, full in pairs)

    def __str__(self) -> str:
        verdict = "within" if self.passed else "BEYOND"
        lines = [
            f"precision: {self.precision} ({self.recipe}), compared on {self.n_rows} rows: the drop of "
            f"{self.drop:.4g} is {verdict} max_drop={self.max_drop:g}",
            f"  {'':<18}{'full':>14}{self.precision:>14}{'ratio':>9}",
            f"  {'size, bytes':<18}{self.full_size_bytes:>14,}{self.size_bytes:>14,}"
            f"{self.size_bytes / self.full_size_bytes:>8.2f}x",
        ]
        for n_rows, ours, full in zip(self.run_rows, self.run_s, self.full_run_s, strict=True):
            label = f"{n_rows} row{'s' * (n_rows != 1)}, us"
            lines.append(
                f"  {label:<18}{full * 1e6:>14,.1f}{ours * 1e6:>14,.1f}{ours / full:>8.2f}x"
            )
        for method in self.methods:
            flips = "-" if method.label_flips is None else str(method.label_flips)
            lines.append(
                f"  {method.method:<18} drop {method.drop:.4g} ({method.measure})  "
                f"max abs error {method.max_abs_error:.2e}  label flips {flips}"
            )
        lines.extend(f"  - {note}" for note in self.notes)
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> PrecisionReport:
        values = dict(data)
        values["methods"] = tuple(MethodPrecision(**item) for item in values["methods"])
        for key in ("run_rows", "run_s", "full_run_s", "notes"):
            values[key] = tuple(values[key])
        return cls(**values)


def _shape_text(shape: tuple[Dim, ...] | None) -> str:
    if shape is None:
        return "of any shape"
    inner = ", ".join("?" if dim is None else str(dim) for dim in shape)
    return f"({inner},)" if len(shape) == 1 else f"({inner})"
