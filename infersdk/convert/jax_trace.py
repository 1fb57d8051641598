"""What the trace of a JAX model tells: whether it takes a branch that one row may decide for another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

__all__ = ["branches"]

_LOOPS = ("scan", "while")


def branches(jaxpr: Any) -> bool:
    """Whether a branch (``jax.lax.cond``, ``jax.lax.switch``) depends on the inputs.

    ``jax.vmap`` turns a branch that each row decides for itself into a choice between two answers; one that
    is still there is taken for all rows together.
    """
    return _branches(jaxpr, [True] * len(jaxpr.invars))


def _branches(jaxpr: Any, given: Sequence[bool]) -> bool:
    """As :func:`branches`, where ``given`` says which inputs of this part of a trace depend on the model's."""
    from jax.extend.core import Literal

    depending = {item for item, depends in zip(jaxpr.invars, given, strict=True) if depends}
    for equation in jaxpr.eqns:
        reads = [not isinstance(item, Literal) and item in depending for item in equation.invars]
        if not any(reads):
            continue
        depending.update(equation.outvars)
        name = equation.primitive.name
        if name == "cond" and reads[0]:
            return True
        passed = reads[1:] if name == "cond" else reads
        for part in _parts(equation):
            fits = len(part.invars) == len(passed) and name not in _LOOPS
            if _branches(part, passed if fits else [True] * len(part.invars)):
                return True
    return False


def _parts(equation: Any) -> Iterator[Any]:
    """Give the traces inside an equation: of a jitted function, a loop's body, a branch."""
    for value in equation.params.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            inner = getattr(item, "jaxpr", item)
            if hasattr(inner, "eqns"):
                yield inner
