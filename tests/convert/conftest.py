"""Fixtures for converters: a graph's answers by way of onnxruntime's own Python API."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest


def _matrix(signature: Any, rows: Any) -> np.ndarray:
    """Rows as float64, one column per field, categories as codes: the binding done by hand."""
    if isinstance(rows, np.ndarray):
        return rows.astype(np.float64)
    columns = []
    for field in signature.fields:
        series = rows[field.name]
        if field.encoding == "code":
            code = {value: index for index, value in enumerate(field.categories)}
            values = [
                np.nan if value != value or value is None else code.get(value, -1)
                for value in series.tolist()
            ]
            columns.append(np.asarray(values, dtype=np.float64))
        else:
            columns.append(series.to_numpy(dtype=np.float64, na_value=np.nan))
    return np.column_stack(columns)


def _graph_answers(
    converter: Any, model: Any, rows: Any, example: Any = None, opset: int | None = None
) -> dict[str, np.ndarray]:
    """What the converted model answers to ``rows``, by method."""
    import onnxruntime

    signature = converter.infer_signature(model, example)
    graph = converter.to_onnx(model, signature, example=example, opset=opset).graph
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(graph.SerializeToString(), options)
    matrix = _matrix(signature, rows)
    feeds = {}
    for spec in signature.inputs:
        columns = [None] * spec.shape[1]
        for index, field in enumerate(signature.fields):
            if field.input == spec.name:
                columns[field.column] = index
        feeds[spec.name] = np.ascontiguousarray(matrix[:, columns]).astype(spec.dtype)
    assert {value.name for value in session.get_inputs()} == set(feeds)
    answers = {}
    for method in signature.methods:
        (value,) = session.run(list(method.outputs), feeds)
        if method.form == "labels":
            assert value.dtype == np.int64
            assert value.shape == (len(matrix),)
            value = np.array(method.labels.values, dtype=method.labels.dtype)[value]
            value = value.reshape(len(matrix), *(method.shape or ()))
        else:
            value = value.reshape(len(matrix), *method.shape).astype(method.dtype)
        answers[method.name] = value
    return answers


@pytest.fixture(scope="session")
def graph_answers() -> Callable[..., dict[str, np.ndarray]]:
    """``graph_answers(converter, model, rows, example=None, opset=None) -> {method: array}``."""
    return _graph_answers


@pytest.fixture(scope="session")
def assert_faithful() -> Callable[..., None]:
    """``assert_faithful(converter, model, rows=None, example=None)``: the graph answers as the source.

    Without ``rows`` the converter's edge rows are compared. Discrete answers must be equal, others
    within the float32 rounding of a sum of trees; one wrong leaf is far outside of it.
    """

    def check(
        converter: Any, model: Any, rows: Any = None, example: Any = None, n_distinct: int = 2
    ) -> None:
        signature = converter.infer_signature(model, example)
        if rows is None:
            rng = np.random.default_rng(7)
            rows = converter.edge_rows(model, signature, example, n_rows=400, rng=rng)
        ours = _graph_answers(converter, model, rows, example)
        assert set(ours) == {method.name for method in signature.methods}
        for method in signature.methods:
            expected = np.asarray(converter.call(model, method.name, rows))
            given = ours[method.name]
            assert given.dtype == expected.dtype, method.name
            assert given.shape == expected.shape, method.name
            assert len(np.unique(expected)) >= n_distinct, "rows too dull to tell anything"
            if method.form == "labels":
                np.testing.assert_array_equal(given, expected)
            else:
                scale = max(1.0, float(np.abs(expected).max()))
                np.testing.assert_allclose(given, expected, rtol=1e-5, atol=1e-6 * scale)

    return check
