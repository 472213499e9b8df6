"""Repair of means and variances, channel by channel (E3).

A cut changes the mean and the variance of what a BatchNormalization reads. Its running statistics
are set so that what it writes has again the mean and variance that it has in the original on the
same samples:

    σ' = σ · s / s₀        μ' = m − σ' · (m₀ − μ) / σ          (m, s now; m₀, s₀ in the original)

With samples like the training set (m₀ = μ, s₀ = σ) that is re-estimating the statistics; with few
samples their noise cancels, and where nothing was cut nothing changes. A layer with no
BatchNormalization behind it has its weights scaled and its bias shifted to the same end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgec.calibration.moments import Batches, Moments
from edgec.graph.cut import CutResult
from edgec.graph.trace import title
from edgec.passes.repair.layers import (
    Layer,
    intercept_of,
    is_norm,
    layers_of,
    only_reader,
    read,
    write,
)
from edgec.passes.repair.lockstep import Lockstep
from edgec.passes.repair.record import LayerRecord, RepairRecord

Array = NDArray[Any]
Floats = NDArray[np.float64]

_FLAT = 1e-3  # a channel whose spread fell below this share of the original's is not rescaled


def recalibrate(
    before: ir.Model, cut: CutResult, data: Batches, *, seed: int = 0, samples: int = 512,
    batch_size: int = 16,
) -> RepairRecord:  # fmt: skip
    """Sets means and variances to those of the original, in the order of the graph.

    Args:
        before: The original.
        cut: The cut network; its statistics are changed in place.
        data: Samples.
        seed: Unused; all positions of all samples count.
        samples: At most so many are used.
        batch_size: Samples run at a time, where the model leaves it open.
    """
    known = {v.name for n in before.graph for v in n.outputs}
    sites = {site.out: site for site in _sites(cut.model) if site.out in known}
    records = []
    with Lockstep(
        before, cut, {out: site.value for out, site in sites.items()}, data,
        samples=samples, batch_size=batch_size,
    ) as lockstep:  # fmt: skip
        for wave in lockstep:
            run = lockstep.outputs([sites[out].value for out in wave])
            was: dict[str, Moments] = {}
            now: dict[str, Moments] = {}
            for batch in range(len(lockstep.sizes)):
                values = run(lockstep.present.feeds(batch))
                for out in wave:
                    axis = sites[out].axis
                    _merge(was, out, Moments.of(lockstep.aim(out, batch), axis))
                    _merge(now, out, Moments.of(values[sites[out].value], axis))
            records += [sites[out].match(was[out], now[out]) for out in wave]
    return RepairRecord("recalibrate", lockstep.samples, tuple(records))


def _merge(found: dict[str, Moments], name: str, new: Moments) -> None:
    found[name] = found[name].merged(new) if name in found else new


class _Site:
    """A place where mean and variance can be set.

    Attributes:
        out: Name of the output of the node that is changed.
        value: Name of the value whose moments count.
        axis: Its channel axis.
    """

    def __init__(
        self,
        node: ir.Node,
        value: str,
        axis: int,
        change: Callable[[Floats, Moments, Moments], str],
    ) -> None:
        self.node, self.value, self.axis = node, value, axis
        self.out = node.outputs[0].name or ""
        self._change = change

    def match(self, was: Moments, now: Moments) -> LayerRecord:
        """Changes the node so that `now` becomes `was`."""
        old, new = np.sqrt(was.var), np.sqrt(now.var)
        heard = new > _FLAT * old
        ratio = np.divide(old, new, out=np.ones_like(old), where=heard & (new > 0))
        reason = self._change(ratio, was, now)
        return LayerRecord(title(self.node), "none" if reason else "recalibrate", reason=reason)


def _sites(model: ir.Model) -> list[_Site]:
    norms = [n for n in model.graph if is_norm(n)]
    found = [_Site(n, n.inputs[0].name or "", 1, _norm_change(n)) for n in norms]  # type: ignore[union-attr]
    for layer in layers_of(model):
        if not is_norm(only_reader(layer.node.outputs[0])):
            found.append(_Site(layer.node, layer.out, layer.axis, _layer_change(layer)))
    return found


def _norm_change(node: ir.Node) -> Callable[[Floats, Moments, Moments], str]:
    def change(ratio: Floats, was: Moments, now: Moments) -> str:
        epsilon = node.attributes.get_float("epsilon", 1e-5)
        mean, var = (read(node, i).astype(np.float64) for i in (3, 4))
        sigma = np.sqrt(var + epsilon)
        new = sigma / ratio
        write(node, 3, now.mean - new * (was.mean - mean) / sigma)
        write(node, 4, np.maximum(new**2 - epsilon, 0.0))
        return ""

    return change


def _layer_change(layer: Layer) -> Callable[[Floats, Moments, Moments], str]:
    def change(ratio: Floats, was: Moments, now: Moments) -> str:
        place = intercept_of(layer)
        if place is None or layer.shares_weight:
            return "has no place for a bias" if place is None else "shares its weight"
        layer.scale_outputs(ratio)
        # A present bias is not scaled with the weights: y = W x + b becomes r·W x + b + shift.
        place(was.mean - (ratio * (now.mean - _bias(layer)) + _bias(layer)))
        return ""

    return change


def _bias(layer: Layer) -> Floats | float:
    node = layer.node
    if node.op_type == "MatMul" or len(node.inputs) < 3 or node.inputs[2] is None:
        return 0.0
    scale = node.attributes.get_float("beta", 1.0) if node.op_type == "Gemm" else 1.0
    return read(node, 2).astype(np.float64).ravel() * scale
