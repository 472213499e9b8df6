"""Budgets: what a result may cost, as a kept ratio or as an absolute number.

0.4        keep at most 40 % of the original
300M 1.2G  at most that many FLOPs, MACs or parameters
4MB 800KB  at most that many bytes (1 MB = 10^6 bytes)
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal, get_args

from edgec.errors import UsageError

Metric = Literal["flops", "macs", "params", "size"]
METRICS: tuple[Metric, ...] = get_args(Metric)

_PREFIX = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_NUMBER = re.compile(
    r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)\s*([kmgt]?)(b?)\s*", re.IGNORECASE | re.ASCII
)


@dataclass(frozen=True)
class Budget:
    """An upper bound on one metric of the result.

    Attributes:
        metric: `flops`, `macs`, `params` or `size` (bytes).
        value: A kept ratio in (0, 1], or an absolute number above 1.
    """

    metric: Metric
    value: float

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise UsageError(
                f"budget '{self.metric}'", "is unknown", f"one of: {', '.join(METRICS)}"
            )
        if not math.isfinite(self.value) or self.value <= 0:
            raise UsageError(f"--{self.metric} {self.value:g}", _NOT_POSITIVE, _REMEDY)

    @property
    def is_ratio(self) -> bool:
        """Whether `value` is a kept ratio."""
        return self.value <= 1

    def bound(self, original: float) -> float:
        """The absolute bound for a model that costs `original`."""
        return self.value * original if self.is_ratio else self.value

    @classmethod
    def parse(cls, metric: Metric, text: str | float) -> Budget:
        """Reads `0.4`, `300M`, `1.2G`, `4MB`.

        Raises:
            UsageError: The text is no number, is not positive, is above 1 without a unit, or is
                1 or less with one.
        """
        if not isinstance(text, str):
            text = str(text) if isinstance(text, int) else repr(float(text))
        subject = f"--{metric} {text.strip() or repr(text)}"
        found = _NUMBER.fullmatch(text)
        if found is None or (found[3] and metric != "size"):
            raise UsageError(subject, "is not a budget", _REMEDY)
        number = float(found[1]) * _PREFIX[found[2].lower()]
        if not 0 < number < math.inf:
            raise UsageError(subject, _NOT_POSITIVE if number <= 0 else "is too large", _REMEDY)
        plain = not found[2] and not found[3]
        if plain and 1 < number < 1000:
            raise UsageError(
                subject,
                "is above 1, the whole of the original, and too small for an absolute number",
                _REMEDY,
            )
        if not plain and number <= 1:
            raise UsageError(subject, "is an absolute budget of 1 or less", _REMEDY)
        return cls(metric, number)

    def __str__(self) -> str:
        return f"{self.value:g}" if self.is_ratio else human(self.value, self.metric)


_NOT_POSITIVE = "is not above zero"
_REMEDY = "give a kept ratio such as 0.4, or an absolute such as 300M, 1.2G or (for --size) 4MB"


def human(value: float, metric: Metric) -> str:
    """A number with a decimal prefix and three significant digits: `1.23 G`, `4.50 MB`."""
    unit = "B" if metric == "size" else ""
    for prefix, factor in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= factor * 0.9995:
            scaled = value / factor
            digits = 0 if scaled >= 99.95 else 1 if scaled >= 9.995 else 2
            return f"{scaled:.{digits}f} {prefix}{unit}"
    return f"{value:.0f} {unit}".rstrip()


def amount(value: float, metric: Metric, noun: str) -> str:
    """`1.23 GFLOPs`, `512 FLOPs`."""
    number = human(value, metric)
    return f"{number}{noun}" if number[-1].isalpha() else f"{number} {noun}"


def plural(number: int, noun: str) -> str:
    """`1 thread`, `2 threads`."""
    return f"{number} {noun}{'s' * (number != 1)}"
