"""Whether rivals under load still answer rightly: each row its own answer, to rounding.

Comparing while the clock runs would measure the comparison, so a load keeps one answer in ``EVERY`` and
compares them afterwards. ``EVERY`` has no factor in common with the number of rows: all get their turn.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["EVERY", "Expected", "leaves"]

EVERY = 17
RTOL, ATOL = 1e-4, 1e-5


class Expected:
    """The answers to all inputs, from one run over all of them.

    Parameters
    ----------
    path : Path
        An .npz file with one array per output; row i is the answer to input i.
    """

    def __init__(self, path: Path) -> None:
        with np.load(path) as arrays:
            self.outputs = [arrays[name] for name in sorted(arrays, key=int)]
        self.n_rows = len(self.outputs[0])

    def wrong(self, kept: list[tuple[int, Any]]) -> int:
        """How many of these (call number, answer) are not what that call's row should give."""
        return sum(not self._right(i % self.n_rows, answer) for i, answer in kept)

    def _right(self, row: int, answer: Any) -> bool:
        given = [np.asarray(value) for value in leaves(answer)]
        if len(given) != len(self.outputs):
            return False
        for value, output in zip(given, self.outputs, strict=True):
            expected = output[row : row + 1]
            if value.shape != expected.shape:
                return False
            if expected.dtype.kind in "fc":
                equal = np.allclose(value, expected, rtol=RTOL, atol=ATOL, equal_nan=True)
            else:
                equal = np.array_equal(value, expected)
            if not equal:
                return False
        return True


def leaves(answer: Any) -> list[Any]:
    """The arrays of an answer, whatever holds them."""
    if isinstance(answer, dict):
        return list(answer.values())
    if isinstance(answer, list | tuple):
        return list(answer)
    return [answer]
