"""What is nearest to a row: neighbors, centroids and clusters, and what is made of their distances."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from infersdk.convert.sklearn_graph import Columns
from infersdk.convert.sklearn_numeric import normalized, squared_distances
from infersdk.convert.sklearn_writer import Writer, class_values, unsupported, writes

__all__ = ["distances", "exact_squares", "nearest", "weights_of"]

MOST_AT_ONCE = 20_000
"""Numbers (points by columns) whose differences from one row are computed in one tensor."""

_FEW_VALUES = 64
"""Different values in every column up to which rows lie on a grid."""

_MOST_COLUMNS = 64
"""Above, for many points, Euclidean distances are a product, and others are not written."""


def exact_squares(writer: Writer, columns: Columns, points: np.ndarray) -> str:
    """float64 (N, len(points)): squared Euclidean distances, summed over differences.

    Near a point they are more exact than a product of matrices, which they are for many columns and points.
    """
    points = np.asarray(points, np.float64)
    if points.size > MOST_AT_ONCE and points.shape[1] > _MOST_COLUMNS:
        return squared_distances(writer, columns, points)
    builder = writer.builder
    return _over_columns(
        writer, columns, points, lambda gap: builder.op("Mul", gap, gap), "ReduceSum", "Add"
    )


def _over_columns(
    writer: Writer,
    columns: Columns,
    points: np.ndarray,
    term: Callable[[str], str],
    reduce_op: str,
    pair_op: str,
) -> str:
    """float64 (N, len(points)): what a term of the differences comes to over all columns."""
    builder = writer.builder
    numbers = writer.numbers(columns)
    if points.size <= MOST_AT_ONCE:
        rows = builder.op("Unsqueeze", numbers, builder.constant([1], np.int64))
        terms = term(builder.op("Sub", rows, builder.constant(points)))
        return builder.op(reduce_op, terms, builder.constant([2], np.int64), keepdims=0)
    # Column by column, in as much memory as the answer takes.
    total = ""
    for index in range(points.shape[1]):
        x = builder.op("Gather", numbers, builder.constant([index], np.int64), axis=1)
        part = term(builder.op("Sub", x, builder.constant(points[None, :, index])))
        total = builder.op(pair_op, total, part) if total else part
    return total


def distances(
    writer: Writer, model: Any, columns: Columns, points: np.ndarray, metric: str, p: float = 2.0
) -> str:
    """float64 (N, len(points)): distances to fixed points.

    Raises
    ------
    UnsupportedModelError
        The metric is not written.
    """
    builder = writer.builder
    points = np.asarray(points, np.float64)
    if metric == "minkowski":
        metric = {1.0: "manhattan", 2.0: "euclidean", np.inf: "chebyshev"}.get(float(p), metric)
    if metric in ("euclidean", "l2"):
        return builder.op("Sqrt", exact_squares(writer, columns, points))
    if metric == "cosine":
        size = np.linalg.norm(points, axis=1, keepdims=True)
        rows = normalized(writer, writer.numbers(columns), "l2")
        table = builder.constant((points / np.where(size == 0.0, 1.0, size)).T)
        one = builder.constant(1.0, np.float64)
        far = builder.op("Sub", one, builder.op("MatMul", rows, table))
        return builder.op("Clip", far, builder.constant(0.0), builder.constant(2.0))
    known = ("manhattan", "l1", "cityblock", "chebyshev", "minkowski")
    if metric not in known or (points.size > MOST_AT_ONCE and points.shape[1] > _MOST_COLUMNS):
        raise unsupported(model, f"distances of metric={metric!r} to {len(points)} points")

    def size_of(gap: str) -> str:
        return builder.op("Abs", gap)

    if metric == "chebyshev":
        return _over_columns(writer, columns, points, size_of, "ReduceMax", "Max")
    if metric != "minkowski":
        return _over_columns(writer, columns, points, size_of, "ReduceSum", "Add")
    exponent = builder.constant(float(p), np.float64)

    def power_of(gap: str) -> str:
        return builder.op("Pow", size_of(gap), exponent)

    total = _over_columns(writer, columns, points, power_of, "ReduceSum", "Add")
    return builder.op("Pow", total, builder.constant(1.0 / float(p), np.float64))


def _to_fitted(writer: Writer, model: Any, columns: Columns) -> str:
    """float64 (N, n_fitted): distances to the rows that a model of neighbors was fitted on."""
    points = model._fit_X
    points = points.toarray() if hasattr(points, "toarray") else points
    parameters = dict(model.effective_metric_params_ or {})
    p = parameters.pop("p", 2.0)
    parameters = {name: value for name, value in parameters.items() if value is not None}
    if parameters or not isinstance(model.effective_metric_, str):
        raise unsupported(model, f"metric={model.metric!r} with parameters of its own")
    if model.effective_metric_ == "precomputed":
        return writer.numbers(columns)
    return distances(writer, model, columns, points, model.effective_metric_, p)


def nearest(writer: Writer, distance: str, k: int) -> tuple[str, str]:
    """float64 (N, k) and int64 (N, k): the k smallest distances in order, and whose they are."""
    builder = writer.builder
    amount = builder.constant([k], np.int64)
    values, indices = builder.ops("TopK", distance, amount, n_outputs=2, axis=1, largest=0)
    return values, indices


def weights_of(writer: Writer, model: Any, distance: str, used: str) -> str:
    """float64 as `distance`: what each neighbor counts; 0 where not `used`."""
    builder = writer.builder
    zero = builder.constant(0.0, np.float64)
    one = builder.constant(1.0, np.float64)
    if model.weights not in ("uniform", "distance", None):
        raise unsupported(model, "what its weights function does cannot be read")
    if model.weights != "distance":
        return builder.cast(used, "bool", "float64")
    # A neighbor at no distance counts alone.
    same = builder.op("Equal", distance, zero)
    flags = builder.cast(same, "bool", "float64")
    any_same = builder.op("ReduceMax", flags, builder.constant([1], np.int64))
    safe = builder.op("Where", same, one, distance)
    inverse = builder.op("Div", one, safe)
    weight = builder.op("Where", builder.op("Greater", any_same, zero), flags, inverse)
    return builder.op("Where", used, weight, zero)


# ---- the nearest


def _is_coarse(model: Any) -> bool:
    """Whether the fitted rows lie on a grid, as whole numbers and rounded measurements do."""
    points = model._fit_X
    if hasattr(points, "toarray"):
        points = points.toarray()
    few = min(_FEW_VALUES, len(points) // 2)
    return all(len(np.unique(column)) <= few for column in np.asarray(points).T)


def _neighbors(writer: Writer, model: Any, columns: Columns) -> tuple[str, str]:
    """Weights float64 (N, k) of the nearest fitted rows, and whose they are.

    Raises
    ------
    UnsupportedModelError
        Many of the fitted rows may be equally near.
    """
    if _is_coarse(model):
        raise unsupported(
            model,
            "its columns have few different values, so that many fitted rows are equally near, and which of "
            "them count is arbitrary in scikit-learn",
        )
    builder = writer.builder
    distance, indices = nearest(writer, _to_fitted(writer, model, columns), int(model.n_neighbors))
    everyone = builder.op("GreaterOrEqual", distance, builder.constant(0.0, np.float64))
    return weights_of(writer, model, distance, everyone), indices


def _votes(writer: Writer, model: Any, columns: Columns) -> list[str]:
    """float64 (N, n_classes) for each target: the neighbors' votes, not scaled."""
    builder = writer.builder
    weights, indices = _neighbors(writer, model, columns)
    weights = builder.op("Unsqueeze", weights, builder.constant([2], np.int64))
    targets = np.asarray(model._y).reshape(len(model._fit_X), -1).T
    axis = builder.constant([1], np.int64)
    votes = []
    for target, classes in zip(targets, _classes(model), strict=True):
        table = builder.constant(np.eye(len(classes))[target])
        chosen = builder.op("Mul", builder.op("Gather", table, indices, axis=0), weights)
        votes.append(builder.op("ReduceSum", chosen, axis, keepdims=0))
    return votes


def _classes(model: Any) -> list[Any]:
    return list(model.classes_) if model.outputs_2d_ else [model.classes_]


@writes("proba_list", "KNeighborsClassifier")
def _neighbor_probas(writer: Writer, model: Any, columns: Columns) -> list[str]:
    builder = writer.builder
    axis = builder.constant([1], np.int64)
    return [
        builder.op("Div", votes, builder.op("ReduceSum", votes, axis))
        for votes in _votes(writer, model, columns)
    ]


@writes("proba", "KNeighborsClassifier")
def _neighbor_proba(writer: Writer, model: Any, columns: Columns) -> str:
    return str(writer.write("proba_list", model, columns)[0])


@writes("label", "KNeighborsClassifier")
def _neighbor_label(writer: Writer, model: Any, columns: Columns) -> str:
    (votes,) = _votes(writer, model, columns)
    return writer.builder.op("ArgMax", votes, axis=1, keepdims=0)


@writes("predict", "KNeighborsClassifier")
def _neighbor_labels(writer: Writer, model: Any, columns: Columns) -> str:
    labels = [
        writer.builder.op("ArgMax", votes, axis=1, keepdims=1)
        for votes in _votes(writer, model, columns)
    ]
    return class_values(writer, model, labels, _classes(model))


@writes("predict", "KNeighborsRegressor")
def _neighbor_mean(writer: Writer, model: Any, columns: Columns) -> str:
    builder = writer.builder
    weights, indices = _neighbors(writer, model, columns)
    targets = np.asarray(model._y, np.float64).reshape(len(model._fit_X), -1)
    chosen = builder.op("Gather", builder.constant(targets), indices, axis=0)
    axis = builder.constant([1], np.int64)
    spread = builder.op("Unsqueeze", weights, builder.constant([2], np.int64))
    total = builder.op("ReduceSum", builder.op("Mul", chosen, spread), axis, keepdims=0)
    return builder.op("Div", total, builder.op("ReduceSum", weights, axis))


@writes("transform", "KNeighborsTransformer")
def _neighbor_graph(writer: Writer, model: Any, columns: Columns) -> Columns:
    builder = writer.builder
    every = _to_fitted(writer, model, columns)
    with_itself = int(model.mode == "distance")
    distance, indices = nearest(writer, every, int(model.n_neighbors) + with_itself)
    zero = builder.constant(0.0, np.float64)
    empty = builder.op("Expand", zero, builder.op("Shape", every))
    if not with_itself:
        one = builder.constant(1.0, np.float64)
        distance = builder.op("Expand", one, builder.op("Shape", distance))
    filled = builder.op("ScatterElements", empty, indices, distance, axis=1)
    return writer.new(filled, len(model._fit_X))


# ---- within a radius


def _within(writer: Writer, model: Any, columns: Columns) -> tuple[str, str]:
    """Distances to the fitted rows, and which of them are within the radius."""
    distance = _to_fitted(writer, model, columns)
    radius = writer.builder.constant(float(model.radius), np.float64)
    return distance, writer.builder.op("LessOrEqual", distance, radius)


@writes("proba", "RadiusNeighborsClassifier")
def _radius_proba(writer: Writer, model: Any, columns: Columns) -> str:
    builder = writer.builder
    if model.outputs_2d_:
        raise unsupported(model, "it answers several targets at once")
    if model.outlier_label_ is None:
        raise unsupported(model, "it refuses rows without neighbors; set outlier_label")
    outlier = np.flatnonzero(model.classes_ == model.outlier_label_[0])
    if len(outlier) != 1:
        raise unsupported(model, f"outlier_label={model.outlier_label!r} is none of its classes")
    distance, used = _within(writer, model, columns)
    weights = weights_of(writer, model, distance, used)
    table = np.eye(len(model.classes_))[model._y]
    votes = builder.op("MatMul", weights, builder.constant(table))
    total = builder.op("ReduceSum", votes, builder.constant([1], np.int64))
    alone = builder.op("Equal", total, builder.constant(0.0, np.float64))
    safe = builder.op("Where", alone, builder.constant(1.0, np.float64), total)
    row = builder.constant(np.eye(len(model.classes_))[outlier])
    return builder.op("Where", alone, row, builder.op("Div", votes, safe))


@writes("predict", "RadiusNeighborsRegressor")
def _radius_predict(writer: Writer, model: Any, columns: Columns) -> str:
    builder = writer.builder
    distance, used = _within(writer, model, columns)
    weights = weights_of(writer, model, distance, used)
    targets = np.asarray(model._y, np.float64).reshape(len(model._fit_X), -1)
    total = builder.op("MatMul", weights, builder.constant(targets))
    count = builder.op("ReduceSum", weights, builder.constant([1], np.int64))
    mean = builder.op("Div", total, count)
    with np.errstate(invalid="ignore"):
        # Without neighbors: NaN, or what becomes of it where the targets are whole numbers.
        nobody = np.full_like(model._y.reshape(len(model._fit_X), -1)[0], np.nan)
    empty = builder.op("Equal", count, builder.constant(0.0, np.float64))
    return builder.op("Where", empty, builder.constant(nobody, np.float64), mean)


@writes("transform", "RadiusNeighborsTransformer")
def _radius_transform(writer: Writer, model: Any, columns: Columns) -> Columns:
    builder = writer.builder
    distance, used = _within(writer, model, columns)
    if model.mode == "connectivity":
        name = builder.cast(used, "bool", "float64")
    else:
        name = builder.op("Where", used, distance, builder.constant(0.0, np.float64))
    return writer.new(name, len(model._fit_X))


# ---- local outliers


@writes("score_samples", "LocalOutlierFactor")
def _lof_scores(writer: Writer, model: Any, columns: Columns) -> str:
    # Breunig and others (2000): the neighbors' density over the row's own.
    builder = writer.builder
    k = int(model.n_neighbors_)
    distance, indices = nearest(writer, _to_fitted(writer, model, columns), k)
    reach = np.asarray(model._distances_fit_X_[:, k - 1], np.float64)
    reached = builder.op("Max", distance, builder.op("Gather", builder.constant(reach), indices))
    axis = builder.constant([1], np.int64)
    tiny = builder.constant(1e-10, np.float64)
    inverse = builder.op("Add", builder.op("ReduceMean", reached, axis), tiny)
    density = np.asarray(model._lrd, np.float64)
    ratios = builder.op("Mul", builder.op("Gather", builder.constant(density), indices), inverse)
    return builder.op("Neg", builder.op("ReduceMean", ratios, axis))


@writes("decision", "LocalOutlierFactor")
def _lof_decision(writer: Writer, model: Any, columns: Columns) -> str:
    scores = writer.write("score_samples", model, columns)
    return writer.builder.op("Sub", scores, writer.builder.constant(model.offset_, np.float64))


@writes("predict", "LocalOutlierFactor")
def _lof_predict(writer: Writer, model: Any, columns: Columns) -> str:
    builder = writer.builder
    decision = writer.write("decision", model, columns)
    flat = builder.op("Reshape", decision, builder.constant([-1], np.int64))
    outside = builder.op("Less", flat, builder.constant(0.0, np.float64))
    return builder.op(
        "Where", outside, builder.constant(-1, np.int64), builder.constant(1, np.int64)
    )


# ---- centers


@writes("predict", "AffinityPropagation", "MeanShift")
def _nearest_center(writer: Writer, model: Any, columns: Columns) -> str:
    if not len(getattr(model, "cluster_centers_", ())):
        raise unsupported(model, "it found no clusters")
    squared = squared_distances(writer, columns, model.cluster_centers_)
    return writer.builder.op("ArgMin", squared, axis=1, keepdims=0)


@writes("predict", "Birch")
def _birch_predict(writer: Writer, model: Any, columns: Columns) -> str:
    builder = writer.builder
    squared = squared_distances(writer, columns, model.subcluster_centers_)
    position = builder.op("ArgMin", squared, axis=1, keepdims=0)
    labels = builder.constant(model.subcluster_labels_, np.int64)
    return builder.op("Gather", labels, position, axis=0)


@writes("transform", "Birch")
def _birch_transform(writer: Writer, model: Any, columns: Columns) -> Columns:
    centers = model.subcluster_centers_
    name = writer.builder.op("Sqrt", squared_distances(writer, columns, centers))
    return writer.new(name, len(centers))


@writes("predict", "BisectingKMeans")
def _bisecting_predict(writer: Writer, model: Any, columns: Columns) -> str:
    builder = writer.builder
    moved = getattr(model, "_X_mean", 0.0)

    def label_of(node: Any) -> str:
        if node.left is None:
            return builder.constant(node.label, np.int64)
        centers = np.vstack([node.left.center, node.right.center]) + moved
        squared = squared_distances(writer, columns, centers)
        side = builder.op("ArgMin", squared, axis=1, keepdims=0)
        return builder.op(
            "Where", builder.cast(side, "int64", "bool"), label_of(node.right), label_of(node.left)
        )

    if model._bisecting_tree.left is None:
        raise unsupported(model, "it has a single cluster")
    return label_of(model._bisecting_tree)


@writes("decision", "NearestCentroid")
def _centroid_decision(writer: Writer, model: Any, columns: Columns) -> str:
    builder = writer.builder
    scores = _centroid_scores(writer, model, columns)
    if len(model.classes_) > 2:
        return scores
    return builder.op("MatMul", scores, builder.constant([[-1.0], [1.0]], np.float64))


def _centroid_scores(writer: Writer, model: Any, columns: Columns) -> str:
    """float64 (N, K): Hastie and others, The Elements of Statistical Learning (2009), 18.2."""
    builder = writer.builder
    deviation = np.asarray(model.within_class_std_dev_, np.float64)
    scale = np.where(deviation == 0.0, 1.0, deviation)
    scaled = builder.op("Div", writer.numbers(columns), builder.constant(scale))
    rows = writer.new(scaled, len(columns))
    distance = distances(writer, model, rows, model.centroids_ / scale, model.metric)
    level = builder.constant(2.0 * np.log(model.class_prior_), np.float64)
    return builder.op("Sub", level, builder.op("Mul", distance, distance))


@writes("proba", "NearestCentroid")
def _centroid_proba(writer: Writer, model: Any, columns: Columns) -> str:
    return writer.builder.op("Softmax", _centroid_scores(writer, model, columns), axis=1)


@writes("label", "NearestCentroid")
def _centroid_label(writer: Writer, model: Any, columns: Columns) -> str:
    if np.isclose(model.class_prior_, 1.0 / len(model.classes_)).all():
        distance = distances(writer, model, columns, model.centroids_, model.metric)
        return writer.builder.op("ArgMin", distance, axis=1, keepdims=0)
    scores = _centroid_scores(writer, model, columns)
    return writer.builder.op("ArgMax", scores, axis=1, keepdims=0)


# ---- embeddings and labels along neighbors


@writes("transform", "Isomap")
def _isomap(writer: Writer, model: Any, columns: Columns) -> Columns:
    builder = writer.builder
    if model.n_neighbors is None:
        raise unsupported(model, "its neighbors are those within a radius")
    fitted = model.nbrs_
    distance, indices = nearest(
        writer, _to_fitted(writer, fitted, columns), int(fitted.n_neighbors)
    )
    table = np.asarray(model.dist_matrix_, np.float64)
    onward = builder.op("Gather", builder.constant(table), indices, axis=0)
    first = builder.op("Unsqueeze", distance, builder.constant([2], np.int64))
    length = builder.op("Add", onward, first)
    shortest = builder.op("ReduceMin", length, builder.constant([1], np.int64), keepdims=0)
    squared = builder.op("Mul", shortest, shortest)
    kernel = builder.op("Mul", squared, builder.constant(-0.5, np.float64))
    return writer.transform(model.kernel_pca_, writer.new(kernel, len(table)))


@writes("proba", "LabelPropagation", "LabelSpreading")
def _propagated_proba(writer: Writer, model: Any, columns: Columns) -> str:
    builder = writer.builder
    labels = np.asarray(model.label_distributions_, np.float64)
    if model.kernel == "rbf":
        squared = squared_distances(writer, columns, np.asarray(model.X_, np.float64))
        scaled = builder.op("Mul", squared, builder.constant(-float(model.gamma), np.float64))
        weights = builder.op("MatMul", builder.op("Exp", scaled), builder.constant(labels))
    elif model.kernel == "knn":
        distance = _to_fitted(writer, model.nn_fit, columns)
        _, indices = nearest(writer, distance, int(model.nn_fit.n_neighbors))
        chosen = builder.op("Gather", builder.constant(labels), indices, axis=0)
        weights = builder.op("ReduceSum", chosen, builder.constant([1], np.int64), keepdims=0)
    else:
        raise unsupported(model, "its kernel is computed in Python")
    total = builder.op("ReduceSum", weights, builder.constant([1], np.int64))
    return builder.op("Div", weights, total)
