"""Design matrices of formulas (patsy), column by column.

patsy keeps what it needs for new rows: the factors of each term, the categories and the contrast matrix of
each categorical one. Factors are Python expressions; those that are columns, arithmetic of columns and a few
numpy functions are written, everything else (splines, own functions) is left to patsy.
"""

from __future__ import annotations

import ast
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from infersdk.convert.plain_tables import field_of
from infersdk.convert.sklearn_graph import Column, GraphBuilder
from infersdk.errors import UnsupportedModelError
from infersdk.types import Field

__all__ = ["design", "fields_of"]

_FUNCTIONS = {
    "abs": "Abs",
    "cos": "Cos",
    "exp": "Exp",
    "log": "Log",
    "sin": "Sin",
    "sqrt": "Sqrt",
    "tanh": "Tanh",
}
_OPERATORS: dict[type[ast.operator], str] = {
    ast.Add: "Add",
    ast.Sub: "Sub",
    ast.Mult: "Mul",
    ast.Div: "Div",
    ast.Pow: "Pow",
}


def _names_in(code: str) -> list[str]:
    """Every name in an expression, also those quoted by ``Q("...")``, in order."""
    found = []
    for node in ast.walk(ast.parse(code, mode="eval")):
        if isinstance(node, ast.Name):
            found.append(node.id)
        elif _is_call(node, "Q"):
            found.append(_quoted(node))
    return found


def _column_of_factor(code: str) -> str | None:
    """The column of ``g``, ``C(g)``, ``C(g, Sum)`` and ``Q("a name")``; None for anything else."""
    node = ast.parse(code, mode="eval").body
    if isinstance(node, ast.Call) and _is_call(node, "C") and node.args:
        node = node.args[0]
    if isinstance(node, ast.Name):
        return node.id
    return _quoted(node) if _is_call(node, "Q") else None


def fields_of(spec: Any, frame: Any) -> tuple[Field, ...]:
    """The columns of a formula's data as fields; those that the formula does not read have no input.

    Parameters
    ----------
    spec : patsy.DesignInfo or formulaic.ModelSpec
    frame : DataFrame
        Rows of the training data.

    Raises
    ------
    UnsupportedModelError
        A column is not in the example, or its values have no field dtype.
    """
    used, categories = _read_by(spec)
    if not used & set(frame.columns):
        raise UnsupportedModelError(
            f"The formula reads {', '.join(sorted(used)) or 'nothing'}, but the example has the columns "
            f"{', '.join(map(str, frame.columns))}. Pass rows with the columns of the training data"
        )
    fields = []
    for name in map(str, frame.columns):
        if name not in used:
            # The target, for one: rows may hold it or not.
            fields.append(Field(name, "string", None))
            continue
        item = field_of(frame[name], name)
        if name in categories:
            item = replace(item, categories=categories[name], unknown="refuse")
        elif item.dtype in ("float", "int"):
            # A missing number gives a missing answer; a missing category is refused.
            item = replace(item, missing="nan")
        fields.append(replace(item, infinity="allow") if item.dtype == "float" else item)
    return tuple(fields)


def _read_by(spec: Any) -> tuple[set[str], dict[str, tuple[Any, ...]]]:
    """The names that a formula reads, columns among them, and the categories of columns."""
    if not hasattr(spec, "factor_infos"):
        return {str(name) for name in spec.required_variables}, {}
    used: set[str] = set()
    categories = {}
    for factor, info in spec.factor_infos.items():
        used.update(_names_in(factor.code))
        name = _column_of_factor(factor.code)
        if info.type == "categorical" and name is not None:
            values = (c.item() if isinstance(c, np.generic) else c for c in info.categories)
            categories[name] = tuple(values)
    return used, categories


@dataclass(slots=True)
class _Design:
    """The nodes of one design matrix."""

    builder: GraphBuilder
    columns: Mapping[str, Column]

    def number(self, name: str) -> str:
        """float64 (N, 1)."""
        column = self.columns.get(name)
        if column is None:
            raise UnsupportedModelError(
                f"The formula uses `{name}`, which is no column of the example; only columns and "
                "numpy's own functions can be written"
            )
        if column.is_text:
            raise UnsupportedModelError(f"The formula computes with the text column `{name}`")
        return self.builder.matrix((column,), "float64")

    def value(self, node: ast.expr) -> str:
        """float64 (N, 1) or (): an arithmetic expression."""
        builder = self.builder
        if isinstance(node, ast.Name):
            return self.number(node.id)
        if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
            return builder.constant(float(node.value), np.float64)
        if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
            left, right = self.value(node.left), self.value(node.right)
            return builder.op(_OPERATORS[type(node.op)], left, right)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return builder.op("Neg", self.value(node.operand))
        if isinstance(node, ast.Call) and not node.keywords and len(node.args) == 1:
            if _is_call(node, "Q"):
                return self.number(_quoted(node))
            if _is_call(node, "I"):
                return self.value(node.args[0])
            name = _numpy_function(node.func)
            if name is not None:
                return self.function(name, self.value(node.args[0]))
        raise UnsupportedModelError(f"The formula's `{ast.unparse(node)}` is computed by Python")

    def function(self, name: str, given: str) -> str:
        builder = self.builder
        if name == "log1p":
            return builder.op("Log", builder.op("Add", given, builder.constant(1.0, np.float64)))
        if name == "expm1":
            return builder.op("Sub", builder.op("Exp", given), builder.constant(1.0, np.float64))
        if name in ("log2", "log10"):
            scale = np.log(2.0 if name == "log2" else 10.0)
            return builder.op("Div", builder.op("Log", given), builder.constant(scale, np.float64))
        if name == "square":
            return builder.op("Mul", given, given)
        if name not in _FUNCTIONS:
            raise UnsupportedModelError(f"The formula's np.{name} is computed by numpy")
        return builder.op(_FUNCTIONS[name], given)

    def indicators(self, code: str, categories: tuple[Any, ...]) -> str:
        """float64 (N, n_categories): 1 at the row's category."""
        builder = self.builder
        name = _column_of_factor(code)
        column = None if name is None else self.columns.get(name)
        if column is None:
            raise UnsupportedModelError(
                f"The formula's categories `{code}` are made by Python; expected those of a column"
            )
        positions = list(range(len(categories)))
        if column.is_text:
            if not all(isinstance(value, str) for value in categories):
                raise UnsupportedModelError(f"Column `{name}` is text, its categories are not")
            code_of_row = builder.ml(
                "LabelEncoder",
                builder.matrix((column,), "string"),
                keys_strings=list(categories),
                values_int64s=positions,
                default_int64=-1,
            )
            hot = builder.op("Equal", code_of_row, builder.constant([positions], np.int64))
        else:
            values = np.array([[float(value) for value in categories]])
            hot = builder.op(
                "Equal", builder.matrix((column,), "float64"), builder.constant(values)
            )
        return builder.cast(hot, "bool", "float64")


def design(builder: GraphBuilder, spec: Any, columns: Mapping[str, Column]) -> str:
    """float64 (N, n_columns): the design matrix of new rows.

    Raises
    ------
    UnsupportedModelError
        A factor is neither a column nor arithmetic of columns.
    """
    writer = _Design(builder, columns)
    factors: dict[Any, str] = {}
    for factor, info in spec.factor_infos.items():
        if info.type == "categorical":
            factors[factor] = writer.indicators(factor.code, tuple(info.categories))
        elif info.num_columns != 1:
            raise UnsupportedModelError(f"The formula's `{factor.code}` gives several columns")
        else:
            factors[factor] = writer.value(ast.parse(factor.code, mode="eval").body)
    parts = []
    for subterms in spec.term_codings.values():
        for subterm in subterms:
            parts += _subterm(builder, subterm, factors)
    # An intercept says nothing of the number of rows.
    n_rows = builder.op("Shape", next(iter(factors.values())), start=0, end=1) if factors else None
    if n_rows is None:
        raise UnsupportedModelError("The formula reads no column")
    shape = builder.op("Concat", n_rows, builder.constant([1], np.int64), axis=0)
    parts = [builder.op("Expand", part, shape) for part in parts]
    return parts[0] if len(parts) == 1 else builder.op("Concat", *parts, axis=1)


def _subterm(builder: GraphBuilder, subterm: Any, factors: Mapping[Any, str]) -> list[str]:
    """float64 (N, 1) for each column: products of the factors' columns, the first varying fastest."""
    choices: list[list[str]] = []
    for factor in subterm.factors:
        contrast = subterm.contrast_matrices.get(factor)
        if contrast is None:
            choices.append([factors[factor]])
            continue
        matrix = np.asarray(contrast.matrix, np.float64)
        choices.append(
            [
                builder.op("MatMul", factors[factor], builder.constant(matrix[:, [index]]))
                for index in range(matrix.shape[1])
            ]
        )
    made = []
    for chosen in itertools.product(*reversed(choices)):
        factors_of_column = list(reversed(chosen))
        if not factors_of_column:
            made.append(builder.constant([[1.0]], np.float64))
            continue
        product = factors_of_column[0]
        for other in factors_of_column[1:]:
            product = builder.op("Mul", product, other)
        made.append(product)
    return made


def _is_call(node: ast.AST, name: str) -> bool:
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == name
        and bool(node.args)
    )


def _quoted(node: ast.AST) -> str:
    if isinstance(node, ast.Call) and isinstance(node.args[0], ast.Constant):
        return str(node.args[0].value)
    raise UnsupportedModelError(f"Expected Q() with a name, got `{ast.unparse(node)}`")


def _numpy_function(node: ast.expr) -> str | None:
    """``log`` of ``np.log`` and of ``numpy.log``."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return node.attr if node.value.id in ("np", "numpy") else None
    return None
