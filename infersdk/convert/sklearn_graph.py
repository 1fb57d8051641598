"""The graph a scikit-learn model is written into: columns, lazy values and one node list.

A fitted pipeline is walked once. What flows between its steps is a tuple of :class:`Column`
references; selecting, dropping and reordering columns therefore costs no node. A
tensor is written only when something reads it (:class:`Value` is lazy), so a step that a later one
absorbs leaves no trace in the graph.

Numbers are float64 between the steps, as in scikit-learn, because a last-bit difference in front of
a tree moves a row to another leaf. Only tree ensembles read float32, as they do in scikit-learn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from infersdk.convert.sklearn_prune import drop_identities, drop_unread

__all__ = ["BATCH", "ML_OPSET", "Column", "Columns", "GraphBuilder", "Value"]

BATCH = "N"
"""Name of the batch axis."""

DEFAULT_OPSET = 18
ML_OPSET = 3
"""ONNX Runtime's kernels for ai.onnx.ml 4 and 5 are incomplete on CPU."""


class Value:
    """A tensor (N, width) of the graph, written when its name is first read.

    Parameters
    ----------
    dtype : {"float32", "float64", "int64", "string"}
        Element type.
    width : int
        Number of columns.
    emit : callable
        Writes the nodes and returns the tensor's name.
    is_input : bool
        Whether it is an input of the graph.
    """

    def __init__(
        self, dtype: str, width: int, emit: Callable[[], str], *, is_input: bool = False
    ) -> None:
        self.dtype = dtype
        self.width = width
        self.is_input = is_input
        self._emit = emit
        self._name: str | None = None

    @property
    def name(self) -> str:
        """The tensor's name; writes its nodes on first use."""
        if self._name is None:
            self._name = self._emit()
        return self._name

    def columns(self) -> tuple[Column, ...]:
        """One reference for each column."""
        return tuple(Column(self, index) for index in range(self.width))


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a value.

    Parameters
    ----------
    value : Value
        The tensor that holds the column.
    index : int
        Its position there.
    replaced : tuple of (str, str)
        Strings still to be exchanged when the column is read: what an imputer fills in. An encoder
        reads the pairs into its own table, so that imputing a string costs no node.
    origin : Column, optional
        The input column that this one is an increasing function of.
    function : callable, optional
        That function over float64 arrays without NaN; None where it changes nothing.
    missing : float
        What NaN becomes: NaN, or what an imputer fills in and the steps behind it make of that.
    whole : bool
        Whether only whole numbers come here, which float32 holds as they are.
    """

    value: Value
    index: int
    replaced: tuple[tuple[str, str], ...] = ()
    origin: Column | None = None
    function: Callable[[np.ndarray], np.ndarray] | None = None
    missing: float = float("nan")
    whole: bool = False

    @property
    def is_text(self) -> bool:
        return self.value.dtype == "string"

    def followed_by(
        self,
        value: Value,
        index: int,
        function: Callable[[np.ndarray], np.ndarray] | None = None,
        *,
        fill: float = float("nan"),
    ) -> Column:
        """The column of ``value`` that an increasing ``function`` makes of this one.

        ``fill`` is what the step puts in the place of NaN.
        """
        origin = self.origin
        if origin is None and self.value.is_input:
            origin = self
        if origin is None:
            return Column(value, index)
        inner = self.function
        missing = self.missing
        if np.isnan(missing):
            missing = fill
        elif function is not None:
            missing = float(function(np.array([missing]))[0])
        if function is None or inner is None:
            composed = inner if function is None else function
        else:

            def composed(values: np.ndarray) -> np.ndarray:
                return function(inner(values))

        return Column(value, index, (), origin, composed, missing)


Columns = tuple[Column, ...]
"""What flows between two steps of a pipeline."""


class GraphBuilder:
    """Nodes, constants, inputs and outputs of one graph."""

    def __init__(self, opset: int | None = None) -> None:
        self._domains = {"": DEFAULT_OPSET if opset is None else opset, "ai.onnx.ml": ML_OPSET}
        self.notes: list[str] = []
        self._nodes: list[Any] = []
        self._initializers: list[Any] = []
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._matrices: dict[tuple[Any, ...], str] = {}
        self._casts: dict[tuple[str, str], str] = {}
        self._kept: list[Any] = []
        self._counter = 0

    @property
    def opset(self) -> int:
        """The version of the standard operator set."""
        return self._domains[""]

    # ---- names and nodes

    def fresh(self, stem: str) -> str:
        """A name that nothing else has."""
        self._counter += 1
        return f"{stem}_{self._counter}"

    def op(self, op_type: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """Add a node with one output and return the output's name."""
        from onnx import helper

        self._domains.setdefault(domain, 1)
        output = self.fresh(op_type.lower())
        self._nodes.append(
            helper.make_node(
                op_type, list(inputs), [output], name=f"n_{output}", domain=domain, **attributes
            )
        )
        return output

    def ops(self, op_type: str, *inputs: str, n_outputs: int, **attributes: Any) -> tuple[str, ...]:
        """Add a node with several outputs and return their names."""
        from onnx import helper

        outputs = tuple(self.fresh(op_type.lower()) for _ in range(n_outputs))
        self._nodes.append(
            helper.make_node(op_type, list(inputs), outputs, name=f"n_{outputs[0]}", **attributes)
        )
        return outputs

    def add(
        self,
        op_type: str,
        *inputs: str,
        domain: str = "",
        attributes: Sequence[Any] = (),
        output: str | None = None,
        **scalars: Any,
    ) -> str:
        """Add a node that has large attributes, which are given as protos.

        Together with :meth:`constant` this is what ``tree_graph.add_ensemble`` asks of a graph.
        """
        name = self.op(op_type, *inputs, domain=domain, **scalars)
        self._nodes[-1].attribute.extend(attributes)
        return name

    def ml(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        """Add a node of the ai.onnx.ml domain."""
        return self.op(op_type, *inputs, domain="ai.onnx.ml", **attributes)

    def constant(self, array: Any, dtype: Any = None) -> str:
        """Name of an initializer with these values; equal arrays share one."""
        from onnx import numpy_helper

        # ascontiguousarray would turn a scalar into a vector.
        values = np.array(array, dtype=dtype, order="C")
        if values.dtype.kind in "OU":
            values = values.astype(object)
            content = repr(values.tolist()).encode()
        else:
            content = values.tobytes()
        key = (values.dtype.str, values.shape, content)
        name = self._constants.get(key)
        if name is None:
            name = self.fresh("c")
            self._initializers.append(numpy_helper.from_array(values, name))
            self._constants[key] = name
        return name

    def cast(self, name: str, given: str, wanted: str) -> str:
        """The tensor as another dtype; no node where it has it already."""
        if given == wanted:
            return name
        key = (name, wanted)
        if key not in self._casts:
            self._casts[key] = self.op("Cast", name, to=_element_type(wanted))
        return self._casts[key]

    # ---- columns

    def matrix(self, columns: Sequence[Column], dtype: str) -> str:
        """Name of the tensor (N, len(columns)) that holds these columns as ``dtype``."""
        # A value is kept alive by its key's owner, so that an id is never reused.
        key = (dtype, tuple((id(c.value), c.index, c.replaced) for c in columns))
        if key not in self._matrices:
            self._kept.append(columns)
            self._matrices[key] = self._gather(columns, dtype)
        return self._matrices[key]

    def column(self, column: Column, dtype: str) -> str:
        """Name of the vector (N,) that holds this column as ``dtype``."""
        key = ("vector", dtype, id(column.value), column.index)
        if key not in self._matrices:
            self._kept.append(column)
            source = self.cast(column.value.name, column.value.dtype, dtype)
            index = self.constant(column.index, np.int64)
            self._matrices[key] = self.op("Gather", source, index, axis=1)
        return self._matrices[key]

    def _gather(self, columns: Sequence[Column], dtype: str) -> str:
        values = list({id(c.value): c.value for c in columns}.values())
        start, position = 0, {}
        for value in values:
            position[id(value)] = start
            start += value.width
        names = [self.cast(value.name, value.dtype, dtype) for value in values]
        whole = names[0] if len(names) == 1 else self.op("Concat", *names, axis=1)
        indices = [position[id(c.value)] + c.index for c in columns]
        if indices != list(range(start)):
            whole = self.op("Gather", whole, self.constant(indices, np.int64), axis=1)
        if any(c.replaced for c in columns):
            whole = self._replace(whole, [c.replaced for c in columns])
        return whole

    def _replace(self, name: str, pairs: Sequence[tuple[tuple[str, str], ...]]) -> str:
        parts = []
        for index, replaced in enumerate(pairs):
            part = self.op("Gather", name, self.constant([index], np.int64), axis=1)
            for old, new in replaced:
                hit = self.op(
                    "Cast",
                    self.ml(
                        "LabelEncoder",
                        part,
                        keys_strings=[old],
                        values_int64s=[1],
                        default_int64=0,
                    ),
                    to=_element_type("bool"),
                )
                part = self.op("Where", hit, self.constant([[new]], object), part)
            parts.append(part)
        return parts[0] if len(parts) == 1 else self.op("Concat", *parts, axis=1)

    def value(self, name: str, dtype: str, width: int) -> Value:
        """A value that is in the graph already."""
        return Value(dtype, width, lambda: name)

    def lazy(self, dtype: str, width: int, emit: Callable[[], str]) -> Value:
        """A value that is written when it is first read."""
        return Value(dtype, width, emit)

    # ---- whole models

    def splice(self, model: Any, feeds: Mapping[str, str]) -> dict[str, str]:
        """Copy another model's nodes into this graph.

        Parameters
        ----------
        model : onnx.ModelProto
            The model; it is not changed.
        feeds : mapping of str to str
            For each of its inputs, the tensor here that feeds it.

        Returns
        -------
        dict of str to str
            For each of its outputs, the tensor's name here.
        """
        import onnx
        from onnx import compose, inliner

        prefix = self.fresh("m") + "_"
        inner = inliner.inline_local_functions(model) if model.functions else onnx.ModelProto()
        if not model.functions:
            inner.CopyFrom(model)
        compose.add_prefix(inner, prefix, inplace=True)
        for value in inner.graph.input:
            plain = value.name.removeprefix(prefix)
            if plain not in feeds:
                raise ValueError(f"No tensor feeds the input `{plain}`")
            self._nodes.append(
                onnx.helper.make_node("Identity", [feeds[plain]], [value.name], name=value.name)
            )
        for opset in inner.opset_import:
            domain = "" if opset.domain == "ai.onnx" else opset.domain
            self._domains[domain] = max(self._domains.get(domain, 1), opset.version)
        self._nodes.extend(inner.graph.node)
        self._initializers.extend(inner.graph.initializer)
        return {v.name.removeprefix(prefix): v.name for v in inner.graph.output}

    # ---- inputs, outputs and the model

    def input(self, name: str, dtype: str, shape: tuple[int | str, ...]) -> Value:
        """Declare a graph input and return it as a value."""
        from onnx import helper

        self._inputs.append(helper.make_tensor_value_info(name, _element_type(dtype), list(shape)))
        width = shape[1] if len(shape) > 1 else 1
        return Value(dtype, int(width), lambda: name, is_input=True)

    def output(self, name: str, tensor: str, dtype: str, shape: tuple[int | str, ...]) -> None:
        """Declare a graph output that is the tensor under another name."""
        from onnx import helper

        self._nodes.append(helper.make_node("Identity", [tensor], [name], name=f"output_{name}"))
        self._outputs.append(helper.make_tensor_value_info(name, _element_type(dtype), list(shape)))

    def build(self, name: str) -> Any:
        """The finished, checked model.

        Raises
        ------
        onnx.checker.ValidationError
            The graph is not valid.
        """
        import onnx
        from onnx import helper

        graph = helper.make_graph(
            self._nodes, name, self._inputs, self._outputs, initializer=self._initializers
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid(*item) for item in self._domains.items()],
            producer_name="infersdk",
            ir_version=min(onnx.IR_VERSION, 10),
        )
        drop_identities(model.graph)
        drop_unread(model.graph)
        onnx.checker.check_model(model)
        return model


def _element_type(dtype: str) -> int:
    from onnx import TensorProto

    return {
        "float32": TensorProto.FLOAT,
        "float64": TensorProto.DOUBLE,
        "int32": TensorProto.INT32,
        "int64": TensorProto.INT64,
        "bool": TensorProto.BOOL,
        "string": TensorProto.STRING,
    }[dtype]
