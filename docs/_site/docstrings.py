"""What the docstrings of infersdk have that the site's reader of them does not know.

Used by mkdocstrings, as mkdocs.yml says; nothing of infersdk imports it.
"""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object

_ROLE = re.compile(
    r":(?:attr|class|data|exc|func|meth|mod):`~?(?:infersdk\.(?:\w+\.)*(?=[A-Z]))?([^`]+)`"
)
_LITERAL = re.compile(r"::$(?=\n\n +\S)", re.MULTILINE)
_CHOICES = re.compile(r"^([*\w]+(?:, \w+)* : )\{(.+)\}(?:, optional)?$", re.MULTILINE)


class Docstrings(Extension):
    """Roles become code, and numpydoc's choices types: their first would be taken for the default."""

    def on_object(self, *, obj: Object, **kwargs: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)


def as_markdown(docstring: str) -> str:
    """Rewrite the roles, literal blocks and choices of a docstring.

    Examples
    --------
    >>> print(as_markdown('''See :class:`infersdk.runtime.Predictor`::
    ...
    ...     code
    ...
    ... how : {"now", "lazy"}, optional'''))
    See `Predictor`:
    <BLANKLINE>
        code
    <BLANKLINE>
    how : "now" or "lazy"
    """
    docstring = _ROLE.sub(r"`\1`", docstring)
    docstring = _LITERAL.sub(":", docstring)
    return _CHOICES.sub(lambda found: found[1] + " or ".join(found[2].split(", ")), docstring)
