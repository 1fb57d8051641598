"""Rows in, answers out: between what an app passes and what a graph takes and gives.

``Binder`` turns rows of any usual form into the graph's input arrays, refusing what the model could
not have seen in training; ``make_answerer`` turns the graph's outputs into what the source model would
have returned; ``SourceBinder`` gives rows in the source model's own container, for models that run in
their own framework. The compiled fast path is ``infersdk._native.binder``.

What counts as one value is the same for every container:

- a "float" field takes any real number, rounded to the model's dtype; "int" a whole one that the dtype
  holds exactly; "bool" True, False, 0 and 1; True and False are 1 and 0 for a number;
- text is never read as a number, nor a number as text;
- None, NaN, pandas.NA and pandas.NaT are missing; infinity is refused unless the field allows it;
- a number too large for the dtype is refused, as is text that UTF-8 cannot encode.
"""

from __future__ import annotations

from infersdk._native import Bound
from infersdk.binding.answers import Answerer, answer, make_answerer
from infersdk.binding.binder import Binder
from infersdk.binding.source import SourceBinder, to_source
from infersdk.binding.tensors import coerce

__all__ = [
    "Answerer",
    "Binder",
    "Bound",
    "SourceBinder",
    "answer",
    "coerce",
    "make_answerer",
    "to_source",
]
