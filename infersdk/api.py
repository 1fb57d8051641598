"""load() and convert(): where the rooms are put together.

What the convert room holds is imported when a model is: it is the larger half of the package, and a
worker that has not loaded a model yet need not pay for it. The room itself, which is empty, is imported
first of all: a package puts itself in its parent's namespace when it is first imported, and later that
would take `infersdk.convert` away from the function.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeVar

import infersdk.convert  # noqa: F401
from infersdk.artifact import Artifact
from infersdk.errors import ConversionError, ParityError
from infersdk.options import Batching, Execution
from infersdk.runtime import Predictor

__all__ = ["convert", "load"]

_OwnFunction = TypeVar("_OwnFunction", bound=Callable[..., Any])


def load(
    model: Any,
    *,
    example: Any = None,
    name: str | None = None,
    on_mismatch: Literal["fallback", "raise", "warn"] = "fallback",
    execution: Execution | None = None,
    batching: Batching | None = None,
    opset: int | None = None,
    trust: bool | Sequence[str] = False,
    precision: Literal["fp16", "int8", "int4"] | None = None,
    max_drop: float = 0.01,
) -> Predictor:
    """Make a Predictor of any trained model.

    The model is converted to ONNX and the conversion proven on the example and on rows made up around
    the places where conversions go wrong. Where it cannot be converted faithfully, the Predictor runs
    the model as it is; ``predictor.plan`` says which and why.

    Parameters
    ----------
    model : object
        A trained model of any supported framework: scikit-learn, XGBoost, LightGBM, CatBoost, PyTorch,
        Lightning, skorch, Keras, TensorFlow, JAX, transformers, sentence-transformers, statsmodels,
        Spark ML, LIBSVM, Core ML; the path of a model file or folder; an ``.onnx`` file's bytes, or an
        ``onnx.ModelProto``. docs/conversion.md says what to pass of each.
    example : rows, optional
        Rows as the model takes them, best a few hundred of its training data. Without it the rows of
        the proof are made up from what the model itself knows.
    name : str, optional
        The model's name in messages and metrics; by default its type's or its file's.
    on_mismatch : {"fallback", "raise", "warn"}
        What happens when the converted model answers differently or cannot be written: serve the
        source model as it is, raise, or keep the converted model and warn.
    execution : Execution, optional
        Threads, devices, GIL and calibration.
    batching : Batching, optional
        How concurrent calls share runs; measured by default.
    opset : int, optional
        ONNX operator set of the conversion; by default the converter's own choice.
    trust : bool or sequence of str
        What a file may bring along that is more than data. True: anything, so that pickled and joblib
        files can be loaded; a pickle can run any code. Names: the types that a file may hold beside
        those of scikit-learn and numpy, and the ``module:function`` that it may call.
    precision : {"fp16", "int8", "int4"}, optional
        Keep the model in fewer bits, calibrated and measured on the example;
        ``predictor.artifact.precision`` has size, speed and accuracy beside those in full precision.
    max_drop : float
        How far fewer bits may take answers from those in full precision: the share of rows with another
        label, or 1 - R² of continuous answers (docs/precision.md). What goes further is refused.

    Returns
    -------
    Predictor

    Raises
    ------
    UnsupportedModelError
        No converter knows the model's type, or it is not fitted.
    ConversionError, ParityError
        Under ``on_mismatch="raise"`` only.
    PrecisionError
        `precision` does not apply to the model, or its answers move by more than `max_drop`.
    InputError
        The source model itself refuses the example.
    ArtifactError
        The file is damaged or unsafe.
    MissingDependencyError
        ONNX Runtime or a converter's package is not installed; the message names the extra.

    Examples
    --------
    >>> import infersdk
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> X, y = load_iris(return_X_y=True)
    >>> iris = infersdk.load(LogisticRegression(max_iter=500).fit(X, y), example=X)
    >>> iris.predict(X[:3])
    array([0, 0, 0])
    """
    from infersdk.convert import precision as fewer_bits
    from infersdk.convert.conversion import convert_model

    fewer_bits.check_options(precision, example, max_drop)
    conversion = convert_model(
        model, example=example, name=name, on_mismatch=on_mismatch, opset=opset, trust=trust
    )
    if precision is not None:
        conversion = fewer_bits.reduce(conversion, precision, example=example, max_drop=max_drop)
    return Predictor(conversion, execution=execution, batching=batching, example=example)


class _Convert:
    """Convert a trained model to a proven ONNX model, to be saved and served elsewhere.

    Called like a function, ``infersdk.convert(model, example=X)``; see :meth:`__call__`.
    """

    def __call__(
        self,
        model: Any,
        *,
        example: Any = None,
        name: str | None = None,
        on_mismatch: Literal["raise", "warn"] = "raise",
        opset: int | None = None,
        trust: bool | Sequence[str] = False,
        precision: Literal["fp16", "int8", "int4"] | None = None,
        max_drop: float = 0.01,
    ) -> Artifact:
        """Convert a trained model to a proven ONNX model, to be saved and served elsewhere.

        Parameters
        ----------
        model, example, name, opset, trust, precision, max_drop
            As for :func:`load`.
        on_mismatch : {"raise", "warn"}
            What happens when the converted model answers differently.

        Returns
        -------
        Artifact
            ``artifact.save("model.onnx")`` writes it; ``artifact.parity`` is the proof.

        Raises
        ------
        ConversionError
            The model cannot be converted, or not as a whole; ParityError where it answers differently.
        UnsupportedModelError, PrecisionError, InputError, ArtifactError, MissingDependencyError
            As :func:`load`.
        """
        if on_mismatch not in ("raise", "warn"):
            raise ValueError(f"Expected on_mismatch to be 'raise' or 'warn', got {on_mismatch!r}")
        from infersdk.convert import precision as fewer_bits
        from infersdk.convert.conversion import convert_model

        fewer_bits.check_options(precision, example, max_drop)
        conversion = convert_model(
            model, example=example, name=name, on_mismatch=on_mismatch, opset=opset, trust=trust
        )
        if conversion.artifact is None:
            if conversion.parity is not None:
                raise ParityError(conversion.plan.reason, conversion.parity)
            raise ConversionError(conversion.plan.reason)
        if conversion.sources:
            raise ConversionError(
                f"The model is no ONNX model as a whole: {conversion.plan}\nServe it with "
                "infersdk.load() and save that, or give the parts an ONNX form of their own with "
                "@infersdk.convert.register"
            )
        if precision is not None:
            conversion = fewer_bits.reduce(
                conversion, precision, example=example, max_drop=max_drop
            )
        assert conversion.artifact is not None
        return conversion.artifact

    def register(
        self,
        cls: type,
        *,
        method: Literal["transform", "predict", "predict_proba", "decision_function"] = "transform",
    ) -> Callable[[_OwnFunction], _OwnFunction]:
        """Give an estimator of your own an ONNX form.

        Decorates a function ``f(op, estimator, x)`` that writes what the method answers: ``op`` has every
        ONNX operator as a function, ``estimator`` is the fitted one, ``x`` its input as a tensor, float64
        (or string) of shape (N, n_columns), with Python's arithmetic. It returns a tensor (N, k). Wherever
        an estimator of exactly this class is part of a model, the function is used, and checked against
        the estimator itself.

        Parameters
        ----------
        cls : type
            The estimator's class.
        method : {"transform", "predict", "predict_proba", "decision_function"}
            The method that the function writes; ``predict`` of a classifier follows from
            ``predict_proba``.

        Raises
        ------
        TypeError
            `cls` is no class.
        ValueError
            The method is unknown.

        Examples
        --------
        >>> import infersdk, numpy as np
        >>> from sklearn.base import BaseEstimator, TransformerMixin
        >>> class Share(TransformerMixin, BaseEstimator):
        ...     def fit(self, X, y=None):
        ...         self.total_ = np.sum(X, axis=0)
        ...         return self
        ...     def transform(self, X):
        ...         return np.sqrt(X / self.total_)
        >>> @infersdk.convert.register(Share)
        ... def share(op, estimator, x):
        ...     return op.Sqrt(x / estimator.total_)
        """
        from infersdk.convert import custom

        return custom.register(cls, method=method)

    def __repr__(self) -> str:
        return "<function infersdk.convert>"


convert = _Convert()
