"""How a function of a list presents itself as one of an item: `texts: list[str]` is read as `texts: str`.

For editors, ``help()`` and frameworks that read signatures. Annotations are not evaluated: those that are text
(``from __future__ import annotations``) are cut as text, so that a name which only type checkers import stays
what it is.
"""

from __future__ import annotations

import ast
import functools
import inspect
import typing
from collections.abc import Callable
from inspect import Parameter, Signature
from typing import Any

__all__ = ["dress", "item_signature", "with_self"]

_CALL_OPTIONS = (
    Parameter("timeout_s", Parameter.KEYWORD_ONLY, default=None, annotation=float | None),
    Parameter("priority", Parameter.KEYWORD_ONLY, default=0, annotation=int),
)


def item_signature(function: Callable[..., Any], *, method: bool = False) -> Signature | None:
    """What one calls: the same names, with the item's type and its answer's where the function says them.

    Parameters
    ----------
    function : callable
        Of a list of items.
    method : bool
        Of ``self`` and a list of items; ``self`` is left out, as it is when looked up on an instance.

    Returns
    -------
    inspect.Signature or None
        None where the function does not say what it takes.
    """
    try:
        given = inspect.signature(function)
    except (TypeError, ValueError, NameError):
        return None
    items = list(given.parameters.values())[int(method)]
    item = Parameter(items.name, Parameter.POSITIONAL_ONLY, annotation=_of_one(items.annotation))
    return Signature((item, *_CALL_OPTIONS), return_annotation=_of_one(given.return_annotation))


def with_self(signature: Signature | None) -> Signature | None:
    """As it is looked up on the class."""
    if signature is None:
        return None
    parameters = (Parameter("self", Parameter.POSITIONAL_ONLY), *signature.parameters.values())
    return signature.replace(parameters=parameters)


def dress(target: Any, function: Callable[..., Any], signature: Signature | None) -> None:
    """Give an object the function's name, documentation and module, and the signature."""
    # Attributes of the function are not taken over: they could be called as the object's own are.
    functools.update_wrapper(target, function, updated=())
    if signature is None:
        return
    target.__signature__ = signature
    annotations = {item.name: item.annotation for item in signature.parameters.values()}
    annotations["return"] = signature.return_annotation
    target.__annotations__ = {
        name: value for name, value in annotations.items() if value is not Parameter.empty
    }


def _of_one(annotation: Any) -> Any:
    """`str` of `list[str]`, `Sequence[str]`, `"tuple[str, ...]"`; empty where there is nothing to cut."""
    if isinstance(annotation, str):
        return _of_one_text(annotation)
    arguments = typing.get_args(annotation)
    if not isinstance(typing.get_origin(annotation), type):
        return Parameter.empty  # no container: a union, a literal
    arguments = tuple(argument for argument in arguments if argument is not Ellipsis)
    return arguments[0] if len(arguments) == 1 else Parameter.empty


def _of_one_text(annotation: str) -> Any:
    try:
        tree = ast.parse(annotation, mode="eval").body
    except SyntaxError:
        return Parameter.empty
    if not isinstance(tree, ast.Subscript) or _last_name(tree.value) in _NO_CONTAINERS:
        return Parameter.empty
    parts = tree.slice.elts if isinstance(tree.slice, ast.Tuple) else [tree.slice]
    parts = [part for part in parts if not _is_ellipsis(part)]
    return ast.unparse(parts[0]) if len(parts) == 1 else Parameter.empty


_NO_CONTAINERS = frozenset({"Annotated", "ClassVar", "Final", "Literal", "Optional", "Union"})


def _last_name(tree: ast.expr) -> str:
    return tree.attr if isinstance(tree, ast.Attribute) else getattr(tree, "id", "")


def _is_ellipsis(tree: ast.expr) -> bool:
    return isinstance(tree, ast.Constant) and tree.value is Ellipsis
