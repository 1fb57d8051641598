"""Core ML models: ``MLModel`` objects, their specifications, and ``.mlmodel`` files by path.

The specification is written anew: linear models, trees and support vector machines in float64, neural networks in
float32. Core ML itself runs on macOS only. There the conversion is compared with Core ML; elsewhere with a second
reading of the same parameters in NumPy, which the plan says.

Written here
    GLM regressors and classifiers, tree ensembles, support vector machines; pipelines of them with feature
    vectorizers, scalers, imputers, one-hot encoders, normalizers and extractors; neural networks of dense,
    convolution, pooling, normalization, activation, softmax, shape and arithmetic layers.
Refused
    ML programs (``.mlpackage``), images as input, dictionary vectorizers, nearest neighbors, recommenders, and
    Apple's own vision and text models. Convert those from the framework that they were trained in: ONNX is
    reached from there directly, and Core ML has rounded weights to float16.

``predict`` gives the class or value, ``predict_proba`` the classes' probabilities in the order of the labels; a
network that is no classifier gives a dict by output name, as ``MLModel.predict`` does. A network takes the shapes that
its specification says.

Tested with coremltools 9.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from infersdk.convert.coreml_network import Network, layers_of
from infersdk.convert.coreml_tables import Tables, classes_of, kind_of, parts_of, thresholds_of
from infersdk.convert.coreml_twin import answer_network, answer_row
from infersdk.convert.plain_tables import edge_rows as rows_around
from infersdk.convert.plain_tables import packed
from infersdk.convert.registry import Written
from infersdk.convert.sklearn_graph import BATCH, Column, Columns, GraphBuilder
from infersdk.errors import ConversionError, UnsupportedModelError
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

FRAMEWORK = "Core ML"
EXTRA = "coreml"

_NOT_COMPARED = (
    "Core ML runs on macOS only: the graph was compared with a second reading of the specification in NumPy, "
    "not with Core ML itself"
)
_NETWORKS = ("neuralNetwork", "neuralNetworkClassifier", "neuralNetworkRegressor")


def can_convert(model: Any) -> bool:
    """Whether ``model`` is an ``MLModel`` of coremltools or its specification."""
    kind = type(model)
    if kind.__module__.split(".")[0] == "coremltools":
        return hasattr(model, "get_spec")
    return kind.__name__ == "Model" and kind.__module__.endswith("Model_pb2") and _is_spec(model)


def _is_spec(model: Any) -> bool:
    return str(model.DESCRIPTOR.full_name) == "CoreML.Specification.Model"


def infer_signature(model: Any, example: Any = None) -> Signature:
    """Describe a model's features and answers.

    Parameters
    ----------
    model : coremltools.models.MLModel or its specification
    example : optional
        Not needed: a specification names its features and their types.

    Returns
    -------
    Signature

    Raises
    ------
    UnsupportedModelError
        The model cannot be written. Off macOS nothing else could answer.
    """
    spec = _spec(model)
    kind = kind_of(spec)
    if kind == "mlProgram":
        raise UnsupportedModelError(
            "An ML program cannot be read back into ONNX. Convert the model from the framework that it was "
            "trained in: pass the PyTorch module, Keras model or function itself to infersdk.load"
        )
    signature = _network_signature(spec) if kind in _NETWORKS else _table_signature(spec)
    # Not served natively where nothing could answer: better refused now than at the first call.
    if not _has_core_ml():
        to_onnx(model, signature)
    return signature


def to_onnx(
    model: Any, signature: Signature, *, example: Any = None, opset: int | None = None
) -> Written:
    """Write the specification as a graph.

    Parameters
    ----------
    model : coremltools.models.MLModel or its specification
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
        A part of it has no known form.
    """
    spec = _spec(model)
    builder = GraphBuilder(opset)
    write = _write_network if kind_of(spec) in _NETWORKS else _write_table
    answers = write(spec, signature, builder)
    for item in signature.outputs:
        assert isinstance(item, TensorSpec)
        shape = tuple(BATCH if size is None else size for size in item.shape or ())
        builder.output(item.name, answers[item.name], item.dtype, shape)
    notes = () if _has_core_ml() else (_NOT_COMPARED,)
    return Written(builder.build("coreml"), notes)


def call(model: Any, method: str, rows: Any) -> Any:
    """What Core ML itself answers, on macOS.

    Raises
    ------
    ConversionError
        Elsewhere: there is no Core ML.
    """
    if not _has_core_ml():
        raise ConversionError(
            "Core ML answers on macOS only. Serve the converted model, or convert the model from the "
            "framework that it was trained in"
        )
    import coremltools

    spec = _spec(model)
    asked = model if hasattr(model, "predict") else coremltools.models.MLModel(spec)
    if kind_of(spec) in _NETWORKS:
        return _from_network(spec, method, asked.predict(_by_name(spec, rows)))
    answers = []
    for values in _rows_by_name(spec, rows):
        given = asked.predict(values)
        answers.append(_from_row(spec, method, given))
    return np.array(answers)


def reference(model: Any, method: str, rows: Any) -> Any:
    """What the conversion is compared with: Core ML on macOS, elsewhere NumPy."""
    if _has_core_ml():
        return call(model, method, rows)
    spec = _spec(model)
    if kind_of(spec) in _NETWORKS:
        network = getattr(spec, kind_of(spec))
        blobs = answer_network(network, _by_name(spec, rows))
        if kind_of(spec) == "neuralNetworkClassifier":
            shares = blobs[_shares_of(network)].reshape(1, -1)
            labels = np.array(classes_of(network), dtype=_label_dtype(classes_of(network)))
            return (
                shares.astype(np.float32)
                if method == "predict_proba"
                else labels[np.argmax(shares, axis=1)]
            )
        return {i.name: blobs[i.name].astype(np.float32) for i in spec.description.output}
    answers = [answer_row(spec, values) for values in _rows_by_name(spec, rows)]
    if method == "predict_proba":
        return np.array([answer["probabilities"] for answer in answers])
    classes = _classes(spec)
    if classes:
        return np.array([classes[answer["label"]] for answer in answers], _label_dtype(classes))
    values = np.array([answer["prediction"] for answer in answers])
    return values[:, 0] if values.shape[1] == 1 else values


def edge_rows(
    model: Any, signature: Signature, example: Any, *, n_rows: int, rng: np.random.Generator
) -> Any | None:
    """Rows on both sides of the branches of trees, and normal draws; tensors for networks.

    Parameters
    ----------
    model : coremltools.models.MLModel or its specification
    signature : Signature
    example : rows or None
    n_rows : int
    rng : numpy.random.Generator
    """
    spec = _spec(model)
    if kind_of(spec) in _NETWORKS:
        return {
            item.name: rng.normal(size=_shape_of(item)).astype(np.float32)
            for item in spec.description.input
        }
    parts = parts_of(spec)
    specials: dict[str, list[float]] = {}
    if len(parts) == 1 and len(signature.fields) == _n_numbers(spec):
        for index, limits in thresholds_of(parts[0]).items():
            specials[signature.fields[index].name] = limits
    return rows_around(signature, example, n_rows=n_rows, rng=rng, specials=specials)


# ---- reading the specification


def _has_core_ml() -> bool:
    return sys.platform.startswith("darwin")


def _spec(model: Any) -> Any:
    return model.get_spec() if hasattr(model, "get_spec") else model


def _classes(spec: Any) -> list[Any]:
    last = parts_of(spec)[-1]
    holder = getattr(last, kind_of(last))
    return classes_of(holder) if hasattr(holder, "stringClassLabels") else []


def _label_dtype(classes: list[Any]) -> str:
    return "object" if isinstance(classes[0], str) else "int64"


def _shape_of(item: Any) -> tuple[int, ...]:
    return tuple(int(size) for size in item.type.multiArrayType.shape)


def _n_numbers(spec: Any) -> int:
    total = 0
    for item in spec.description.input:
        array = item.type.WhichOneof("Type") == "multiArrayType"
        total += int(np.prod(_shape_of(item))) if array else 1
    return total


def _fields(spec: Any) -> list[Field]:
    """Named features, and the numbers of arrays as ``name[0]``, ``name[1]``, ..."""
    kinds = [kind_of(part) for part in parts_of(spec)]
    # Trees send a missing number their way, and imputers fill it in.
    takes_nan = any(kind.startswith(("treeEnsemble", "imputer")) for kind in kinds)
    missing: Literal["nan", "refuse"] = "nan" if takes_nan else "refuse"
    fields: list[Field] = []
    for item in spec.description.input:
        kind = item.type.WhichOneof("Type")
        if kind == "multiArrayType":
            width = int(np.prod(_shape_of(item)))
            fields += [
                Field(f"{item.name}[{i}]", "float", "used", missing=missing, infinity="allow")
                for i in range(width)
            ]
        elif kind == "doubleType":
            fields.append(Field(item.name, "float", "used", missing=missing, infinity="allow"))
        elif kind == "int64Type":
            fields.append(Field(item.name, "int", "used"))
        elif kind == "stringType":
            fields.append(Field(item.name, "string", "used"))
        else:
            raise UnsupportedModelError(
                f"Core ML's feature `{item.name}` is a {kind}; expected numbers, text or arrays of numbers"
            )
    return fields


def _table_signature(spec: Any) -> Signature:
    inputs = spec.description.input
    array = len(inputs) == 1 and inputs[0].type.WhichOneof("Type") == "multiArrayType"
    fields, specs = packed(_fields(spec), numbers="features" if array else "numbers")
    methods, outputs = [], []
    last = parts_of(spec)[-1]
    classes = _classes(spec)
    if classes:
        labels = Labels(tuple(classes), _label_dtype(classes))
        methods.append(Method("predict", ("label",), form="labels", labels=labels))
        outputs.append(TensorSpec("label", "int64", (BATCH,)))
        bare = kind_of(last) == "supportVectorClassifier" and not last.supportVectorClassifier.probA
        if not bare:
            shape = (len(classes),)
            methods.append(
                Method("predict_proba", ("probabilities",), dtype="float64", shape=shape)
            )
            outputs.append(TensorSpec("probabilities", "float64", (BATCH, *shape)))
    else:
        width = _n_targets(last)
        tail: tuple[int, ...] = () if width == 1 else (width,)
        methods.append(Method("predict", ("prediction",), dtype="float64", shape=tail))
        outputs.append(TensorSpec("prediction", "float64", (BATCH, width)))
    return Signature(
        inputs=specs,
        outputs=tuple(outputs),
        methods=tuple(methods),
        fields=fields,
        container="array" if array else "dataframe",
    )


def _n_targets(part: Any) -> int:
    kind = kind_of(part)
    if kind == "treeEnsembleRegressor":
        return int(part.treeEnsembleRegressor.treeEnsemble.numPredictionDimensions)
    return len(part.glmRegressor.weights) if kind == "glmRegressor" else 1


def _network_signature(spec: Any) -> Signature:
    network = getattr(spec, kind_of(spec))
    inputs = []
    for item in spec.description.input:
        shape = _shape_of(item)
        if item.type.WhichOneof("Type") != "multiArrayType" or not shape:
            raise UnsupportedModelError(
                f"Core ML's input `{item.name}` is no array of a known shape. Convert the model from the "
                "framework that it was trained in"
            )
        inputs.append(TensorSpec(item.name, "float32", shape))
    if kind_of(spec) == "neuralNetworkClassifier":
        classes = classes_of(network)
        labels = Labels(tuple(classes), _label_dtype(classes))
        shape = (len(classes),)
        return Signature(
            inputs=tuple(inputs),
            outputs=(
                TensorSpec("label", "int64", (1,)),
                TensorSpec("probabilities", "float32", (1, *shape)),
            ),
            methods=(
                Method("predict", ("label",), form="labels", labels=labels),
                Method("predict_proba", ("probabilities",)),
            ),
        )
    shapes = {name: shape for name, (_, shape) in _written_network(spec, GraphBuilder()).items()}
    names = tuple(item.name for item in spec.description.output)
    return Signature(
        inputs=tuple(inputs),
        outputs=tuple(TensorSpec(name, "float32", shapes[name]) for name in names),
        methods=(Method("predict", names, form="dict", keys=names),),
    )


def _by_name(spec: Any, rows: Any) -> dict[str, np.ndarray]:
    if isinstance(rows, Mapping):
        return {name: np.asarray(value, np.float32) for name, value in rows.items()}
    values = rows if isinstance(rows, tuple) else (rows,)
    names = [item.name for item in spec.description.input]
    return {name: np.asarray(v, np.float32) for name, v in zip(names, values, strict=True)}


def _rows_by_name(spec: Any, rows: Any) -> list[dict[str, Any]]:
    """Each row as a dict of Core ML's features."""
    names = [item.name for item in _fields(spec)]
    if hasattr(rows, "columns"):
        table = [dict(zip(names, row, strict=True)) for row in rows[names].itertuples(index=False)]
    else:
        table = [dict(zip(names, row, strict=True)) for row in np.asarray(rows).tolist()]
    made = []
    for row in table:
        values: dict[str, Any] = {}
        for item in spec.description.input:
            if item.type.WhichOneof("Type") == "multiArrayType":
                width = int(np.prod(_shape_of(item)))
                parts = [row[f"{item.name}[{i}]"] for i in range(width)]
                values[item.name] = np.array(parts, np.float64).reshape(_shape_of(item))
            else:
                values[item.name] = row[item.name]
        made.append(values)
    return made


def _from_row(spec: Any, method: str, given: Mapping[str, Any]) -> Any:
    """One row's answer out of what ``MLModel.predict`` gives."""
    description = spec.description
    if method == "predict_proba":
        shares = given[description.predictedProbabilitiesName]
        return [shares[label] for label in _classes(spec)]
    value = given[description.predictedFeatureName or description.output[0].name]
    return value if isinstance(value, str) else np.squeeze(value)


def _from_network(spec: Any, method: str, given: Mapping[str, Any]) -> Any:
    if kind_of(spec) != "neuralNetworkClassifier":
        return {item.name: given[item.name] for item in spec.description.output}
    classes = classes_of(spec.neuralNetworkClassifier)
    if method == "predict_proba":
        shares = given[spec.description.predictedProbabilitiesName]
        return np.array([[shares[label] for label in classes]])
    return np.array([given[spec.description.predictedFeatureName]], _label_dtype(classes))


def _shares_of(network: Any) -> str:
    """The blob of a network classifier's probabilities."""
    return str(network.labelProbabilityLayerName or network.layers[-1].output[0])


# ---- writing


def _written_network(spec: Any, builder: GraphBuilder) -> dict[str, tuple[str, tuple[int, ...]]]:
    tensors = {}
    for item in spec.description.input:
        shape = _shape_of(item)
        tensors[item.name] = (builder.input(item.name, "float32", shape).name, shape)
    network = Network(builder, tensors)
    for layer in layers_of(getattr(spec, kind_of(spec))):
        network.write(layer)
    return network.tensors


def _write_network(spec: Any, signature: Signature, builder: GraphBuilder) -> dict[str, str]:
    tensors = {name: tensor for name, (tensor, _) in _written_network(spec, builder).items()}
    if kind_of(spec) != "neuralNetworkClassifier":
        return tensors
    shares = tensors[_shares_of(spec.neuralNetworkClassifier)]
    flat = builder.op("Reshape", shares, builder.constant([1, -1], np.int64))
    return {"probabilities": flat, "label": builder.op("ArgMax", flat, axis=1, keepdims=0)}


def _write_table(spec: Any, signature: Signature, builder: GraphBuilder) -> dict[str, str]:
    values = {}
    for item in signature.inputs:
        assert isinstance(item, TensorSpec)
        shape = tuple(BATCH if size is None else size for size in item.shape or ())
        values[item.name] = builder.input(item.name, item.dtype, shape)
    columns: dict[str, Columns] = {}
    for field in signature.fields:
        column = Column(values[field.input or ""], field.column)
        name = field.name.partition("[")[0]
        name = field.name if any(i.name == field.name for i in spec.description.input) else name
        columns[name] = (*columns.get(name, ()), column)
    tables = Tables(builder, columns)
    answers: dict[str, str] = {}
    for part in parts_of(spec):
        answers = tables.write(part) or answers
    if not answers:
        raise UnsupportedModelError(
            f"Core ML's {kind_of(spec)} predicts nothing; expected a classifier or a regressor"
        )
    return answers
