"""Write the small models that the C++ tests run: ``python csrc/tests/models.py FOLDER``.

Weights are whole numbers, so that every answer is exact whatever the order of a sum.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT, INT64, STRING, BOOL = (
    TensorProto.FLOAT,
    TensorProto.INT64,
    TensorProto.STRING,
    TensorProto.BOOL,
)


def tensor(name: str, element: int, shape: list | None) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, element, shape)


def model(nodes, inputs, outputs, constants=()) -> onnx.ModelProto:
    initializers = [numpy_helper.from_array(array, name) for name, array in dict(constants).items()]
    graph = helper.make_graph(nodes, "graph", inputs, outputs, initializers)
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


WEIGHTS = np.array([[1, -2, 3], [0, 5, -1], [2, 2, 2], [-3, 1, 4]], np.float32)
BIAS = np.array([10, 20, 30], np.float32)


def affine() -> onnx.ModelProto:
    """y = x @ WEIGHTS + BIAS, of a named batch axis."""
    return model(
        [
            helper.make_node("MatMul", ["x", "weights"], ["product"]),
            helper.make_node("Add", ["product", "bias"], ["y"]),
        ],
        [tensor("x", FLOAT, ["N", 4])],
        [tensor("y", FLOAT, ["N", 3])],
        {"weights": WEIGHTS, "bias": BIAS},
    )


def external() -> onnx.ModelProto:
    """`affine` with its weights in a file beside it."""
    proto = affine()
    for initializer in proto.graph.initializer:
        onnx.external_data_helper.set_external_data(initializer, "external.bin")
    return proto


def nonzero() -> onnx.ModelProto:
    """Indices of the nonzero elements: the output's shape depends on the input's values."""
    return model(
        [helper.make_node("NonZero", ["x"], ["indices"])],
        [tensor("x", FLOAT, ["N"])],
        [tensor("indices", INT64, [1, "count"])],
    )


def strings() -> onnx.ModelProto:
    """Each text again, and its code: 7 for "seven", 8 for "eight", else -1."""
    return model(
        [
            helper.make_node("Identity", ["text"], ["again"]),
            helper.make_node(
                "LabelEncoder",
                ["text"],
                ["code"],
                domain="ai.onnx.ml",
                keys_strings=["seven", "eight"],
                values_int64s=[7, 8],
                default_int64=-1,
            ),
        ],
        [tensor("text", STRING, ["N"])],
        [tensor("again", STRING, ["N"]), tensor("code", INT64, ["N"])],
    )


def sequence() -> onnx.ModelProto:
    """How many tensors, all of them joined, and the sequence in reverse (of two)."""
    items = helper.make_tensor_sequence_value_info("items", FLOAT, ["n"])
    swapped = helper.make_tensor_sequence_value_info("swapped", FLOAT, ["n"])
    return model(
        [
            helper.make_node("SequenceLength", ["items"], ["length"]),
            helper.make_node("ConcatFromSequence", ["items"], ["joined"], axis=0),
            helper.make_node("SequenceAt", ["items", "zero"], ["first"]),
            helper.make_node("SequenceAt", ["items", "one"], ["second"]),
            helper.make_node("SequenceConstruct", ["second", "first"], ["swapped"]),
        ],
        [items],
        [tensor("length", INT64, []), tensor("joined", FLOAT, ["total"]), swapped],
        {"zero": np.array(0, np.int64), "one": np.array(1, np.int64)},
    )


def kinds() -> onnx.ModelProto:
    """An optional input, a sequence of maps as output, and a value of unknown rank."""
    element = helper.make_tensor_type_proto(FLOAT, ["n"])
    maybe = helper.make_value_info("maybe", helper.make_optional_type_proto(element))
    table = helper.make_map_type_proto(INT64, helper.make_tensor_type_proto(FLOAT, []))
    maps = helper.make_value_info("maps", helper.make_sequence_type_proto(table))
    return model(
        [
            helper.make_node("OptionalHasElement", ["maybe"], ["there"]),
            helper.make_node(
                "ZipMap", ["x"], ["maps"], domain="ai.onnx.ml", classlabels_int64s=[4, 5]
            ),
            helper.make_node("Abs", ["any"], ["positive"]),
        ],
        [maybe, tensor("x", FLOAT, [None, 2]), tensor("any", FLOAT, None)],
        [tensor("there", BOOL, []), maps, tensor("positive", FLOAT, None)],
    )


def echo() -> onnx.ModelProto:
    """An input that is an output itself, and one that is computed."""
    return model(
        [helper.make_node("Neg", ["x"], ["y"])],
        [tensor("x", FLOAT, ["N"])],
        [tensor("x", FLOAT, ["N"]), tensor("y", FLOAT, ["N"])],
    )


def widths() -> onnx.ModelProto:
    """Inputs of one, two, four and eight bytes an element, each given back unchanged."""
    elements = {
        "flags": BOOL,
        "small": TensorProto.INT8,
        "half": TensorProto.FLOAT16,
        "single": FLOAT,
        "double": TensorProto.DOUBLE,
    }
    return model(
        [helper.make_node("Identity", [name], [f"{name}_again"]) for name in elements],
        [tensor(name, element, ["N"]) for name, element in elements.items()],
        [tensor(f"{name}_again", element, ["N"]) for name, element in elements.items()],
    )


def counter() -> onnx.ModelProto:
    """x plus one, n times over: a run as long as the caller wants."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["again"], ["go_on"]),
            helper.make_node("Add", ["sum", "one"], ["next"]),
        ],
        "body",
        [tensor("i", INT64, []), tensor("again", BOOL, []), tensor("sum", FLOAT, [1])],
        [tensor("go_on", BOOL, []), tensor("next", FLOAT, [1])],
    )
    return model(
        [helper.make_node("Loop", ["n", "", "x"], ["y"], body=body)],
        [tensor("n", INT64, []), tensor("x", FLOAT, [1])],
        [tensor("y", FLOAT, [1])],
        {"one": np.ones(1, np.float32)},
    )


def lookup() -> onnx.ModelProto:
    """Rows of a table by index: the run fails where the index is outside it."""
    return model(
        [helper.make_node("Gather", ["table", "index"], ["value"])],
        [tensor("index", INT64, ["N"])],
        [tensor("value", FLOAT, ["N"])],
        {"table": np.array([10, 20, 30], np.float32)},
    )


def scaled() -> onnx.ModelProto:
    """x * factor, where the caller may replace factor, by default 2."""
    return model(
        [helper.make_node("Mul", ["x", "factor"], ["y"])],
        [tensor("x", FLOAT, ["N"]), tensor("factor", FLOAT, [1])],
        [tensor("y", FLOAT, ["N"])],
        {"factor": np.array([2], np.float32)},
    )


def constant() -> onnx.ModelProto:
    """Without inputs: 1, 2, 3."""
    return model(
        [helper.make_node("Identity", ["numbers"], ["y"])],
        [],
        [tensor("y", FLOAT, [3])],
        {"numbers": np.array([1, 2, 3], np.float32)},
    )


def scaled_blocks() -> onnx.ModelProto:
    """Two inputs, rows of 2 x 3 and single numbers: each block times its number, and the number twice."""
    return model(
        [
            helper.make_node("Cast", ["factor"], ["as_double"], to=TensorProto.DOUBLE),
            helper.make_node("Unsqueeze", ["as_double", "axes"], ["column"]),
            helper.make_node("Mul", ["x", "column"], ["y"]),
            helper.make_node("Add", ["factor", "factor"], ["twice"]),
        ],
        [tensor("x", TensorProto.DOUBLE, ["N", 2, 3]), tensor("factor", INT64, ["N"])],
        [tensor("y", TensorProto.DOUBLE, ["N", 2, 3]), tensor("twice", INT64, ["N"])],
        {"axes": np.array([1, 2], np.int64)},
    )


def columns() -> onnx.ModelProto:
    """An output of rows, one whose first axis is not theirs, and one without axes."""
    return model(
        [
            helper.make_node("Neg", ["x"], ["rows"]),
            helper.make_node("Transpose", ["x"], ["columns"], perm=[1, 0]),
            helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
        ],
        [tensor("x", FLOAT, ["N", 5])],
        [
            tensor("rows", FLOAT, ["N", 5]),
            tensor("columns", FLOAT, [5, "N"]),
            tensor("sum", FLOAT, []),
        ],
    )


def nothing() -> onnx.ModelProto:
    """An output of rows without elements beside one of rows."""
    return model(
        [
            helper.make_node("Slice", ["x", "zero", "zero", "axis"], ["empty"]),
            helper.make_node("Neg", ["x"], ["y"]),
        ],
        [tensor("x", FLOAT, ["N", 2])],
        [tensor("empty", FLOAT, ["N", 0]), tensor("y", FLOAT, ["N", 2])],
        {"zero": np.array([0], np.int64), "axis": np.array([1], np.int64)},
    )


def lengths() -> onnx.ModelProto:
    """Rows of a length: twice their items, the sums with and without a mask, and the length itself."""
    return model(
        [
            helper.make_node("Add", ["ids", "ids"], ["twice"]),
            helper.make_node("Mul", ["ids", "mask"], ["masked"]),
            helper.make_node("ReduceSum", ["masked", "axis"], ["masked_sum"], keepdims=0),
            helper.make_node("ReduceSum", ["ids", "axis"], ["sum"], keepdims=0),
            helper.make_node("Mul", ["ids", "zero"], ["zeros"]),
            helper.make_node("Add", ["zeros", "one"], ["ones"]),
            helper.make_node("ReduceSum", ["ones", "axis"], ["length"], keepdims=0),
        ],
        [tensor("ids", INT64, ["N", "L"]), tensor("mask", INT64, ["N", "L"])],
        [
            tensor("twice", INT64, ["N", "L"]),
            tensor("masked_sum", INT64, ["N"]),
            tensor("sum", INT64, ["N"]),
            tensor("length", INT64, ["N"]),
        ],
        {
            name: np.array([value], np.int64)
            for name, value in [("axis", 1), ("zero", 0), ("one", 1)]
        },
    )


def texts() -> onnx.ModelProto:
    """Rows of texts of a length: the texts again, and how many of them are "<pad>"."""
    return model(
        [
            helper.make_node("Identity", ["text"], ["again"]),
            helper.make_node(
                "LabelEncoder",
                ["text"],
                ["is_pad"],
                domain="ai.onnx.ml",
                keys_strings=["<pad>"],
                values_int64s=[1],
                default_int64=0,
            ),
            helper.make_node("ReduceSum", ["is_pad", "axis"], ["n_pads"], keepdims=0),
        ],
        [tensor("text", STRING, ["N", "L"])],
        [tensor("again", STRING, ["N", "L"]), tensor("n_pads", INT64, ["N"])],
        {"axis": np.array([1], np.int64)},
    )


def grids() -> onnx.ModelProto:
    """Rows of two axes: their items twice, a row's sum, and its number of items."""
    return model(
        [
            helper.make_node("Add", ["x", "x"], ["y"]),
            helper.make_node("ReduceSum", ["x", "axes"], ["sum"], keepdims=0),
            helper.make_node("Mul", ["x", "zero"], ["zeros"]),
            helper.make_node("Add", ["zeros", "one"], ["ones"]),
            helper.make_node("ReduceSum", ["ones", "axes"], ["size"], keepdims=0),
        ],
        [tensor("x", FLOAT, ["N", "H", "W"])],
        [
            tensor("y", FLOAT, ["N", "H", "W"]),
            tensor("sum", FLOAT, ["N"]),
            tensor("size", FLOAT, ["N"]),
        ],
        {
            "axes": np.array([1, 2], np.int64),
            "zero": np.array([0], np.float32),
            "one": np.array([1], np.float32),
        },
    )


def unknown_operator() -> onnx.ModelProto:
    """A model that no runtime can load."""
    return model(
        [helper.make_node("NoSuchOperator", ["x"], ["y"])],
        [tensor("x", FLOAT, ["N"])],
        [tensor("y", FLOAT, ["N"])],
    )


MODELS = (
    affine,
    columns,
    constant,
    counter,
    echo,
    external,
    grids,
    kinds,
    lengths,
    lookup,
    nonzero,
    nothing,
    scaled,
    scaled_blocks,
    sequence,
    strings,
    texts,
    unknown_operator,
    widths,
)


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for make in MODELS:
        onnx.save(make(), folder / f"{make.__name__}.onnx")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
