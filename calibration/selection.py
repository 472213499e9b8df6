"""Which samples to calibrate on, where there are more than are needed.

    select(data, 128, "coverage", model=model)

A selection gives numbers of samples. Memory does not depend on how many there are: what decides
is one number per sample.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgec.calibration.data import Data
from edgec.calibration.moments import picked, runner
from edgec.errors import UsageError, VerificationError
from edgec.suggest import check_known

Array = NDArray[Any]
Numbers = NDArray[np.int64]
Score = Callable[["Selected"], float]
"""A set of samples → how far what is made with it is from the original; less is better."""

STRATA = 50  # of equal width, between the least and the greatest margin (CCS)
CANDIDATES = 5  # sets to choose from; five to ten (recipes, H1)


@dataclass(frozen=True)
class Selected:
    """Some samples of some data, streamed like the data.

    Args:
        data: All samples.
        chosen: int64[n], their numbers, ascending.
        how: The selection's name.
        seed: Of its random numbers.
    """

    data: Data
    chosen: Numbers
    how: str
    seed: int

    def __len__(self) -> int:
        return len(self.chosen)

    def batches(self, batch_size: int = 32) -> Iterator[dict[str, Array]]:
        """Feeds in order; where the model fixes the size of a batch, only full ones."""
        size = self.data.batch or batch_size
        for feeds in picked(self.data.batches(size, pad=True), size, self.chosen):
            if self.data.batch is None or len(next(iter(feeds.values()))) == size:
                yield feeds

    def describe(self) -> dict[str, Any]:
        """For the manifest: of what data, and which of them."""
        return {
            **self.data.describe(),
            "samples": len(self),
            "selection": self.how,
            "seed": self.seed,
            "chosen_from": len(self.data),
            "chosen_sha256": hashlib.sha256(self.chosen.astype("<i8").tobytes()).hexdigest(),
        }


@dataclass(frozen=True)
class Question:
    """What a selection may look at.

    Args:
        data: All samples.
        count: How many to choose; fewer than there are.
        seed: Of random numbers.
        model: The model as it is before any change.
        score: Judges sets of samples.
    """

    data: Data
    count: int
    seed: int
    model: ir.Model | None
    score: Score | None

    @property
    def rng(self) -> np.random.Generator:
        """The same numbers each time."""
        return np.random.default_rng(self.seed)


@dataclass(frozen=True)
class Selection:
    """A way to choose samples.

    Args:
        summary: One line.
        choose: Gives the numbers of the chosen samples, in any order.
    """

    summary: str
    choose: Callable[[Question], Numbers]


def select(
    data: Data,
    count: int,
    how: str = "random",
    *,
    seed: int = 0,
    model: ir.Model | None = None,
    score: Score | None = None,
) -> Selected:
    """Chooses `count` samples; all where there are no more.

    Args:
        data: All samples.
        count: How many to choose.
        how: A name in SELECTIONS.
        seed: Of random numbers.
        model: The model; `coverage` runs it.
        score: Judges sets of samples; `kl` asks it.

    Errors:
        UsageError: The name is unknown, the count is not positive, or there are no labels where
            classes are asked for.
    """
    check_known(f"selection '{how}'", how, SELECTIONS)
    if count < 1:
        raise UsageError("selection", f"of {count} samples", "choose at least one")
    if count >= len(data):
        return Selected(data, np.arange(len(data)), how, seed)
    chosen = SELECTIONS[how].choose(Question(data, count, seed, model, score))
    return Selected(data, np.sort(chosen), how, seed)


def _first(asked: Question) -> Numbers:
    return np.arange(asked.count)


def _random(asked: Question) -> Numbers:
    return asked.rng.choice(len(asked.data), asked.count, replace=False)


def _evenly(asked: Question) -> Numbers:
    return np.arange(asked.count) * len(asked.data) // asked.count


def _by_class(asked: Question) -> Numbers:
    labels = np.concatenate([np.asarray(part) for part in asked.data.labels()])
    _, classes = np.unique(labels.reshape(len(labels), -1), axis=0, return_inverse=True)
    return _from_strata(classes.ravel(), asked.count, asked.rng)


def _coverage(asked: Question) -> Numbers:
    """Coverage-centric selection (CCS): strata of equal width over a score of difficulty.

    The score is the margin of the model's own answer. CCS takes it over the training; after it,
    one run has to do, and no label is needed. The hardest are not dropped: ranges hold them too.
    """
    if asked.model is None:
        raise UsageError("selection 'coverage'", "needs the model", "give select(…, model=model)")
    margins = _margins(asked.model, asked.data)
    spread = float(np.ptp(margins)) or 1.0
    strata = ((margins - margins.min()) / spread * STRATA).astype(np.int64)
    return _from_strata(np.minimum(strata, STRATA - 1), asked.count, asked.rng)


def _margins(model: ir.Model, data: Data) -> NDArray[np.float64]:
    """The first output's greatest number less its second greatest, of each sample.

    They are compared along axis 1, and averaged over all others.
    """
    output = model.graph.outputs[0].name or ""
    run = runner(model, [v.name or "" for v in model.graph.inputs], [output])
    found = []
    for feeds in data.batches(pad=True):
        scores = run(feeds)[output].astype(np.float64)
        if scores.ndim > 1 and scores.shape[1] > 1:
            top = np.partition(scores, -2, axis=1)
            scores = np.take(top, -1, axis=1) - np.take(top, -2, axis=1)
        found.append(scores.reshape(len(scores), -1).mean(1))
    margins = np.concatenate(found)[: len(data)]
    if len(margins) != len(data):
        fact = f"gives {len(margins)} rows for {len(data)} samples"
        raise UsageError(f"output '{output}'", fact, "choose another selection")
    if not np.isfinite(margins).all():
        raise VerificationError(f"output '{output}'", "is not finite", "look at the samples")
    return margins


def _from_strata(strata: Numbers, count: int, rng: np.random.Generator) -> Numbers:
    """As many of each stratum as of any other, as far as it has so many; smallest first (CCS)."""
    names, sizes = np.unique(strata, return_counts=True)
    # of as large ones a random one first: what does not divide evenly goes to any of them
    order = np.lexsort((rng.random(len(names)), sizes))
    chosen: list[Numbers] = []
    left = count
    for done, name in enumerate(names[order]):
        members = np.flatnonzero(strata == name)
        share = min(len(members), left // (len(names) - done))
        chosen.append(rng.choice(members, share, replace=False))
        left -= share
    return np.concatenate(chosen)


def _nearest(asked: Question) -> Numbers:
    """Of some random sets, that whose result is nearest to the original (NIRVANA, kl_select)."""
    if asked.score is None:
        raise UsageError("selection 'kl'", "needs a score", "give select(…, score=function)")
    seeds = range(asked.seed, asked.seed + CANDIDATES)
    sets = [select(asked.data, asked.count, "random", seed=seed) for seed in seeds]
    return min(sets, key=asked.score).chosen


def divergence(original: Array, changed: Array) -> float:
    """KL(original ‖ changed) in nats, the mean over samples of softmax over the last axis.

    Args:
        original, changed: Logits, float[samples, …, classes].
    """
    logs = []
    for logits in (original.astype(np.float64), changed.astype(np.float64)):
        shifted = logits - logits.max(-1, keepdims=True)
        logs.append(shifted - np.log(np.exp(shifted).sum(-1, keepdims=True)))
    return float((np.exp(logs[0]) * (logs[0] - logs[1])).sum(-1).mean())


SELECTIONS: Mapping[str, Selection] = {
    "even": Selection("spread evenly over all; the default", _evenly),
    "first": Selection("the first ones", _first),
    "random": Selection("any", _random),
    "class-stratified": Selection("as many of each class; needs labels", _by_class),
    "coverage": Selection("as many of each margin of the model's answer (CCS)", _coverage),
    "kl": Selection("the best of some random sets, by the result's divergence", _nearest),
}
"""name → how samples are chosen."""
