"""Samples of one run, and ratios between them. What was measured side by side in one round is compared
round by round, so that whatever disturbs the machine for longer disturbs both."""

from collections import defaultdict
from dataclasses import dataclass
from statistics import median, quantiles


@dataclass
class Spread:
    """A median and the quarters around it."""

    middle: float
    low: float
    high: float

    def __format__(self, spec):
        return f"{self.middle:{spec}} ({self.low:{spec}} to {self.high:{spec}})"


def spread(values):
    values = list(values)
    if len(values) == 1:
        return Spread(values[0], values[0], values[0])
    low, _, high = quantiles(values, n=4, method="inclusive")
    return Spread(median(values), low, high)


class Samples:
    """Values by what was measured (`add@500`, `first`), of whom (`tuning`), and in which round."""

    def __init__(self):
        self.values = defaultdict(lambda: defaultdict(dict))

    def put(self, what, who, value, round_=None):
        """Without a round: the next one."""
        rounds = self.values[what][who]
        rounds[len(rounds) if round_ is None else round_] = value

    def has(self, what, who):
        return bool(self.values.get(what, {}).get(who))

    def names(self, what):
        return list(self.values.get(what, {}))

    def of(self, what, who):
        return spread(self.values[what][who].values())

    def ratio(self, what, who, to, to_what=None):
        """`who` to `to`, which may be of another measurement; only rounds that have both."""
        above, below = self.values[what][who], self.values[to_what or what][to]
        return spread(above[round_] / below[round_] for round_ in above if round_ in below)
