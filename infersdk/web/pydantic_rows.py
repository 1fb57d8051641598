"""A model's rows as a pydantic model, made from its signature: for endpoints that frameworks check themselves."""

from __future__ import annotations

import keyword
import re
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, create_model
from pydantic import Field as RowField

from infersdk.types import Field, Signature

__all__ = ["Row", "row_model"]

_TYPES: dict[str, Any] = {"float": float, "int": int, "bool": bool, "string": str}


class Row(BaseModel):
    """One row of a model; ``predictor.predict(row.model_dump())``."""

    # Strict as the model is: "5.1" is no number. Fields may be called model_this and model_that.
    model_config = ConfigDict(
        strict=True, extra="forbid", populate_by_name=True, protected_namespaces=()
    )

    def model_dump(self, *, by_alias: bool | None = True, **options: Any) -> dict[str, Any]:
        """As of every pydantic model, but by the fields' own names, which the Predictor knows."""
        return super().model_dump(by_alias=by_alias, **options)


def row_model(name: str, signature: Signature) -> type[Row]:
    """Make the pydantic model of a model's rows.

    Parameters
    ----------
    name : str
        The model's; "churn" gives ChurnRow.
    signature : Signature

    Raises
    ------
    TypeError
        Its rows have no named fields.
    """
    if not signature.fields:
        takes = "texts: take a `str`" if signature.container == "text" else "no named fields"
        raise TypeError(
            f"Model `{name}` has no row model, as it takes {takes}. Take its rows as the Predictor "
            "takes them, e.g. `list[float]`"
        )
    title = "".join(part.capitalize() for part in re.split(r"[^0-9A-Za-z]+", name)) + "Row"
    if not title.isidentifier():
        title = "Model" + title
    fields: dict[str, Any] = {}
    for item in signature.fields:
        required = item.input is not None or all(other.input is None for other in signature.fields)
        type_ = _type(item)
        fields[_identifier(item.name, fields)] = (
            (type_, RowField(alias=item.name))
            if required
            else (type_ | None, RowField(default=None, alias=item.name))
        )
    return create_model(title, __base__=Row, **fields)


def _type(item: Field) -> Any:
    if item.categories is not None and item.unknown == "refuse":
        type_: Any = Literal[item.categories]
    else:
        type_ = _TYPES[item.dtype]
    return type_ if item.missing == "refuse" else type_ | None


def _identifier(name: str, taken: dict[str, Any]) -> str:
    """The field's name in Python: "sepal length (cm)" becomes sepal_length_cm."""
    made = re.sub(r"\W+", "_", name).strip("_") or "field"
    if made[0].isdigit():
        made = f"field_{made}"
    if keyword.iskeyword(made) or hasattr(Row, made):
        made += "_"
    unique, number = made, 2
    while unique in taken:
        unique, number = f"{made}_{number}", number + 1
    return unique
