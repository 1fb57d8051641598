"""Where a function asks models: its own code once more, with a look at the object before each such call.

``@accelerate`` must see which object a function asks, wherever the object comes from: a global, a closure,
``self.model``, ``models[name]``, ``get_model()``, ``current_app.config["MODEL"]``. Names in a namespace of
the function's own would cover the first two only, and a stand-in object that takes a model's place would be
visible to ``is``, ``type()`` and C code. So the calls themselves are looked at:

    model.predict_proba(X)      becomes     <site>.of(model)(X)
    net(x)                      becomes     <site>.of(net)(x)

``<site>`` is a constant of the code object, no name: the namespaces of function, closure and module stay
as they are and the very same ones, live in both directions, ``global`` statements included. What is no model
is given back as it is, or its plain attribute.

The code comes from the source: the syntax tree of the top-level statement around the function is compiled
twice, as it is and with sites. The first must be equal to the function's own code, so that a file which has
changed since, or an import hook, cannot give the function another body; the second has the same scopes,
lines and names. This takes nothing from the interpreter but ``compile()``, where a rewriting of bytecode
would have to be done anew for every version of Python; where there is no source it cannot be done at all.

A site costs 0.1 to 0.2 us for each call of something that is no model, so calls of builtins and of methods
that lists, dicts, strings and numbers have are left alone.
"""

from __future__ import annotations
import __future__

import ast
import builtins
import functools
import linecache
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import CodeType
from typing import Any

__all__ = ["ASKING", "CALL", "CHANGING", "NoSourceError", "Place", "decorators", "with_sites"]

CALL = "__call__"

ASKING = frozenset(
    {
        "decision_function",
        "encode",
        "predict",
        "predict_log_proba",
        "predict_proba",
        "score_samples",
    }
)
"""Methods that ask a model.

Not ``transform``: its answer goes into another model, and there a difference in the last digit can be one
between the sides of a split. Steps belong into a Pipeline, which is proven as a whole.
"""

CHANGING = frozenset(
    {"fit", "load_model", "load_state_dict", "load_weights", "partial_fit", "set_params"}
)
"""Methods after which a model answers otherwise."""

_IN_THREADS = frozenset({"run_in_threadpool", "run_sync", "sync_to_async", "to_thread"})
"""Functions that call their first argument in a thread."""

_FUTURES = functools.reduce(
    lambda flags, name: flags | getattr(__future__, name).compiler_flag,
    __future__.all_feature_names,
    0,
)
_BUILTINS = frozenset(dir(builtins))
_PLAIN = frozenset(
    name
    for kind in (bytes, dict, float, frozenset, int, list, set, str, tuple)
    for name in dir(kind)
    if not name.startswith("__")
)
_MARK = f"infersdk call site {uuid.uuid4().hex} "


class NoSourceError(Exception):
    """A function's source cannot be had, or is not that of its code; the message is one sentence."""


@dataclass(frozen=True, slots=True)
class Place:
    """One place where a function may ask a model.

    Parameters
    ----------
    expression : str
        What is asked, as in the source: ``"models['churn']"``.
    method : str
        The method that is looked up on it; ``"__call__"`` where the object itself is called.
    """

    expression: str
    method: str


def with_sites(code: CodeType, namespace: dict[str, Any], make: Callable[[Place], Any]) -> CodeType:
    """Return a function's code with a site at each place where it may ask a model.

    Parameters
    ----------
    code : CodeType
        The function's own; nested functions are part of it.
    namespace : dict
        Its globals, which know where modules from archives have their source.
    make : callable
        Makes the site of a place: an object with ``of(value)``, which is asked before each call for what
        is to be called.

    Returns
    -------
    CodeType
        With the same variables, lines and names; `code` itself where it has no such place.

    Raises
    ------
    NoSourceError
    """
    source = _source(code, namespace)
    for cut in (_around, _whole):
        position = _position(code, cut(_parsed(source), code))
        if position is None:
            continue
        rewriter = _Rewriter()
        # Not the tree that is kept: this one is changed.
        tree = rewriter.visit(cut(_parse(source), code))
        new = list(_codes(_compiled(tree, code)))[position]
        if _frame_of(new) == _frame_of(code):
            filled = _filled(new, rewriter.places, make)
            return code if filled is new else filled
    raise NoSourceError(
        f"{code.co_filename} has changed since it was imported, or an import hook has changed the code"
    )


def decorators(code: CodeType, namespace: dict[str, Any]) -> list[ast.expr]:
    """Return the decorators that stand above a function in its source, from top to bottom."""
    for node in ast.walk(_around(_parsed(_source(code, namespace)), code)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == code.co_name:
            first = min((item.lineno for item in node.decorator_list), default=node.lineno)
            if first == code.co_firstlineno:
                return node.decorator_list
    return []


def _source(code: CodeType, namespace: dict[str, Any]) -> str:
    source = "".join(linecache.getlines(code.co_filename, namespace))
    if not source:
        raise NoSourceError(f"its source is not to be found at {code.co_filename}")
    return source


def _parse(source: str) -> ast.Module:
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError) as error:
        raise NoSourceError(f"its source cannot be read: {error}") from error


_parsed = functools.lru_cache(maxsize=4)(_parse)


def _around(module: ast.Module, code: CodeType) -> ast.Module:
    """The top-level statement that a function is part of.

    And the module's imports: a method of an imported name compiles to other instructions.
    """
    body: list[ast.stmt] = list(_imports(module.body))
    for statement in module.body:
        decorated = getattr(statement, "decorator_list", ())
        first = min((item.lineno for item in decorated), default=statement.lineno)
        if first <= code.co_firstlineno <= (statement.end_lineno or statement.lineno):
            body.append(statement)
    return ast.Module(body=body, type_ignores=[])


def _whole(module: ast.Module, code: CodeType) -> ast.Module:
    return module


def _imports(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for statement in body:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            if getattr(statement, "module", None) != "__future__":
                yield statement
        elif isinstance(statement, ast.If | ast.Try | ast.With):
            for inner in ("body", "orelse", "finalbody"):
                yield from _imports(getattr(statement, inner, []))
            for handler in getattr(statement, "handlers", []):
                yield from _imports(handler.body)


def _position(code: CodeType, tree: ast.Module) -> int | None:
    for position, found in enumerate(_codes(_compiled(tree, code))):
        if found == code:
            return position
    return None


def _frame_of(code: CodeType) -> Any:
    return (
        code.co_qualname,
        code.co_firstlineno,
        code.co_flags,
        code.co_varnames,
        code.co_cellvars,
        code.co_freevars,
    )


def _compiled(tree: ast.Module, code: CodeType) -> CodeType:
    compiled: CodeType = compile(
        tree, code.co_filename, "exec", flags=code.co_flags & _FUTURES, dont_inherit=True
    )
    return compiled


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _filled(code: CodeType, places: list[Place], make: Callable[[Place], Any]) -> CodeType:
    """Put sites where the marks are."""
    constants: list[Any] = []
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            constant = _filled(constant, places, make)
        elif isinstance(constant, str) and constant.startswith(_MARK):
            constant = make(places[int(constant.removeprefix(_MARK))])
        constants.append(constant)
    if all(new is old for new, old in zip(constants, code.co_consts, strict=True)):
        return code
    return code.replace(co_consts=tuple(constants))


class _Rewriter(ast.NodeTransformer):
    def __init__(self) -> None:
        self.places: list[Place] = []

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        expression = node.value
        looked_up = isinstance(node.ctx, ast.Load) and node.attr in ASKING | CHANGING
        text = ast.unparse(expression) if looked_up else ""
        self.generic_visit(node)
        return self._site(node.value, Place(text, node.attr)) if looked_up else node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        asks = _may_be_a_model(node.func)
        text = ast.unparse(node.func) if asks else ""
        index = _run_in_thread(node)
        run = node.args[index] if index is not None else None
        run_text = ast.unparse(run) if run is not None else ""
        self.generic_visit(node)
        if asks:
            node.func = self._site(node.func, Place(text, CALL))
        if index is not None:
            node.args[index] = self._site(node.args[index], Place(run_text, CALL))
        return node

    # Annotations are not evaluated, or are turned into text as they stand.

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        node.target = self.visit(node.target)
        if node.value is not None:
            node.value = self.visit(node.value)
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return self._function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return self._function(node)

    def _function(self, node: Any) -> Any:
        node.decorator_list = [self.visit(item) for item in node.decorator_list]
        node.args.defaults = [self.visit(item) for item in node.args.defaults]
        node.args.kw_defaults = [item and self.visit(item) for item in node.args.kw_defaults]
        node.body = [self.visit(item) for item in node.body]
        return node

    def _site(self, value: ast.expr, place: Place) -> ast.Call:
        mark = ast.copy_location(ast.Constant(f"{_MARK}{len(self.places)}"), value)
        self.places.append(place)
        of = ast.copy_location(ast.Attribute(mark, "of", ast.Load()), value)
        return ast.copy_location(ast.Call(of, [value], []), value)


def _may_be_a_model(function: ast.expr) -> bool:
    if isinstance(function, ast.Name):
        return function.id not in _BUILTINS
    if isinstance(function, ast.Attribute):
        return function.attr not in _PLAIN | ASKING | CHANGING
    return isinstance(function, ast.Subscript | ast.Call)


def _run_in_thread(call: ast.Call) -> int | None:
    """Which argument of a call will be called in a thread; never one that goes to another process."""
    name = getattr(call.func, "attr", getattr(call.func, "id", None))
    if name == "run_in_executor" and len(call.args) > 1:
        index, known = 1, isinstance(call.args[0], ast.Constant)
    elif name in _IN_THREADS and call.args:
        index, known = 0, "to_process" not in ast.unparse(call.func)
    else:
        return None
    argument = call.args[index]
    if not known or not isinstance(argument, ast.Name | ast.Attribute | ast.Subscript):
        return None
    return None if getattr(argument, "attr", None) in ASKING else index
