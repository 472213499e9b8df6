"""Accuracy: the mean score of a model over labelled samples.

A metric is a function

    metric(outputs: dict[str, ndarray], labels: ndarray) -> ndarray

of one batch. `outputs` maps output names to arrays with the samples along axis 0, `labels` are
the labels of these samples, and the result is one finite number per sample, [samples]: 1 and 0
for right and wrong, or any score. The accuracy is their mean.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from edgec.calibration.data import Data
from edgec.calibration.sources import Array
from edgec.errors import UsageError, VerificationError
from edgec.user_code import find_function, running

Outputs = Mapping[str, Array]


@dataclass(frozen=True)
class Metric:
    """A metric and its name."""

    name: str
    score: Callable[[Outputs, Array], Array]


@dataclass(frozen=True)
class Accuracy:
    """The mean score `value` of `n` samples under the metric `name`."""

    value: float
    n: int
    name: str


def top1(outputs: Outputs, labels: Array) -> Array:
    """1 where the class with the highest score is the label, else 0: float64[samples].

    Args:
        outputs: One output of scores, [samples, classes]; further axes of length 1 may follow.
        labels: Integer classes, [samples], counted from 0.

    Errors:
        UsageError: outputs or labels are not such. VerificationError: a score is NaN.
    """
    remedy = "give an accuracy function: --eval package.module:function"
    shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in outputs.items())
    scores = next(iter(outputs.values()))
    if len(outputs) != 1 or scores.ndim < 2 or math.prod(scores.shape[2:]) != 1:
        raise UsageError("top1", f"needs one output [samples, classes], has {shapes}", remedy)
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        fact = f"needs integer labels [samples], has {labels.dtype}{list(labels.shape)}"
        raise UsageError("top1", fact, remedy)
    scores = scores.reshape(len(scores), -1)
    if labels.size and (labels.min() < 0 or labels.max() >= scores.shape[1]):
        fact = f"labels are {labels.min()}..{labels.max()}, the model has {scores.shape[1]} classes"
        raise UsageError("top1", fact, "count classes from 0")
    if np.isnan(scores).any():
        raise VerificationError("top1", "the model's output holds NaN", "check the samples")
    right: Array = scores.argmax(1) == labels
    return right.astype(np.float64)


TOP1 = Metric("top1", top1)


def find_metric(spec: str | None) -> Metric:
    """The metric that ``--eval package.module:function`` names; top-1 if None."""
    return TOP1 if spec is None else Metric(spec, find_function(spec))


def evaluate(
    run: Callable[[dict[str, Array]], Outputs],
    data: Data,
    metric: Metric = TOP1,
    *,
    batch_size: int = 32,
) -> Accuracy:
    """The mean score over all samples of `data`.

    Every sample counts once: where the model fixes the size of a batch, the last one is padded
    and the outputs of the padding are cut off.

    Args:
        run: Feeds → outputs by name, samples along axis 0.
        data: Samples with labels.
        metric: What is averaged.
        batch_size: Samples per batch, if the model leaves it open.

    Errors:
        UsageError: there are no labels, or the metric does not return what it should.
    """
    total, n = 0.0, 0
    for feeds, labels in data.labelled(batch_size):
        total += score_sum(metric, run(feeds), labels)
        n += len(labels)
    return Accuracy(total / n, n, metric.name)


def score_sum(metric: Metric, outputs: Outputs, labels: Array) -> float:
    """The scores of one batch, added up.

    Args:
        metric: Gives the scores.
        outputs: Outputs by name, samples along axis 0; those beyond the labels are padding.
        labels: Labels of the samples.

    Errors:
        UsageError: the metric does not return what it should.
    """
    own = {name: array[: len(labels)] for name, array in outputs.items()}
    with running(metric.name):
        scores = np.asarray(metric.score(own, labels))
    if scores.shape != (len(labels),) or scores.dtype.kind not in "fiub":
        fact = f"returned {scores.dtype}{list(scores.shape)} for {len(labels)} samples"
        raise UsageError(metric.name, fact, "return one number per sample: [samples]")
    total = float(scores.sum(dtype=np.float64))
    if not math.isfinite(total):
        fact = "returned a score that is not finite"
        raise UsageError(metric.name, fact, "return one finite number per sample")
    return total
