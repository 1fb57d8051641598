"""load() and convert(): where the rooms are put together.

What the convert room holds is imported when a model is: it is the larger half of the package, and a
worker that has not loaded a model yet need not pay for it. The room itself, which is empty, is imported
first of all: a package puts itself in its parent's namespace when it is first imported, and later that
would take `infersdk.convert` away from the function.
"""

from __future__ import annotations

from typing import Any, Literal

import infersdk.convert  # noqa: F401
from infersdk.artifact import Artifact
from infersdk.errors import ConversionError, ParityError
from infersdk.options import Batching, Execution
from infersdk.runtime import Predictor

__all__ = ["convert", "load"]


def load(
    model: Any,
    *,
    example: Any = None,
    name: str | None = None,
    on_mismatch: Literal["fallback", "raise", "warn"] = "fallback",
    execution: Execution | None = None,
    batching: Batching | None = None,
    opset: int | None = None,
) -> Predictor:
    """Make a Predictor of any trained model.

    The model is converted to ONNX and the conversion proven on the example and on rows made up around
    the places where conversions go wrong. Where it cannot be converted faithfully, the Predictor runs
    the model as it is; ``predictor.plan`` says which and why.

    Parameters
    ----------
    model : object
        A fitted scikit-learn, XGBoost or LightGBM model, a PyTorch module, ExportedProgram or
        TorchScript; the path of an ``.onnx`` file (infersdk's own or any other), its bytes, or an
        ``onnx.ModelProto``.
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

    Returns
    -------
    Predictor

    Raises
    ------
    UnsupportedModelError
        No converter knows the model's type, or it is not fitted.
    ConversionError, ParityError
        Under ``on_mismatch="raise"`` only.
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
    from infersdk.convert.conversion import convert_model

    conversion = convert_model(
        model, example=example, name=name, on_mismatch=on_mismatch, opset=opset
    )
    return Predictor(conversion, execution=execution, batching=batching, example=example)


def convert(
    model: Any,
    *,
    example: Any = None,
    name: str | None = None,
    on_mismatch: Literal["raise", "warn"] = "raise",
    opset: int | None = None,
) -> Artifact:
    """Convert a trained model to a proven ONNX model, to be saved and served elsewhere.

    Parameters
    ----------
    model, example, name, opset
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
        The model cannot be converted; ParityError where it answers differently.
    UnsupportedModelError, InputError, ArtifactError, MissingDependencyError
        As :func:`load`.
    """
    if on_mismatch not in ("raise", "warn"):
        raise ValueError(f"Expected on_mismatch to be 'raise' or 'warn', got {on_mismatch!r}")
    from infersdk.convert.conversion import convert_model

    conversion = convert_model(
        model, example=example, name=name, on_mismatch=on_mismatch, opset=opset
    )
    if conversion.artifact is None:
        if conversion.parity is not None:
            raise ParityError(conversion.plan.reason, conversion.parity)
        raise ConversionError(conversion.plan.reason)
    return conversion.artifact
