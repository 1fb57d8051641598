"""Kernels between a row and the rows of training: ridge, PCA, densities, Gaussian processes, approximations."""

from __future__ import annotations

from typing import Any

import numpy as np

from infersdk.convert.sklearn_ensembles import delegate
from infersdk.convert.sklearn_functions import erf
from infersdk.convert.sklearn_graph import Columns
from infersdk.convert.sklearn_linear import affine, kernel_matrix, two_classes
from infersdk.convert.sklearn_neighbors import distances, exact_squares
from infersdk.convert.sklearn_numeric import normalized
from infersdk.convert.sklearn_writer import Kind, Writer, unsupported, writes

# ---- sklearn.metrics.pairwise


def _pairwise(
    writer: Writer,
    model: Any,
    columns: Columns,
    points: Any,
    *,
    gamma: float | None,
    degree: float | None,
    coef0: float | None,
) -> str:
    """float64 (N, len(points)): ``pairwise_kernels`` of a model's kernel; None is a default."""
    points = points.toarray() if hasattr(points, "toarray") else points
    points = np.asarray(points, np.float64)
    kind = model.kernel
    gamma = 1.0 / points.shape[1] if gamma is None else float(gamma)
    if kind == "precomputed":
        return writer.numbers(columns)
    if kind == "cosine":
        rows = normalized(writer, writer.numbers(columns), "l2")
        size = np.linalg.norm(points, axis=1, keepdims=True)
        return affine(writer, rows, (points / np.where(size == 0.0, 1.0, size)).T, None)
    builder = writer.builder
    if kind == "laplacian":
        distance = distances(writer, model, columns, points, "manhattan")
        return builder.op("Exp", builder.op("Mul", distance, builder.constant(-gamma, np.float64)))
    name = None
    if isinstance(kind, str):
        name = kernel_matrix(
            writer,
            columns,
            points,
            kind,
            gamma=gamma,
            degree=3.0 if degree is None else degree,
            coef0=1.0 if coef0 is None else coef0,
        )
    if name is None:
        raise unsupported(model, f"kernel={kind!r} is not written")
    return name


@writes("predict", "KernelRidge")
def _kernel_ridge_predict(writer: Writer, model: Any, columns: Columns) -> str:
    name = _pairwise(
        writer,
        model,
        columns,
        model.X_fit_,
        gamma=model.gamma,
        degree=model.degree,
        coef0=model.coef0,
    )
    dual = np.asarray(model.dual_coef_, np.float64)
    return affine(writer, name, dual.reshape(len(dual), -1), None)


@writes("transform", "KernelPCA")
def _kernel_pca(writer: Writer, model: Any, columns: Columns) -> Columns:
    name = _pairwise(
        writer,
        model,
        columns,
        model.X_fit_,
        gamma=getattr(model, "gamma_", model.gamma),
        degree=model.degree,
        coef0=model.coef0,
    )
    centered = _centered(writer, model._centerer, name)
    values = np.asarray(model.eigenvalues_, np.float64)
    safe = np.where(values == 0.0, 1.0, values)
    scaled = np.where(values == 0.0, 0.0, model.eigenvectors_ / np.sqrt(safe))
    return writer.new(affine(writer, centered, scaled, None), len(values))


@writes("transform", "KernelCenterer")
def _kernel_centerer(writer: Writer, model: Any, columns: Columns) -> Columns:
    return writer.new(_centered(writer, model, writer.numbers(columns)), len(columns))


def _centered(writer: Writer, centerer: Any, name: str) -> str:
    builder = writer.builder
    rows = np.asarray(centerer.K_fit_rows_, np.float64)
    total = builder.op("ReduceSum", name, builder.constant([1], np.int64))
    mean = builder.op("Div", total, builder.constant(float(len(rows)), np.float64))
    name = builder.op("Sub", builder.op("Sub", name, builder.constant(rows)), mean)
    return builder.op("Add", name, builder.constant(float(centerer.K_fit_all_), np.float64))


@writes("transform", "Nystroem")
def _nystroem(writer: Writer, model: Any, columns: Columns) -> Columns:
    if model.kernel_params:
        raise unsupported(model, "kernel_params are not read")
    name = _pairwise(
        writer,
        model,
        columns,
        model.components_,
        gamma=model.gamma,
        degree=model.degree,
        coef0=model.coef0,
    )
    weights = np.asarray(model.normalization_, np.float64).T
    return writer.new(affine(writer, name, weights, None), weights.shape[1])


@writes("score_samples", "KernelDensity")
def _kernel_density(writer: Writer, model: Any, columns: Columns) -> str:
    # With tolerances the tree stops early, at a value that only the tree knows.
    if model.kernel != "gaussian" or model.rtol or model.atol or model.metric != "euclidean":
        raise unsupported(model, "only the Gaussian kernel without tolerances is written")
    builder = writer.builder
    points = np.asarray(model.tree_.data, np.float64)
    width = float(model.bandwidth_)
    squared = exact_squares(writer, columns, points)
    exponent = builder.op("Mul", squared, builder.constant(-0.5 / width**2, np.float64))
    weights = model.tree_.sample_weight
    total = float(len(points))
    if weights is not None:
        total = float(np.sum(weights))
        exponent = builder.op("Add", exponent, builder.constant(np.log(weights), np.float64))
    summed = builder.op("ReduceLogSumExp", exponent, builder.constant([1], np.int64))
    level = -points.shape[1] * (np.log(width) + 0.5 * np.log(2.0 * np.pi)) - np.log(total)
    return builder.op("Add", summed, builder.constant(level, np.float64))


# ---- kernel approximations


@writes("transform", "RBFSampler")
def _rbf_sampler(writer: Writer, model: Any, columns: Columns) -> Columns:
    return _cosines(writer, model, writer.numbers(columns))


@writes("transform", "SkewedChi2Sampler")
def _skewed_chi2(writer: Writer, model: Any, columns: Columns) -> Columns:
    builder = writer.builder
    # Numbers up to -skewedness, which scikit-learn refuses, become NaN.
    skewed = builder.constant(float(model.skewedness), np.float64)
    name = builder.op("Log", builder.op("Add", writer.numbers(columns), skewed))
    return _cosines(writer, model, name)


def _cosines(writer: Writer, model: Any, name: str) -> Columns:
    builder = writer.builder
    weights = np.asarray(model.random_weights_, np.float64)
    angle = affine(writer, name, weights, np.asarray(model.random_offset_, np.float64))
    size = builder.constant(np.sqrt(2.0 / weights.shape[1]), np.float64)
    return writer.new(builder.op("Mul", builder.op("Cos", angle), size), weights.shape[1])


@writes("transform", "AdditiveChi2Sampler")
def _additive_chi2(writer: Writer, model: Any, columns: Columns) -> Columns:
    # Vedaldi and Zisserman (2011); a zero stays zero in every component.
    builder = writer.builder
    interval = model.sample_interval
    if interval is None:
        interval = {1: 0.8, 2: 0.5, 3: 0.4}[model.sample_steps]
    numbers = writer.numbers(columns)
    zero = builder.constant(0.0, np.float64)
    absent = builder.op("Equal", numbers, zero)
    safe = builder.op("Where", absent, builder.constant(1.0, np.float64), numbers)
    logarithm = builder.op("Mul", builder.op("Log", safe), builder.constant(float(interval)))
    parts = [builder.op("Sqrt", builder.op("Mul", numbers, builder.constant(float(interval))))]
    for step in range(1, model.sample_steps):
        factor = 2.0 * interval / np.cosh(np.pi * step * interval)
        size = builder.op("Sqrt", builder.op("Mul", numbers, builder.constant(float(factor))))
        angle = builder.op("Mul", logarithm, builder.constant(float(step)))
        for op in ("Cos", "Sin"):
            part = builder.op("Mul", size, builder.op(op, angle))
            parts.append(builder.op("Where", absent, zero, part))
    name = parts[0] if len(parts) == 1 else builder.op("Concat", *parts, axis=1)
    return writer.new(name, len(parts) * len(columns))


@writes("transform", "PolynomialCountSketch")
def _count_sketch(writer: Writer, model: Any, columns: Columns) -> Columns:
    # Pham and Pagh (2013): the sketches' convolution, which is the product of their Fourier transforms.
    builder = writer.builder
    n_columns, width = len(columns), int(model.n_components)
    frequency = np.outer(np.arange(width), np.arange(width)) * (2.0 * np.pi / width)
    real, imaginary = None, None
    numbers = writer.numbers(columns)
    for places, signs in zip(model.indexHash_, model.bitHash_, strict=True):
        sketch = np.zeros((n_columns + 1, width))
        scale = np.sqrt([model.gamma] * n_columns + [model.coef0])
        used = len(places)
        sketch[np.arange(used), places] = signs * scale[:used]
        cosine, sine = sketch @ np.cos(frequency), sketch @ -np.sin(frequency)
        a = affine(writer, numbers, cosine[:-1], cosine[-1])
        b = affine(writer, numbers, sine[:-1], sine[-1])
        if real is None or imaginary is None:
            real, imaginary = a, b
            continue
        real, imaginary = (
            builder.op("Sub", builder.op("Mul", real, a), builder.op("Mul", imaginary, b)),
            builder.op("Add", builder.op("Mul", real, b), builder.op("Mul", imaginary, a)),
        )
    if real is None or imaginary is None:
        raise unsupported(model, "degree=0")
    back = affine(writer, real, np.cos(frequency) / width, None)
    other = affine(writer, imaginary, np.sin(frequency) / width, None)
    return writer.new(builder.op("Sub", back, other), width)


# ---- Gaussian processes

_LAPLACE = "_BinaryGaussianProcessClassifierLaplace"


def _covariance(
    writer: Writer, model: Any, kernel: Any, columns: Columns, points: np.ndarray
) -> str:
    """float64 (N, len(points)) or a scalar: the kernel between rows and the rows of training.

    Raises
    ------
    UnsupportedModelError
        The kernel, or its parameters, are not written.
    """
    builder = writer.builder
    kind = type(kernel).__name__ if type(kernel).__module__.startswith("sklearn.") else ""

    def number(value: float) -> str:
        return builder.constant(float(value), np.float64)

    def minus_half(squared: str) -> str:
        return builder.op("Exp", builder.op("Mul", squared, number(-0.5)))

    if kind in ("Sum", "Product"):
        parts = [
            _covariance(writer, model, part, columns, points) for part in (kernel.k1, kernel.k2)
        ]
        return builder.op("Add" if kind == "Sum" else "Mul", *parts)
    if kind == "Exponentiation":
        inner = _covariance(writer, model, kernel.kernel, columns, points)
        return builder.op("Pow", inner, number(kernel.exponent))
    if kind == "ConstantKernel":
        return number(kernel.constant_value)
    if kind == "WhiteKernel":
        return number(0.0)
    if kind == "DotProduct":
        product = affine(writer, writer.numbers(columns), points.T, None)
        return builder.op("Add", product, number(kernel.sigma_0**2))
    if kind in ("RBF", "Matern"):
        scale = np.broadcast_to(np.asarray(kernel.length_scale, np.float64), (points.shape[1],))
        scaled = builder.op("Div", writer.numbers(columns), builder.constant(scale.copy()))
        squared = exact_squares(writer, writer.new(scaled, len(columns)), points / scale)
        if kind == "RBF" or kernel.nu == np.inf:
            return minus_half(squared)
        distance = builder.op("Sqrt", squared)
        if kernel.nu == 0.5:
            return builder.op("Exp", builder.op("Neg", distance))
        if kernel.nu in (1.5, 2.5):
            k = builder.op("Mul", distance, number(np.sqrt(2.0 * kernel.nu)))
            factor = builder.op("Add", k, number(1.0))
            if kernel.nu == 2.5:
                third = builder.op("Div", builder.op("Mul", k, k), number(3.0))
                factor = builder.op("Add", factor, third)
            return builder.op("Mul", factor, builder.op("Exp", builder.op("Neg", k)))
    if kind == "RationalQuadratic":
        squared = exact_squares(writer, columns, points)
        scale = 2.0 * kernel.alpha * kernel.length_scale**2
        base = builder.op("Add", builder.op("Div", squared, number(scale)), number(1.0))
        return builder.op("Pow", base, number(-kernel.alpha))
    if kind == "ExpSineSquared":
        distance = builder.op("Sqrt", exact_squares(writer, columns, points))
        angle = builder.op("Mul", distance, number(np.pi / kernel.periodicity))
        sine = builder.op("Div", builder.op("Sin", angle), number(kernel.length_scale))
        squared = builder.op("Mul", sine, sine)
        return builder.op("Exp", builder.op("Mul", squared, number(-2.0)))
    raise unsupported(model, f"the kernel {kernel} is not written")


def _variance(writer: Writer, kernel: Any, columns: Columns) -> str:
    """float64 (N, 1) or a scalar: the kernel of each row with itself; kernels as in :func:`_covariance`."""
    builder = writer.builder
    kind = type(kernel).__name__
    if kind in ("Sum", "Product"):
        parts = [_variance(writer, part, columns) for part in (kernel.k1, kernel.k2)]
        return builder.op("Add" if kind == "Sum" else "Mul", *parts)
    if kind == "Exponentiation":
        inner = _variance(writer, kernel.kernel, columns)
        return builder.op("Pow", inner, builder.constant(float(kernel.exponent)))
    if kind == "DotProduct":
        axis = builder.constant([1], np.int64)
        squared = builder.op("ReduceSumSquare", writer.numbers(columns), axis)
        return builder.op("Add", squared, builder.constant(float(kernel.sigma_0**2)))
    level = {"ConstantKernel": "constant_value", "WhiteKernel": "noise_level"}.get(kind)
    return builder.constant(1.0 if level is None else float(getattr(kernel, level)), np.float64)


@writes("predict", "GaussianProcessRegressor")
def _gaussian_process(writer: Writer, model: Any, columns: Columns) -> str:
    kernel = _row_covariance(writer, model, columns)
    dual = np.asarray(model.alpha_, np.float64).reshape(len(model.X_train_), -1)
    scale = np.broadcast_to(np.asarray(model._y_train_std, np.float64), (dual.shape[1],))
    offset = np.broadcast_to(np.asarray(model._y_train_mean, np.float64), (dual.shape[1],))
    mean = affine(writer, kernel, dual, None)
    builder = writer.builder
    scaled = builder.op("Mul", mean, builder.constant(scale.copy()))
    return builder.op("Add", scaled, builder.constant(offset.copy()))


def _row_covariance(writer: Writer, model: Any, columns: Columns) -> str:
    points = np.asarray(model.X_train_, np.float64)
    kernel = _covariance(writer, model, model.kernel_, columns, points)
    # A kernel that is constant everywhere is a scalar until here.
    squared = exact_squares(writer, columns, points)
    zero = writer.builder.constant(0.0, np.float64)
    return writer.builder.op("Add", kernel, writer.builder.op("Mul", squared, zero))


def _latent_mean(writer: Writer, model: Any, columns: Columns) -> str:
    """float64 (N, 1): Rasmussen and Williams, Gaussian Processes for Machine Learning, algorithm 3.2."""
    weights = np.asarray(model.y_train_ - model.pi_, np.float64).reshape(-1, 1)
    return affine(writer, _row_covariance(writer, model, columns), weights, None)


@writes("label", _LAPLACE)
def _laplace_label(writer: Writer, model: Any, columns: Columns) -> str:
    builder = writer.builder
    mean = _latent_mean(writer, model, columns)
    flat = builder.op("Reshape", mean, builder.constant([-1], np.int64))
    above = builder.op("Greater", flat, builder.constant(0.0, np.float64))
    return builder.cast(above, "bool", "int64")


@writes("proba", _LAPLACE)
def _laplace_proba(writer: Writer, model: Any, columns: Columns) -> str:
    from sklearn.gaussian_process import _gpc

    builder = writer.builder
    mean = _latent_mean(writer, model, columns)
    root = np.linalg.solve(np.asarray(model.L_), np.diag(model.W_sr_))
    spread = affine(writer, _row_covariance(writer, model, columns), root.T, None)
    explained = builder.op("ReduceSumSquare", spread, builder.constant([1], np.int64))
    variance = builder.op("Sub", _variance(writer, model.kernel_, columns), explained)
    # Williams and Barber (1998), appendix A: the logistic function as a sum of five error functions.
    alpha = builder.op("Div", builder.constant(0.5, np.float64), variance)
    lambdas = np.asarray(_gpc.LAMBDAS, np.float64).ravel()
    weights = np.asarray(_gpc.COEFS, np.float64).ravel()
    below = builder.op("Add", alpha, builder.constant(lambdas**2))
    narrow = builder.op("Sqrt", builder.op("Div", alpha, below))
    steps = erf(
        writer,
        builder.op("Mul", builder.op("Mul", mean, builder.constant(lambdas)), narrow),
    )
    total = affine(writer, steps, 0.5 * weights.reshape(-1, 1), np.array([0.5 * weights.sum()]))
    return two_classes(writer, total)


_GAUSSIAN_PROCESS_KINDS: tuple[Kind, ...] = ("label", "proba", "decision")
for _kind in _GAUSSIAN_PROCESS_KINDS:
    delegate(_kind, "base_estimator_", "GaussianProcessClassifier")
