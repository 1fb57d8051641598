"""The search for the highest arrival rate that a server still serves validly."""

from __future__ import annotations

import math

__all__ = ["RateSearch"]


class RateSearch:
    """Bisection: try ``rate_per_s``, say whether it was valid, and the next one to try is there.

    Rates grow by half until one is invalid, or are halved until one is valid; from then on the next is the
    geometric middle of the interval in between.

    Parameters
    ----------
    first_per_s : float
        The rate to begin with.

    Attributes
    ----------
    rate_per_s : float
        To be tried next.
    highest_per_s : float
        The highest rate that was valid; 0 if none was.
    """

    def __init__(self, first_per_s: float) -> None:
        self.rate_per_s = first_per_s
        self.highest_per_s = 0.0
        self._lowest_invalid_per_s = math.inf

    def say(self, valid: bool) -> None:
        """Take the verdict on ``rate_per_s`` and choose the next one."""
        if valid:
            self.highest_per_s = max(self.highest_per_s, self.rate_per_s)
        else:
            self._lowest_invalid_per_s = min(self._lowest_invalid_per_s, self.rate_per_s)
        if math.isinf(self._lowest_invalid_per_s):
            self.rate_per_s = 1.5 * self.highest_per_s
        elif self.highest_per_s == 0.0:
            self.rate_per_s = self._lowest_invalid_per_s / 2
        else:
            self.rate_per_s = math.sqrt(self.highest_per_s * self._lowest_invalid_per_s)
