"""Spark ML: fitted PipelineModels and single models.

The fitted stages are read through Spark's gateway and written in float64, so that what is served needs neither
Spark nor Java. The example is a pandas DataFrame with the columns that the first stages read
(``df.limit(500).toPandas()``); a model without a pipeline takes the vector itself, as an array.

``predict`` gives the ``prediction`` column, ``predict_proba`` the ``probability`` and ``raw_prediction`` the
``rawPrediction`` column; a pipeline that predicts nothing has ``transform``, its last column.

Written here
    StringIndexer, OneHotEncoder, VectorAssembler, StandardScaler, MinMaxScaler, MaxAbsScaler, Imputer,
    Bucketizer over all numbers, Binarizer, PCA; logistic, linear and generalized linear regression, linear SVC, decision trees,
    random forests, gradient-boosted trees, naive Bayes (multinomial, Gaussian), k-means, multilayer
    perceptrons; IndexToString behind a prediction.
Left to Spark (native plan)
    everything else, and ``thresholds=``. Every worker then starts a Java virtual machine, and an answer is a
    Spark job of about half a second: write an own step in place of such a stage.

What ``handleInvalid="error"`` refuses in Spark is refused when rows are bound. ``"skip"`` drops rows there, so
such a row is refused here too: an answer has as many rows as the question. ``"keep"`` keeps them.
Without Java there is nothing to read a tree with: models are converted where Spark runs.

Tested with Spark 4.3 on Java 17 and 25.
"""

from __future__ import annotations

import threading
import warnings
import weakref
from dataclasses import replace
from typing import Any

import numpy as np

from infersdk.convert.plain_tables import as_frame, as_matrix, field_of, packed
from infersdk.convert.plain_tables import edge_rows as rows_around
from infersdk.convert.registry import Written
from infersdk.convert.sklearn_graph import BATCH, Column, Columns, GraphBuilder
from infersdk.convert.spark_stages import (
    Stages,
    inputs_of,
    is_predictor,
    outputs_of,
    refuses,
    stages_of,
)
from infersdk.errors import UnsupportedModelError
from infersdk.types import Field, Labels, Method, Signature, TensorSpec

__all__ = [
    "EXTRA",
    "FRAMEWORK",
    "call",
    "can_convert",
    "edge_rows",
    "infer_signature",
    "reference",
    "to_onnx",
]

FRAMEWORK = "Spark ML"
EXTRA = "spark"

_VECTOR_READERS = frozenset(
    {"MaxAbsScalerModel", "MinMaxScalerModel", "PCAModel", "StandardScalerModel"}
)
_COLUMN_OF = {
    "predict": "predictionCol",
    "predict_proba": "probabilityCol",
    "raw_prediction": "rawPredictionCol",
}
_TENSOR_OF = {"predict_proba": "probability", "raw_prediction": "rawPrediction"}


def can_convert(model: Any) -> bool:
    """Whether ``model`` is a fitted model or a transformer of ``pyspark.ml``."""
    return any(
        cls.__module__.startswith("pyspark.ml.") and cls.__name__ in ("Model", "Transformer")
        for cls in type(model).__mro__
    )


def infer_signature(model: Any, example: Any = None) -> Signature:
    """Describe the columns of the first stages and the answers of the last.

    Parameters
    ----------
    model : pyspark.ml.PipelineModel or another fitted model
    example : pandas.DataFrame or array, optional
        Tells the columns' dtypes.

    Returns
    -------
    Signature

    Raises
    ------
    UnsupportedModelError
        The example is a DataFrame of Spark, or lacks a column.
    """
    if type(example).__module__.startswith("pyspark."):
        raise UnsupportedModelError(
            "Expected the example as a pandas DataFrame, got one of Spark. Pass "
            "df.limit(500).toPandas()"
        )
    stages = stages_of(model)
    needed = _needed(stages)
    vector = _vector(stages, needed)
    if vector is not None:
        matrix = as_matrix(example)
        width = _width(stages) or (0 if matrix is None else matrix.shape[1])
        if not width:
            raise UnsupportedModelError("Pass an example, an array of rows: its width is not known")
        fields = tuple(Field(f"x{index}", "float", "used") for index in range(width))
        fields, inputs = packed(fields, numbers="features")
    else:
        fields, inputs = packed(_fields(stages, needed, as_frame(example)))
    methods, outputs = _methods(stages)
    return Signature(
        inputs=inputs,
        outputs=outputs,
        methods=methods,
        fields=fields,
        container="dataframe" if vector is None else "array",
    )


def to_onnx(
    model: Any, signature: Signature, *, example: Any = None, opset: int | None = None
) -> Written:
    """Write all stages as one graph.

    Parameters
    ----------
    model : pyspark.ml model
        Only read.
    signature : Signature
        From :func:`infer_signature`.
    example : optional
        Not needed.
    opset : int, optional
        18 by default.

    Returns
    -------
    Written

    Raises
    ------
    UnsupportedModelError
        A stage has no exact form.
    """
    builder = GraphBuilder(opset)
    _, answers = _written(model, signature, builder)
    for spec in signature.outputs:
        assert isinstance(spec, TensorSpec)
        if spec.name not in answers:
            continue
        shape = tuple(BATCH if size is None else size for size in spec.shape or ())
        builder.output(spec.name, answers[spec.name], spec.dtype, shape)
    notes = []
    if any(refuses(stage) == "skip" for stage in stages_of(model)):
        notes.append('rows that handleInvalid="skip" would drop are refused')
    return Written(builder.build(type(model).__name__), tuple(notes))


def call(model: Any, method: str, rows: Any) -> Any:
    """Run Spark itself on the rows.

    Parameters
    ----------
    model : pyspark.ml model
    method : {"predict", "predict_proba", "raw_prediction", "transform"}
    rows : pandas.DataFrame or ndarray

    Returns
    -------
    ndarray of float64, int64 or object
    """
    return _asked(model, (method,), rows)[method]


def reference(model: Any, method: str, rows: Any) -> Any:
    """As :func:`call`, for the proof: the methods, asked one after another, share a Spark job."""
    methods = tuple(item.name for item in _methods(stages_of(model))[0])
    with _latest_lock:
        if not (_latest and _latest[0]() is model and _latest[1]() is rows):
            answers = _asked(model, methods, rows)
            _latest[:] = [weakref.ref(model), weakref.ref(rows), answers]
        return _latest[2][method]


_latest: list[Any] = []
_latest_lock = threading.Lock()


def _asked(model: Any, methods: tuple[str, ...], rows: Any) -> dict[str, Any]:
    """What Spark answers to several methods at once."""
    from pyspark.sql import SparkSession

    stages = stages_of(model)
    needed = _needed(stages)
    vector = _vector(stages, needed)
    session = SparkSession.getActiveSession() or SparkSession.builder.getOrCreate()
    if vector is not None:
        from pyspark.ml.linalg import Vectors as Linalg
        from pyspark.ml.linalg import VectorUDT
        from pyspark.sql.types import StructField, StructType

        schema = StructType([StructField(vector, VectorUDT(), False)])
        matrix = np.asarray(rows, np.float64)
        data: Any = [(Linalg.dense(row.tolist()),) for row in matrix]
    else:
        used = [name for name in rows.columns if name in needed] or list(rows.columns)
        schema, data = _spark_rows(rows[used])
    with warnings.catch_warnings():
        # That pandas 3 and missing PyArrow are not all that Spark wishes for.
        warnings.simplefilter("ignore")
        frame = session.createDataFrame(data, schema)
        columns = [_answer_column(stages, method) for method in methods]
        collected = model.transform(frame).select(*columns).collect()
    return {m: _array([row[i] for row in collected]) for i, m in enumerate(methods)}


def _array(values: list[Any]) -> np.ndarray:
    if values and hasattr(values[0], "toArray"):
        return np.array([value.toArray() for value in values], np.float64)
    answer = np.array(values)
    return answer.astype(object) if answer.dtype.kind == "U" else answer


def edge_rows(
    model: Any, signature: Signature, example: Any, *, n_rows: int, rng: np.random.Generator
) -> Any:
    """Rows on both sides of the splits of trees and buckets, and far outside of the example.

    Parameters
    ----------
    model : pyspark.ml model
    signature : Signature
    example : pandas.DataFrame, array or None
    n_rows : int
        A third of it is used: each answer is a Spark job.
    rng : numpy.random.Generator

    Returns
    -------
    DataFrame or ndarray of float64
    """
    specials: dict[str, list[float]] = {item.name: [] for item in signature.fields}
    try:
        written, _ = _written(model, signature, GraphBuilder())
    except UnsupportedModelError:
        written = None
    names = {(item.input, item.column): item.name for item in signature.fields}
    for columns, tree in written.thresholds if written is not None else ():
        for index, limit, members in zip(tree.column, tree.threshold, tree.members, strict=True):
            column = columns[index]
            if column.value.is_input and members is None:
                specials[names[column.value.name, column.index]].append(limit)
    for stage in stages_of(model):
        if type(stage).__name__ == "Bucketizer":
            splits = stage.getSplits() if stage.isSet(stage.splits) else ()
            for name in inputs_of(stage):
                specials.setdefault(name, []).extend(float(s) for s in splits)
    made = rows_around(signature, example, n_rows=max(n_rows // 3, 1), rng=rng, specials=specials)
    kinds = [s.getModelType() for s in stages_of(model) if type(s).__name__ == "NaiveBayesModel"]
    if "multinomial" in kinds:
        # Of counts; Spark refuses negative ones.
        numbers = [item.name for item in signature.fields if item.dtype in ("float", "int")]
        if signature.container == "array":
            return np.abs(made)
        made[numbers] = made[numbers].abs()
    return made


# ---- what goes in


def _needed(stages: list[Any]) -> list[str]:
    """Columns that no stage makes, in the order in which they are read."""
    made: set[str] = set()
    needed: list[str] = []
    for stage in stages:
        needed += [n for n in inputs_of(stage) if n not in made and n not in needed]
        made.update(outputs_of(stage))
    return needed


def _vector(stages: list[Any], needed: list[str]) -> str | None:
    """The one column that rows are, where the first stage reads a vector."""
    if len(needed) != 1:
        return None
    reader = next(stage for stage in stages if needed[0] in inputs_of(stage))
    is_vector = is_predictor(reader) or type(reader).__name__ in _VECTOR_READERS
    return needed[0] if is_vector else None


def _width(stages: list[Any]) -> int:
    """How many numbers the vector has, as far as the stages say."""
    first = stages[0]
    for name in ("mean", "std", "originalMin", "maxAbs"):
        if hasattr(first, name):
            return len(getattr(first, name).toArray())
    if hasattr(first, "pc"):
        return int(first.pc.numRows)
    if type(first).__name__ == "KMeansModel":
        return len(first.clusterCenters()[0])
    return int(getattr(first, "numFeatures", 0))


def _fields(stages: list[Any], needed: list[str], frame: Any) -> tuple[Field, ...]:
    if frame is not None and not needed:
        needed = [str(name) for name in frame.columns]
    if frame is not None and not set(needed) <= set(frame.columns):
        raise UnsupportedModelError(
            f"Expected the columns {', '.join(needed)} in the example, got "
            f"{', '.join(map(str, frame.columns))}"
        )
    fields = []
    for name in needed:
        if frame is not None:
            item = field_of(frame[name], name)
        else:
            readers = [type(s).__name__ for s in stages if name in inputs_of(s)]
            is_text = "StringIndexerModel" in readers
            item = Field(name, "string" if is_text else "float", "used")
        fields.append(_with_rules(item, stages))
    if frame is not None:
        known = {item.name for item in fields}
        fields += [Field(str(n), "string", None) for n in frame.columns if n not in known]
    return tuple(fields)


def _with_rules(item: Field, stages: list[Any]) -> Field:
    """What the stages that read a column do about missing and unknown values."""
    for stage in stages:
        if item.name not in inputs_of(stage):
            continue
        kind, rule = type(stage).__name__, refuses(stage)
        if kind == "StringIndexerModel":
            labels = stage.labelsArray[inputs_of(stage).index(item.name)]
            values: tuple[Any, ...] = tuple(labels)
            if item.dtype != "string":
                # Spark turns numbers into text to index them.
                number: Any = int if item.dtype == "int" else float
                if item.dtype == "bool":
                    return replace(item, unknown="refuse", categories=(False, True))
                values = tuple(number(float(label)) for label in labels)
            item = replace(item, categories=values, unknown="allow" if rule == "keep" else "refuse")
            if rule == "keep" and item.dtype == "string":
                item = replace(item, missing="empty")
        elif kind == "OneHotEncoderModel" and rule != "keep":
            size = int(stage.categorySizes[inputs_of(stage).index(item.name)])
            item = replace(item, categories=tuple(range(size)), unknown="refuse")
        elif kind == "ImputerModel" and item.dtype != "string":
            if np.isnan(float(stage.getMissingValue())):
                item = replace(item, missing="nan")
        elif kind in ("Bucketizer", "VectorAssembler", "OneHotEncoderModel") and rule == "keep":
            item = replace(item, missing="nan")
    if item.dtype == "float":
        item = replace(item, infinity="allow")
    return item


def _spark_rows(frame: Any) -> tuple[Any, list[tuple[Any, ...]]]:
    """The schema and the rows of a pandas DataFrame; missing text is null."""
    from pyspark.sql.types import (
        BooleanType,
        DoubleType,
        LongType,
        StringType,
        StructField,
        StructType,
    )

    kinds = {
        "float": DoubleType(),
        "int": LongType(),
        "bool": BooleanType(),
        "string": StringType(),
    }
    parts, columns = [], []
    for name in frame.columns:
        kind = field_of(frame[name], name).dtype
        parts.append(StructField(str(name), kinds[kind], True))
        values = frame[name].tolist()
        if kind in ("string", "bool"):
            values = [None if value is None or value != value else value for value in values]
        columns.append([float(v) for v in values] if kind == "float" else values)
    return StructType(parts), list(zip(*columns, strict=True))


# ---- what comes out


def _predictor(stages: list[Any]) -> Any:
    found = [stage for stage in stages if is_predictor(stage)]
    if len(found) > 1:
        raise UnsupportedModelError(
            f"Expected one predictor in the pipeline, got {', '.join(type(s).__name__ for s in found)}"
        )
    return found[0] if found else None


def _namer(stages: list[Any]) -> Any:
    """The IndexToString that names the classes of the prediction, if there is one at the end."""
    predictor, last = _predictor(stages), stages[-1]
    if predictor is None or type(last).__name__ != "IndexToString" or not last.getLabels():
        return None
    return last if last.getInputCol() == predictor.getPredictionCol() else None


def _answer_column(stages: list[Any], method: str) -> str:
    if method == "transform":
        return outputs_of(stages[-1])[-1]
    namer = _namer(stages)
    if method == "predict" and namer is not None:
        return str(namer.getOutputCol())
    predictor = _predictor(stages)
    return str(predictor.getOrDefault(_COLUMN_OF[method]))


def _methods(stages: list[Any]) -> tuple[tuple[Method, ...], tuple[TensorSpec, ...]]:
    predictor = _predictor(stages)
    if predictor is None:
        if not outputs_of(stages[-1]):
            raise UnsupportedModelError(
                f"Spark's {type(stages[-1]).__name__} neither predicts nor names its output column"
            )
        spec = TensorSpec("transformed", "float64", (BATCH, None))
        return (Method("transform", ("transformed",), dtype="float64"),), (spec,)
    n_classes = int(getattr(predictor, "numClasses", 0) or 0)
    if type(predictor).__name__ == "KMeansModel":
        method = Method("predict", ("cluster",), dtype="int64", shape=())
        return (method,), (TensorSpec("cluster", "int64", (BATCH,)),)
    if not n_classes:
        method = Method("predict", ("prediction",), dtype="float64", shape=())
        return (method,), (TensorSpec("prediction", "float64", (BATCH, 1)),)
    namer = _namer(stages)
    labels = Labels(tuple(float(index) for index in range(n_classes)), "float64")
    if namer is not None:
        labels = Labels(tuple(namer.getLabels()[:n_classes]), "object")
    methods = [Method("predict", ("label",), form="labels", labels=labels)]
    outputs = [TensorSpec("label", "int64", (BATCH,))]
    counts = type(predictor).__name__ == "DecisionTreeClassificationModel"
    for name, tensor in _TENSOR_OF.items():
        has = predictor.hasParam(_COLUMN_OF[name]) and predictor.getOrDefault(_COLUMN_OF[name])
        # A single tree's raw prediction counts training rows, which nobody asks for.
        if has and not (counts and name == "raw_prediction"):
            methods.append(Method(name, (tensor,), dtype="float64", shape=(n_classes,)))
            outputs.append(TensorSpec(tensor, "float64", (BATCH, n_classes)))
    return tuple(methods), tuple(outputs)


def _written(
    model: Any, signature: Signature, builder: GraphBuilder
) -> tuple[Stages, dict[str, str]]:
    """All stages, and the tensors of the answers by output name."""
    stages = stages_of(model)
    values = {}
    for spec in signature.inputs:
        assert isinstance(spec, TensorSpec)
        shape = tuple(BATCH if size is None else size for size in spec.shape or ())
        values[spec.name] = builder.input(spec.name, spec.dtype, shape)
    columns: dict[str, Columns] = {}
    vector = _vector(stages, _needed(stages))
    if vector is not None:
        columns[vector] = tuple(
            Column(values[item.input or ""], item.column) for item in signature.fields
        )
    else:
        for item in signature.fields:
            if item.input is not None:
                whole = item.dtype in ("int", "bool")
                columns[item.name] = (Column(values[item.input], item.column, whole=whole),)
    writer = Stages(builder, columns)
    answers: dict[str, str] = {}
    namer = _namer(stages)
    for stage in stages:
        if stage is namer:
            continue
        found = writer.write(stage)
        if found is not None:
            answers = found.tensors
    if not answers:
        name = outputs_of(stages[-1])[-1]
        answers = {"transformed": writer.writer.numbers(writer.columns[name])}
    return writer, answers
