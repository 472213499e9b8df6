"""By what damage is measured: the end metric of a scan, held against the outputs in floats."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import onnx_ir as ir

from edgec.calibration.damage import Divergence, Feeds, Loss, Noise
from edgec.calibration.data import Data
from edgec.calibration.evaluate import TOP1, find_metric
from edgec.calibration.moments import batches_of
from edgec.calibration.sources import Array
from edgec.calibration.variants import Parts
from edgec.errors import UsageError, VerificationError

PLAIN = ("error", "kl")
"""Metrics that need no labels."""

_SAMPLES = 64
_BATCH = 8


class Yardstick:
    """The samples of a scan, and what the model makes of them in floats.

    Attributes:
        name: `error` (noise over signal of the outputs), `kl` (divergence of the classes), `top1`
            or `package.module:function` (points that are lost over labelled samples).
        samples: At most so many are used; None: 64, or all labelled ones.
    """

    def __init__(
        self, name: str, model: ir.Model, parts: Parts, data: Data, samples: int | None = None
    ) -> None:
        """Runs the model.

        Raises:
            UsageError: The metric is unknown or does not fit the outputs; there are no labels.
            VerificationError: The outputs are not finite.
        """
        self.name, self.samples = name, samples
        self._model, self._data = model, data
        self._labelled = name not in PLAIN
        self._metric = find_metric(name) if self._labelled and name != "top1" else TOP1
        targets: list[Feeds] = []
        labels: list[Array] = []
        for feeds, own in self._pairs():
            targets.append(parts.run(feeds, 0, len(parts)))
            labels.append(own)
            _check_finite(targets[-1])
        if not targets:
            raise UsageError("the samples", "do not fill one batch", "give more samples")
        self.meter = self._maker(targets, labels)

    def batches(self) -> Iterator[Feeds]:
        """The same batches at each call."""
        return (feeds for feeds, _ in self._pairs())

    def _pairs(self) -> Iterator[tuple[Feeds, Array]]:
        if not self._labelled:
            for feeds in batches_of(self._model, self._data, _BATCH, self.samples or _SAMPLES):
                yield feeds, np.zeros(0)
            return
        left = len(self._data) if self.samples is None else self.samples
        for feeds, labels in self._data.labelled(_BATCH):
            yield feeds, labels[:left]
            left -= len(labels)
            if left <= 0:
                return

    def _maker(
        self, targets: list[Feeds], labels: list[Array]
    ) -> Callable[[], Noise | Divergence | Loss]:
        if self.name == "error":
            return lambda: Noise(targets)
        if self.name == "kl":
            outputs = self._model.graph.outputs
            shapes = {name: array.shape for name, array in targets[0].items()}
            if len(shapes) != 1 or any(len(s) < 2 or np.prod(s[2:]) != 1 for s in shapes.values()):
                raise UsageError(
                    "kl", f"needs one output [samples, classes], the model gives {shapes}",
                    "take the metric 'error', or a function of your own",
                )  # fmt: skip
            node = outputs[0].producer()
            softmax = node is not None and node.op_type == "Softmax"
            return lambda: Divergence(targets, softmax)
        reference = Loss(self._metric, labels)
        for number, outputs_of in enumerate(targets):
            reference.add(number, outputs_of)
        before = -reference.damage
        targets.clear()
        return lambda: Loss(self._metric, labels, before)


def _check_finite(outputs: Feeds) -> None:
    for name, array in outputs.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise VerificationError(
                f"output '{name}'", "is not finite in floats, so no damage can be told",
                "check the samples, and the model on them",
            )  # fmt: skip
