"""What is said when a row does not fit: expected, given, where, and what to do.

Everything shown is cut short, because the values come from outside: a request with a megabyte in a key
or an integer of a million digits must not cost a second of formatting or fill the log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NoReturn

from infersdk.errors import InputError
from infersdk.types import Field, TensorSpec

__all__ = ["MAX_NAMES", "Refusals", "describe", "first_refusal", "name_list"]

MAX_SHOWN = 60
"""Characters of a value's repr that a message shows."""

MAX_NAMES = 20
"""Unknown names that a message shows; missing ones are shown all, since the model bounds their number."""

MAX_CATEGORIES = 5
"""Known categories that a message shows."""

FLOAT_MAX = {"float32": "3.4e38", "float64": "1.8e308"}


def describe(value: object) -> str:
    """Return a short text for a value from outside: its beginning and its type, never more."""
    if value is None:
        return "None"
    kind = type(value).__name__
    if isinstance(value, bool):
        return f"{value} (bool)"
    if isinstance(value, int):
        if value.bit_length() > 128:
            return f"an integer of {value.bit_length()} bits"
        return f"{int(value)} ({kind})"
    if isinstance(value, str):
        text = (
            ascii(value[:MAX_SHOWN]) if _unprintable(value[:MAX_SHOWN]) else repr(value[:MAX_SHOWN])
        )
        return f"{text}{'...' if len(value) > MAX_SHOWN else ''} ({kind})"
    if isinstance(value, (bytes, bytearray)):
        text = repr(bytes(value[:MAX_SHOWN]))
        return f"{text}{'...' if len(value) > MAX_SHOWN else ''} ({kind})"
    dtype, shape = getattr(value, "dtype", None), getattr(value, "shape", None)
    if dtype is not None and isinstance(shape, tuple) and shape:
        text = f"{str(dtype).removeprefix('torch.')} {tuple(shape)}"
        return text if kind == "ndarray" else f"{text} ({kind})"
    if isinstance(value, (Mapping, list, tuple, set, frozenset)):
        return f"a {kind} of {len(value)}"
    try:
        text = repr(value)
    except Exception:
        # The repr of a foreign object may do anything; the type's name is enough to go by.
        return f"an object of type {kind}"
    if len(text) > MAX_SHOWN:
        text = text[:MAX_SHOWN] + "..."
    return text if kind in text else f"{text} ({kind})"


def _unprintable(text: str) -> bool:
    return any(0xD800 <= ord(char) < 0xE000 for char in text)


def name_list(names: Iterable[object], limit: int | None = None) -> str:
    """Return names in backquotes, the first ``limit`` of them."""
    shown = list(names)
    rest = 0 if limit is None else max(0, len(shown) - limit)
    if rest:
        shown = shown[:limit]
    text = ", ".join(f"`{_name(name)}`" for name in shown)
    return f"{text} and {rest} more" if rest else text


def _name(name: object) -> str:
    text = name if isinstance(name, str) else describe(name)
    if _unprintable(text[:MAX_SHOWN]):
        text = ascii(text[:MAX_SHOWN])[1:-1]
    return text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "..."


def first_refusal(bind: Callable[[Any], object], rows: Any) -> list[InputError]:
    """The one error that binding raises, as a list; an empty one where it raises none."""
    try:
        bind(rows)
    except InputError as error:
        return [error]
    return []


class Refusals:
    """Turns a refusal of :class:`infersdk._native.binder.RowBinder` into an InputError.

    Parameters
    ----------
    fields : sequence of Field
    inputs : sequence of TensorSpec
    model : str
        The model's name.
    """

    def __init__(self, fields: Sequence[Field], inputs: Sequence[TensorSpec], model: str) -> None:
        self._fields = tuple(fields)
        self._dtypes = {spec.name: spec.dtype for spec in inputs}
        self._model = model

    @property
    def model(self) -> str:
        """The model's name."""
        return self._model

    def __call__(self, reason: str, value: Any, field: int | None, row: int | None) -> NoReturn:
        """Raise the InputError for one refused value or row; see RowBinder for the reasons."""
        if field is not None:
            self._refuse_value(reason, value, self._fields[field], row)
        if reason == "names":
            self.refuse_names(value, row=row, what="a row")
        raise self.length_refused(len(value), row=row)

    def length_refused(self, n_values: int, *, row: int | None) -> InputError:
        """The error for a row by position that does not hold one value for each field."""
        return InputError.mismatch(
            expected=f"{len(self._fields)} values, one for each field",
            given=f"{n_values} values",
            row=row,
            model=self._model,
            hint=f"The fields are, in order: {name_list(self._field_names(), MAX_NAMES)}",
        )

    def refuse_names(self, given: Iterable[object], *, row: int | None, what: str) -> NoReturn:
        """Raise for a row or a DataFrame whose names are not the fields'.

        Parameters
        ----------
        given : iterable of object
            The keys or columns that came.
        row : int or None
        what : str
            What holds the names: "a row", "a DataFrame".
        """
        known = self._field_names()
        given = list(given)
        present = set(given)
        missing = [
            field for field in self._fields if field.input is not None and field.name not in present
        ]
        extra = [name for name in given if name not in known]
        hints = []
        if missing and any(field.missing != "refuse" for field in missing):
            hints.append("A field whose value is missing is given as None")
        hints.extend(self._suggestions(extra, present))
        missing_names = [field.name for field in missing]
        if missing:
            plural = "fields" if len(missing) > 1 else "field"
            expected = f"{plural} {name_list(missing_names)}"
            text = f"{what} without {'them' if len(missing) > 1 else 'it'}"
            if extra:
                text += f" but with {name_list(extra, MAX_NAMES)}"
        else:
            expected = "only the model's fields"
            text = f"also {name_list(extra, MAX_NAMES)}"
        first = (missing_names or [_name(name) for name in extra])[0]
        raise InputError.mismatch(
            expected=expected,
            given=text,
            field=first,
            row=row,
            model=self._model,
            hint=". ".join(hints) or None,
        )

    def name_refused(self, name: object, *, row: int | None, given: Iterable[object]) -> InputError:
        """The error for one field of a row that is missing, or not the model's.

        Parameters
        ----------
        name : object
            The field, or the key that is none.
        row : int or None
        given : iterable of object
            All keys of the row.
        """
        fields = {field.name: field for field in self._fields}
        if name in fields:
            field = fields[str(name)]
            hint = "A missing value is given as null" if field.missing != "refuse" else None
            return InputError.mismatch(
                expected=_wanted(field),
                given="no such field",
                field=field.name,
                row=row,
                model=self._model,
                hint=hint,
            )
        hints = self._suggestions([name], set(given))
        return InputError.mismatch(
            expected="only the model's fields",
            given="another one",
            field=_name(name),
            row=row,
            model=self._model,
            hint=hints[0] if hints and hints[0] else None,
        )

    def refuse_rows(
        self, given: str, *, row: int | None = None, hint: str | None = None
    ) -> NoReturn:
        """Raise for rows of a type or shape that no row can be made of."""
        n = len(self._fields)
        raise InputError.mismatch(
            expected=f"a row of {n} {'field' if n == 1 else 'fields'} (a dict, or values in order)"
            if row is not None
            else f"rows of {n} {'field' if n == 1 else 'fields'} "
            f"(a dict, a list of dicts, a DataFrame or an array of shape (n_rows, {n}))",
            given=given,
            row=row,
            model=self._model,
            hint=hint,
        )

    def refuse_dtype(self, field: int, dtype: object) -> NoReturn:
        """Raise for a column of a dtype that the field cannot take."""
        item = self._fields[field]
        raise InputError.mismatch(
            expected=f"{_wanted(item)} column", given=str(dtype), field=item.name, model=self._model
        )

    def _field_names(self) -> dict[str, None]:
        return dict.fromkeys(field.name for field in self._fields)

    def _suggestions(self, extra: Sequence[object], present: set[object]) -> list[str]:
        """Return "Did you mean" sentences; only for a few short names, as matching is not linear."""
        import difflib

        free = [field.name for field in self._fields if field.name not in present]
        suggestions = []
        for name in extra[:3]:
            if isinstance(name, str) and len(name) <= MAX_SHOWN:
                close = difflib.get_close_matches(name, free[:1000], n=1)
                if close:
                    suggestions.append(f"Did you mean `{close[0]}` by `{_name(name)}`?")
        return [" ".join(suggestions)] if suggestions else []

    def _refuse_value(self, reason: str, value: Any, field: Field, row: int | None) -> NoReturn:
        dtype = self._dtypes.get(field.input or "", "float64")
        expected = _wanted(field)
        given = describe(value)
        hint = None
        if reason == "missing":
            hint = "The model does not take missing values here"
        elif reason == "mistyped":
            hint = _conversion_hint(field, value)
        elif reason == "inexact":
            expected = f"a whole number that {dtype} holds exactly"
            hint = "The model would see a different number"
        elif reason == "overflow":
            expected = (
                f"a number up to {FLOAT_MAX[dtype]} ({dtype})"
                if dtype in FLOAT_MAX
                else f"a number that {dtype} can hold"
            )
        elif reason == "infinite":
            expected = f"a finite {'whole ' if field.dtype == 'int' else ''}number"
        elif reason == "surrogate":
            expected = "text that UTF-8 can encode"
            hint = "It holds half of a surrogate pair; decode the text with errors='replace'"
        elif reason == "unknown":
            expected = _categories_text(field)
        raise InputError.mismatch(
            expected=expected, given=given, field=field.name, row=row, model=self._model, hint=hint
        )


def _wanted(field: Field) -> str:
    return {
        "float": "a number",
        "int": "a whole number",
        "bool": "True or False",
        "string": "a str",
    }[field.dtype]


def _categories_text(field: Field) -> str:
    categories = field.categories or ()
    shown = ", ".join(describe(item).rsplit(" (", 1)[0] for item in categories[:MAX_CATEGORIES])
    if len(categories) > MAX_CATEGORIES:
        return f"one of {shown}, ... ({len(categories)} categories)"
    return f"one of {shown}"


def _conversion_hint(field: Field, value: object) -> str | None:
    if field.dtype == "string":
        if isinstance(value, (bytes, bytearray)):
            return "Decode it first: value.decode()"
        return None if isinstance(value, (list, tuple, dict)) else "Convert it first: str(value)"
    if isinstance(value, str):
        if field.dtype == "bool":
            return "Pass True or False"
        return "Convert it first: float(value)"
    if isinstance(value, (list, tuple)):
        return "A dict is one row; many rows are a list of dicts or a DataFrame"
    return None
