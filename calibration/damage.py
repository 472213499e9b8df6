"""How much worse outputs have become: meters that compare them with what they were, by batches.

    Noise        Σ (a − b)² / Σ a², the mean over outputs: one over the signal-to-noise ratio
    Divergence   Σ p·log(p / q) over the classes, the mean over samples; p and q are the softmax of
                 the outputs, or the outputs themselves where they are probabilities
    Loss         the mean score of labelled samples, what it was less what it is

Zero is no damage. Noises of small independent changes add up, and so do divergences.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgec.calibration.evaluate import Metric, score_sum

Array = NDArray[Any]
Feeds = Mapping[str, Array]


@dataclass
class Noise:
    """Noise power over signal power.

    Attributes:
        targets: For every batch, the outputs that are compared with.
    """

    targets: Sequence[Feeds]
    sums: dict[str, tuple[float, float]] = field(default_factory=dict)

    def add(self, batch: int, outputs: Feeds) -> None:
        """One batch."""
        for name, target in self.targets[batch].items():
            x = np.asarray(target, np.float64).ravel()
            gap = x - np.asarray(outputs[name], np.float64).ravel()
            noise, power = self.sums.get(name, (0.0, 0.0))
            self.sums[name] = (noise + float(gap @ gap), power + float(x @ x))

    @property
    def damage(self) -> float:
        """The ratio; infinite where an output that was silent is not."""
        ratios = [
            noise / power if power > 0 else (math.inf if noise > 0 else noise)
            for noise, power in self.sums.values()
        ]
        return sum(ratios) / len(ratios)

    @property
    def snr_db(self) -> float:
        """−10·log10 of the ratio; inf where nothing differs."""
        return math.inf if self.damage == 0 else -10 * math.log10(self.damage)


@dataclass
class Divergence:
    """Kullback–Leibler divergence of the classes.

    Attributes:
        targets: For every batch, the outputs that are compared with: one, [samples, classes].
        probabilities: Whether they are probabilities already.
    """

    targets: Sequence[Feeds]
    probabilities: bool
    total: float = 0.0
    samples: int = 0

    def add(self, batch: int, outputs: Feeds) -> None:
        """One batch."""
        p, q = (self._logs(side) for side in (self.targets[batch], outputs))
        self.total += float((np.exp(p) * (p - q)).sum())
        self.samples += len(p)

    @property
    def damage(self) -> float:
        """In nats."""
        return self.total / self.samples

    def _logs(self, outputs: Feeds) -> NDArray[np.float64]:
        """Logarithms of the probabilities, [samples, classes]."""
        (scores,) = outputs.values()
        x = np.asarray(scores, np.float64).reshape(len(scores), -1)
        if self.probabilities:
            return np.log(np.maximum(x, 1e-12))
        x = x - x.max(1, keepdims=True)
        return np.asarray(x - np.log(np.exp(x).sum(1, keepdims=True)))


@dataclass
class Loss:
    """Points of a metric that are lost.

    Attributes:
        metric: Gives one score for a sample; more is better.
        labels: Of every batch; samples beyond them are padding.
        before: The mean score of the unchanged model.
    """

    metric: Metric
    labels: Sequence[Array]
    before: float = 0.0
    total: float = 0.0
    samples: int = 0

    def add(self, batch: int, outputs: Feeds) -> None:
        """One batch."""
        labels = self.labels[batch]
        self.total += score_sum(self.metric, outputs, labels)
        self.samples += len(labels)

    @property
    def damage(self) -> float:
        """The mean score before, less the mean score now."""
        return self.before - self.total / self.samples
