"""Equalisation: channels that share a grid are given like ranges, and the network stays the same.

Every class of channels (`scaling`) has a factor t. A channel's range is its largest |number|:

    ρ = |W| over the slice that makes it · t,   |W| over the slice that reads it / t,   |x| · t

and all channels of one tensor share a grid. Where all ranges of a tensor are equal no channel
wastes steps of the grid; so t is the least-squares solution of log ρ = mean of log ρ in the tensor,
over all tensors. For two layers in a row that is s = √(r₁ r₂) / r₂, cross-layer equalisation (Nagel
et al. 2019), and r₁ = r₂ = r₃ around a depthwise layer; with weights that have a grid for each
output channel, only what reads them and the activations count, and t is SmoothQuant's at α = ½
(Xiao et al. 2023).

Scales do not pass a Clip. One that never clips on the samples, above 0, becomes a Relu first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgec.calibration.moments import batches_of, runner, weighted_layers
from edgec.graph.channels import channel_groups
from edgec.graph.trace import title
from edgec.passes.base import Context, Data, Pass
from edgec.passes.fold import sweep
from edgec.passes.quantize.scaling import Product, Scaling, clip_ends, scaling_of
from edgec.passes.repair.layers import read

Floats = NDArray[np.float64]

_TURNS = 50
_SETTLED = 0.01  # largest change of a factor in the last turn
_FARTHEST = float(np.log(1000))  # of a factor: what is almost dead is not blown up further


@dataclass(frozen=True)
class Equalise(Pass):
    """Equalises ranges; records how unequal they were and are, and what could not be scaled.

    Args:
        per_channel: Whether weights will have a grid for each output channel.
        activations: How much their ranges count beside those of weights.
        samples: How many samples tell the ranges of activations; without data, weights alone count.
    """

    name: ClassVar[str] = "equalise"
    per_channel: bool = False
    activations: float = 0.5
    samples: int = 64

    def run(self, model: ir.Model, context: Context) -> ir.Model:
        """Scales weights and biases in place."""
        seen = _Seen.on(model, context.data, self.samples)
        opened = _open_clips(model, seen)
        scaling = scaling_of(channel_groups(model))
        problem = _Problem.of(scaling, seen, self.per_channel, self.activations)
        log_t = problem.solve()
        before, after = problem.unevenness(np.zeros_like(log_t)), problem.unevenness(log_t)
        if after < before:
            scaling.apply(np.exp(log_t))
        context.records[self.name] = {
            "classes": scaling.count - 1,
            "bits lost to unequal ranges": [round(before, 3), round(min(before, after), 3)],
            "ranges of activations": "from samples" if seen.channels else "not known",
            "clips opened": opened,
            "not scaled": {title(p.node): p.why for p in scaling.products if p.why},
        }
        return model


@dataclass(frozen=True)
class _Seen:
    """What the samples show.

    Attributes:
        channels: Name of a layer's input → float64[channels], the largest |x|.
        most: Name of a Clip's input → its largest value.
    """

    channels: dict[str, Floats]
    most: dict[str, float]

    @classmethod
    def on(cls, model: ir.Model, data: Data | None, samples: int) -> _Seen:
        """One pass over the samples."""
        clips = [n for n in model.graph if n.op_type == "Clip" and not n.domain]
        axes = {_input(n): 1 if "Conv" in n.op_type else -1 for n in weighted_layers(model)}
        seen = cls({}, {})
        if data is None:
            return seen
        names = {*axes, *map(_input, clips)}
        run = runner(model, [v.name or "" for v in model.graph.inputs], names)
        for feeds in batches_of(model, data, 16, samples):
            values = run(feeds)
            for name, axis in axes.items():
                x = np.moveaxis(np.abs(values[name]), axis, 0).reshape(values[name].shape[axis], -1)
                most = x.max(1, initial=0).astype(np.float64)
                seen.channels[name] = np.maximum(seen.channels.get(name, 0.0), most)
            for node in clips:
                name = _input(node)
                most_here = float(values[name].max(initial=-np.inf))
                seen.most[name] = max(seen.most.get(name, -np.inf), most_here)
        return seen


def _input(node: ir.Node) -> str:
    value = node.inputs[0]
    assert value is not None
    return value.name or ""


def _open_clips(model: ir.Model, seen: _Seen) -> list[str]:
    """Replaces each Clip from 0 on that clips nothing above; their names."""
    opened = []
    for node in list(model.graph):
        if node.op_type != "Clip" or node.domain:
            continue
        ends = clip_ends(node)
        if ends is None or ends[0] != 0 or ends[1] == np.inf or _input(node) not in seen.most:
            continue
        if seen.most[_input(node)] > ends[1]:
            continue
        opened.append(title(node))
        node.op_type = "Relu"
        node.resize_inputs(1)
        node.attributes.clear()
    sweep(model)
    return opened


class _Row(NamedTuple):
    """Channels that share a grid.

    Attributes:
        classes: int64[channels].
        sign: 1 if their ranges grow with t, −1 if they shrink.
        ranges: float64[channels], log ρ; −∞ for a channel that is always zero.
        activation: Whether they are those of an activation.
    """

    classes: NDArray[np.int64]
    sign: int
    ranges: Floats
    activation: bool = False


@dataclass(frozen=True)
class _Tensor:
    """The ranges of one weight and of what it multiplies, as functions of the factors.

    Attributes:
        product: The layer.
        size: float32[groups, outputs, inputs], the largest |W| over the taps.
        activation: float64[input channels], the largest |x|; None if not known.
    """

    product: Product
    size: NDArray[np.float32]
    activation: Floats | None

    def rows(self, t: Floats, *, per_channel: bool) -> list[_Row]:
        """The channels of each tensor that has a grid of its own."""
        p, (g, o, i) = self.product, self.size.shape
        made, undone = t[p.makes].reshape(g, o), t[p.reads].reshape(g, i)
        found = []
        with np.errstate(divide="ignore"):
            read_by = np.log((self.size * made[:, :, None].astype(np.float32)).max(1) / undone)
            found.append(_Row(p.reads, -1, read_by.ravel()))
            if not per_channel:
                by = (self.size / undone[:, None, :].astype(np.float32)).max(2) * made
                found.append(_Row(p.makes, 1, np.log(by).ravel()))
            if self.activation is not None:
                found.append(_Row(p.reads, 1, np.log(self.activation * t[p.reads]), True))
        return found


@dataclass(frozen=True)
class _Problem:
    """log ρ = its mean in the tensor, in the least-squares sense."""

    tensors: tuple[_Tensor, ...]
    count: int
    per_channel: bool
    activations: float

    @classmethod
    def of(cls, scaling: Scaling, seen: _Seen, per_channel: bool, activations: float) -> _Problem:
        """The tensors of a model."""
        tensors = []
        for p in scaling.products:
            size = np.abs(p.blocks(np.ascontiguousarray(read(p.node, 1)))).max(-1)
            name = _input(p.node)
            tensors.append(_Tensor(p, size.astype(np.float32), seen.channels.get(name)))
        return cls(tuple(tensors), scaling.count, per_channel, activations)

    def rows(self, log_t: Floats) -> Iterator[_Row]:
        """The channels of all tensors."""
        for tensor in self.tensors:
            yield from tensor.rows(np.exp(log_t), per_channel=self.per_channel)

    def solve(self) -> Floats:
        """log t, float64[classes], by Jacobi's method; ranges follow the factors at every turn."""
        log_t = np.zeros(self.count)
        for _ in range(_TURNS):
            pull, times = np.zeros(self.count), np.zeros(self.count)
            for row in self.rows(log_t):
                weight = self.activations if row.activation else 1.0
                live = np.isfinite(row.ranges)
                if live.any():
                    off = np.where(live, row.ranges - row.ranges[live].mean(), 0.0)
                    pull -= np.bincount(row.classes, weight * row.sign * off, self.count)
                    times += np.bincount(row.classes, weight * live, self.count)
            pull[0] = 0.0
            new = np.clip(log_t + pull / np.where(times > 0, times, 1), -_FARTHEST, _FARTHEST)
            settled = np.abs(new - log_t).max() < _SETTLED
            log_t = new
            if settled:
                break
        return log_t

    def unevenness(self, log_t: Floats) -> float:
        """Mean over all channels of all tensors of log₂ (range of the tensor / of the channel)."""
        lost = [np.zeros(0)]
        for row in self.rows(log_t):
            live = row.ranges[np.isfinite(row.ranges)]
            lost.append(live.max(initial=-np.inf) - live)
        found = np.concatenate(lost)
        return float(found.mean() / np.log(2)) if found.size else 0.0
