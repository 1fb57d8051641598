"""Small models for the concurrency tests, written node by node: no framework takes part."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from infersdk.artifact import Artifact
from infersdk.types import Field, Method, Plan, Signature, TensorSpec

__all__ = [
    "COLUMNS",
    "counter",
    "lookup",
    "mlp",
    "paced",
    "rows_of",
    "spelled",
    "stretched",
    "tree_ensemble",
    "two_heads",
    "wide",
    "write_all",
]

COLUMNS = ("age", "balance", "products", "tenure")


def write_all(folder: Path) -> Path:
    """Write every model of this module under its function's name."""
    for make in (mlp, tree_ensemble):
        make().save(folder / f"{make.__name__}.onnx")
    for make in (counter, lookup, paced, spelled, stretched, wide):
        (folder / f"{make.__name__}.onnx").write_bytes(make().SerializeToString())
    return folder


def rows_of(n: int, seed: int) -> list[dict[str, float]]:
    """Rows as a web app has them: dicts of numbers by column."""
    numbers = np.random.default_rng(seed).normal(size=(n, len(COLUMNS)))
    return [dict(zip(COLUMNS, row, strict=True)) for row in numbers.tolist()]


def mlp() -> Artifact:
    """Two dense layers and a softmax over three classes, for rows of four columns."""
    nodes, constants = _layers()
    method = Method("predict", ("answer",), shape=(3,))
    return _tabular(nodes, {"answer": 3}, (method,), constants)


def two_heads() -> bytes:
    """`mlp` with its scores as a method of another head, whose session is opened when first used."""
    nodes, constants = _layers()
    methods = (
        Method("predict", ("answer",), shape=(3,)),
        Method("decision_function", ("scores",), shape=(3,), head="scores"),
    )
    artifact = _tabular(nodes, {"answer": 3, "scores": 3}, methods, constants)
    model = artifact.session_model()
    assert isinstance(model, bytes)
    return model


def _layers() -> tuple[list[NodeProto], dict[str, np.ndarray]]:
    rng = np.random.default_rng(1)
    nodes = [
        helper.make_node("Gemm", ["features", "w1", "b1"], ["sums"]),
        helper.make_node("Relu", ["sums"], ["hidden"]),
        helper.make_node("Gemm", ["hidden", "w2", "b2"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["answer"], axis=1),
    ]
    constants = {
        "w1": rng.normal(size=(4, 16)),
        "b1": rng.normal(size=16),
        "w2": rng.normal(size=(16, 3)),
        "b2": rng.normal(size=3),
    }
    return nodes, constants


def tree_ensemble() -> Artifact:
    """The sum of 120 random trees of depth five, enough for ONNX Runtime's parallel code."""
    rng = np.random.default_rng(2)
    n_trees, depth = 120, 5
    n_splits, n_nodes = 2**depth - 1, 2 ** (depth + 1) - 1
    node = np.arange(n_nodes)
    is_leaf = node >= n_splits
    leaves = node[is_leaf]
    trees = helper.make_node(
        "TreeEnsembleRegressor",
        ["features"],
        ["answer"],
        domain="ai.onnx.ml",
        n_targets=1,
        nodes_treeids=np.repeat(np.arange(n_trees), n_nodes).tolist(),
        nodes_nodeids=np.tile(node, n_trees).tolist(),
        nodes_featureids=rng.integers(0, len(COLUMNS), n_trees * n_nodes).tolist(),
        nodes_values=rng.normal(size=n_trees * n_nodes).tolist(),
        nodes_modes=np.where(is_leaf, "LEAF", "BRANCH_LEQ").tolist() * n_trees,
        nodes_truenodeids=np.where(is_leaf, 0, 2 * node + 1).tolist() * n_trees,
        nodes_falsenodeids=np.where(is_leaf, 0, 2 * node + 2).tolist() * n_trees,
        target_treeids=np.repeat(np.arange(n_trees), len(leaves)).tolist(),
        target_nodeids=leaves.tolist() * n_trees,
        target_ids=[0] * (n_trees * len(leaves)),
        target_weights=rng.normal(size=n_trees * len(leaves)).tolist(),
    )
    return _tabular([trees], {"answer": 1}, (Method("predict", ("answer",), shape=()),), {})


def counter() -> ModelProto:
    """``y = x + 1``, ``n`` times over: a run as long as the caller asks for."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["again"], ["go_on"]),
            helper.make_node("Add", ["sum", "one"], ["next"]),
        ],
        "body",
        [
            _tensor("i", TensorProto.INT64, []),
            _tensor("again", TensorProto.BOOL, []),
            _tensor("sum", TensorProto.FLOAT, [1]),
        ],
        [_tensor("go_on", TensorProto.BOOL, []), _tensor("next", TensorProto.FLOAT, [1])],
    )
    return _model(
        [helper.make_node("Loop", ["n", "", "x"], ["y"], body=body)],
        [_tensor("n", TensorProto.INT64, []), _tensor("x", TensorProto.FLOAT, [1])],
        [_tensor("y", TensorProto.FLOAT, [1])],
        {"one": np.ones(1)},
    )


def lookup() -> ModelProto:
    """Entries of a table by index; an index outside it fails the run."""
    return _model(
        [helper.make_node("Gather", ["table", "index"], ["value"])],
        [_tensor("index", TensorProto.INT64, ["N"])],
        [_tensor("value", TensorProto.FLOAT, ["N"])],
        {"table": np.array([10, 20, 30])},
    )


def paced() -> ModelProto:
    """``2 * value + table[index]``, in a run that takes as many steps as its most patient row asks for.

    Rows share runs, a row's answer is exact in any batch, and an index outside the table of three fails
    the run.
    """
    return _model(
        [
            *_pace("steps"),
            helper.make_node("Gather", ["table", "index"], ["entry"]),
            helper.make_node("Add", ["value", "value"], ["twice"]),
            helper.make_node("Add", ["twice", "entry"], ["sum"]),
            helper.make_node("Add", ["sum", "nothing"], ["answer"]),
        ],
        [
            _tensor("value", TensorProto.FLOAT, ["N"]),
            _tensor("index", TensorProto.INT64, ["N"]),
            _tensor("steps", TensorProto.FLOAT, ["N"]),
        ],
        [_tensor("answer", TensorProto.FLOAT, ["N"])],
        {"table": np.array([10, 20, 30]), "zero": np.zeros(()), "step": np.ones(())},
    )


def spelled() -> ModelProto:
    """The word for a digit, and the digit for its word: strings in and out, paced like `paced`."""
    words = ["zero", "one", "two", "three"]
    digits = [str(digit) for digit in range(len(words))]
    return _model(
        [
            *_pace("steps"),
            helper.make_node(
                "LabelEncoder",
                ["text"],
                ["other"],
                domain="ai.onnx.ml",
                keys_strings=words + digits,
                values_strings=digits + words,
                default_string="ø",
            ),
            helper.make_node("Add", ["steps", "nothing"], ["done"]),
        ],
        [
            _tensor("text", TensorProto.STRING, ["N"]),
            _tensor("steps", TensorProto.FLOAT, ["N"]),
        ],
        [
            _tensor("other", TensorProto.STRING, ["N"]),
            _tensor("done", TensorProto.FLOAT, ["N"]),
        ],
        {"zero": np.zeros(()), "step": np.ones(())},
    )


def stretched() -> ModelProto:
    """``2 * x`` for rows of any length, paced like `paced`: only rows of one length share a run."""
    return _model(
        [
            *_pace("steps"),
            helper.make_node("Add", ["x", "x"], ["twice"]),
            helper.make_node("Add", ["twice", "nothing"], ["answer"]),
        ],
        [
            _tensor("x", TensorProto.FLOAT, ["N", "length"]),
            _tensor("steps", TensorProto.FLOAT, ["N"]),
        ],
        [_tensor("answer", TensorProto.FLOAT, ["N", "length"])],
        {"zero": np.zeros(()), "step": np.ones(())},
    )


def wide() -> ModelProto:
    """A number, 20,000 times: 80 kB of answer for each row."""
    return _model(
        [helper.make_node("Mul", ["x", "ones"], ["answer"])],
        [_tensor("x", TensorProto.FLOAT, ["N", 1])],
        [_tensor("answer", TensorProto.FLOAT, ["N", 20_000])],
        {"ones": np.ones((1, 20_000))},
    )


def _pace(steps: str) -> list[NodeProto]:
    """Nodes that count to the greatest of `steps`, and give `nothing`, a zero that has to wait for it."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["again"], ["go_on"]),
            helper.make_node("Add", ["count", "step"], ["next"]),
        ],
        "body",
        [
            _tensor("i", TensorProto.INT64, []),
            _tensor("again", TensorProto.BOOL, []),
            _tensor("count", TensorProto.FLOAT, []),
        ],
        [_tensor("go_on", TensorProto.BOOL, []), _tensor("next", TensorProto.FLOAT, [])],
    )
    return [
        helper.make_node("ReduceMax", [steps], ["most"], keepdims=0),
        helper.make_node("Cast", ["most"], ["trips"], to=TensorProto.INT64),
        helper.make_node("Loop", ["trips", "", "zero"], ["counted"], body=body),
        helper.make_node("Min", ["counted", "zero"], ["nothing"]),
    ]


def _tabular(
    nodes: list[NodeProto],
    outputs: dict[str, int],
    methods: tuple[Method, ...],
    constants: dict[str, np.ndarray],
) -> Artifact:
    proto = _model(
        nodes,
        [_tensor("features", TensorProto.FLOAT, ["N", len(COLUMNS)])],
        [_tensor(name, TensorProto.FLOAT, ["N", width]) for name, width in outputs.items()],
        constants,
    )
    signature = Signature(
        inputs=(TensorSpec("features", "float32", ("N", len(COLUMNS))),),
        outputs=tuple(TensorSpec(name, "float32", ("N", n)) for name, n in outputs.items()),
        methods=methods,
        fields=tuple(
            Field(name, "float", "features", column) for column, name in enumerate(COLUMNS)
        ),
        container="dataframe",
    )
    return Artifact(proto, signature=signature, plan=Plan("onnx", "written by hand"))


def _tensor(name: str, element: int, shape: Sequence[int | str]) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, element, shape)


def _model(
    nodes: list[NodeProto],
    inputs: list[ValueInfoProto],
    outputs: list[ValueInfoProto],
    constants: dict[str, np.ndarray],
) -> ModelProto:
    initializers = [
        numpy_helper.from_array(array.astype(np.float32), name) for name, array in constants.items()
    ]
    graph = helper.make_graph(nodes, "graph", inputs, outputs, initializers)
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)
