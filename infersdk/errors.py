"""Every exception infersdk raises on purpose.

::

    InferSDKError
    ├── InputError            (ValueError)    a row or tensor does not fit the model's signature
    ├── ConversionError       (ValueError)    a model cannot be turned into a faithful ONNX model
    │   ├── UnsupportedModelError (TypeError)   no converter knows this type or configuration
    │   ├── ParityError                         converted, but it answers differently from the source
    │   └── PrecisionError                      fewer bits do not apply, or change the answers too much
    ├── ArtifactError         (ValueError)    a model file is truncated, changed, oversized or unsafe
    ├── MissingDependencyError (ImportError)  an optional package is needed; names the extra to install
    ├── SessionError          (RuntimeError)  ONNX Runtime could not load or run the model
    ├── OverloadedError       (RuntimeError)  refused at once: the queue is full, or too long for the deadline
    ├── DeadlineError         (TimeoutError)  the call's time ran out before its answer was there
    ├── AbandonedError        (RuntimeError)  the caller said that nobody waits for the answer any more
    ├── ClosedError           (RuntimeError)  the Predictor was used after close()
    └── UnknownModelError     (KeyError)      no model of that name was declared

Each class also inherits the builtin a caller would expect, so that ``except ValueError`` works.
Messages say what was expected, what came, where, and what to do.
"""

from __future__ import annotations

__all__ = [
    "AbandonedError",
    "ArtifactError",
    "ClosedError",
    "ConversionError",
    "DeadlineError",
    "InferSDKError",
    "InputError",
    "MissingDependencyError",
    "OverloadedError",
    "ParityError",
    "PrecisionError",
    "SessionError",
    "UnknownModelError",
    "UnsupportedModelError",
]


class InferSDKError(Exception):
    """Base class of every exception that infersdk raises on purpose."""


class InputError(InferSDKError, ValueError):
    """A row or tensor does not fit the model's signature.

    Parameters
    ----------
    message : str
        The whole sentence shown to the user.
    model : str, optional
        Name of the model.
    field : str, optional
        The row's field, or the model's input, that is at fault.
    row : int, optional
        Zero-based index of the row at fault, where the input has several.
    expected, given : str, optional
        What the signature asks for and what came.
    """

    def __init__(
        self,
        message: str,
        *,
        model: str | None = None,
        field: str | None = None,
        row: int | None = None,
        expected: str | None = None,
        given: str | None = None,
    ) -> None:
        super().__init__(message)
        self.model = model
        self.field = field
        self.row = row
        self.expected = expected
        self.given = given

    @classmethod
    def mismatch(
        cls,
        *,
        expected: str,
        given: str,
        model: str | None = None,
        field: str | None = None,
        row: int | None = None,
        hint: str | None = None,
    ) -> InputError:
        """Build the usual sentence: expected, given, where, and what to do."""
        where = []
        if field is not None:
            where.append(f"`{field}`")
        if row is not None:
            where.append(f"row {row}")
        if model is not None:
            where.append(f"model `{model}`")
        message = f"Expected {expected}, got {given}"
        if where:
            message += " - " + ", ".join(where)
        if hint:
            message += f". {hint}"
        return cls(message, model=model, field=field, row=row, expected=expected, given=given)

    def __reduce__(self) -> tuple[object, ...]:
        state = {
            "model": self.model,
            "field": self.field,
            "row": self.row,
            "expected": self.expected,
            "given": self.given,
        }
        return (_rebuild_input_error, (type(self), self.args[0], state))


def _rebuild_input_error(
    cls: type[InputError], message: str, state: dict[str, object]
) -> InputError:
    return cls(message, **state)  # type: ignore[arg-type]


class ConversionError(InferSDKError, ValueError):
    """A model cannot be turned into a faithful ONNX model."""


class UnsupportedModelError(ConversionError, TypeError):
    """No converter knows this model's type, or this configuration of it."""


class ParityError(ConversionError):
    """The converted model answers differently from its source.

    Attributes
    ----------
    report : infersdk.types.ParityReport or None
        The comparison that failed.
    """

    def __init__(self, message: str, report: object | None = None) -> None:
        super().__init__(message)
        self.report = report


class PrecisionError(ConversionError):
    """Fewer bits do not apply to this model, or change its answers more than was allowed.

    Attributes
    ----------
    report : infersdk.types.PrecisionReport or None
        What was measured; None where there was nothing to measure.
    """

    def __init__(self, message: str, report: object | None = None) -> None:
        super().__init__(message)
        self.report = report


class ArtifactError(InferSDKError, ValueError):
    """A model file is truncated, changed, oversized or unsafe to open."""


class MissingDependencyError(InferSDKError, ImportError):
    """An optional package is needed; the message names the extra that installs it."""

    @classmethod
    def for_extra(cls, package: str, extra: str, purpose: str) -> MissingDependencyError:
        """Build the usual sentence, naming the package, the purpose and the extra."""
        return cls(
            f"{purpose} needs the package `{package}`, which is not installed. "
            f'Install it with: pip install "infersdk[{extra}]"'
        )


class SessionError(InferSDKError, RuntimeError):
    """ONNX Runtime could not load or run the model.

    Attributes
    ----------
    model : str or None
        Name of the model.
    code : int
        ONNX Runtime's error code (0 where the error is not its own).
    """

    def __init__(self, message: str, *, model: str | None = None, code: int = 0) -> None:
        super().__init__(message)
        self.model = model
        self.code = code


class OverloadedError(InferSDKError, RuntimeError):
    """A call was refused at once, unrun, because its answer would come too late or the queue is full.

    A web app answers 503 with ``Retry-After``.

    Attributes
    ----------
    retry_after_s : float
        Seconds after which a call like this one would be taken, as far as the cost model knows.
    model : str or None
        Name of the model.
    """

    def __init__(
        self, message: str, *, retry_after_s: float = 0.0, model: str | None = None
    ) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.model = model


class DeadlineError(InferSDKError, TimeoutError):
    """The time a call was given ran out before its answer was there.

    A call that was still waiting was taken out of the queue and never run.

    Attributes
    ----------
    timeout_s : float
        The seconds it was given.
    model : str or None
        Name of the model.
    """

    def __init__(self, message: str, *, timeout_s: float = 0.0, model: str | None = None) -> None:
        super().__init__(message)
        self.timeout_s = timeout_s
        self.model = model


class AbandonedError(InferSDKError, RuntimeError):
    """The caller said, while the call waited, that nobody wants its answer any more.

    A web client that has gone away, say. A call that was still waiting was taken out of the queue and
    never run.

    Attributes
    ----------
    model : str or None
        Name of the model.
    """

    def __init__(self, message: str, *, model: str | None = None) -> None:
        super().__init__(message)
        self.model = model


class ClosedError(InferSDKError, RuntimeError):
    """A Predictor or Session was used after ``close()``."""


class UnknownModelError(InferSDKError, KeyError):
    """No model of that name was declared."""

    def __str__(self) -> str:
        return str(self.args[0])  # a KeyError shows the repr
