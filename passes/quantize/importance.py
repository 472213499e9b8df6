"""Orders of layers by importance, found without rounding each of them.

    lim          1 − cos(in, out), the mean over positions: how much a layer changes what it reads
                 (layer input modification, Dumitru et al. 2024). Input and output are those of the
                 smallest residual block around the layer, or its own where their shapes are equal
    zd           1 − the share of its weights with (w − mean) / std > 1 (z-score distribution, same
                 paper: fewer such weights, more important)
    prune-slope  d(damage) / d(share of channels removed), the least-squares line through zero over
                 growing shares: the layer's channel group, least important first, is masked and the
                 model is run (in the manner of CPTQuant's PMPQ)

All are non-negative; the larger, the more bits a layer should keep.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Protocol

import numpy as np
import onnx_ir as ir

from edgec.calibration.data import Data
from edgec.calibration.moments import stream, weighted_layers
from edgec.calibration.sources import Array
from edgec.calibration.variants import Parts, Variant, sweep
from edgec.graph.channels import ChannelGroups, channel_groups
from edgec.graph.facts import Facts, facts_of
from edgec.graph.mask import masked_model
from edgec.model_inputs import input_shapes
from edgec.passes.prune.allocate import Options, options_of
from edgec.passes.prune.criteria import Evidence, scored
from edgec.passes.prune.prune import makers_of
from edgec.passes.quantize.placement import Weight
from edgec.passes.quantize.yardstick import Yardstick

RATES = (0.1, 0.2, 0.35, 0.5)

Weights = Mapping[str, Weight]
Measured = Callable[[Mapping[str, object], Callable[[], float]], float]
"""(what a number follows from, how to find it) → the number, kept from run to run."""


@dataclass
class Ranked:
    """Importances.

    Attributes:
        importance: Layer → how important, ≥ 0.
        silent: Layer → why the method says nothing about it.
    """

    importance: dict[str, float] = field(default_factory=dict)
    silent: dict[str, str] = field(default_factory=dict)


class Rank(Protocol):
    """Ranks layers."""

    def __call__(
        self, model: ir.Model, weights: Weights, data: Data | None, metric: str, measured: Measured
    ) -> Ranked:
        """The importances of the layers that read `weights`, by the name of the layer."""


@dataclass(frozen=True)
class Importance:
    """One method."""

    summary: str
    rank: Rank


# --- input against output ------------------------------------------------------------------------


def _lim(
    model: ir.Model, weights: Weights, data: Data | None, metric: str, measured: Measured
) -> Ranked:
    assert data is not None
    facts = facts_of(model, input_shapes(model))
    blocks = list(_residual_blocks(model, facts))
    nodes = {node.name or "": node for node in model.graph}
    ranked = Ranked()
    spans: dict[str, tuple[str, str, int]] = {}
    for name in weights:
        ends = _span(nodes[name], blocks, facts)
        if ends is None:
            ranked.silent[name] = "no residual block is around it, and its shapes differ"
        else:
            spans[name] = (*ends, 1 if nodes[name].op_type.startswith("Conv") else -1)
    sums = {span: np.zeros(2) for span in spans.values()}
    for values in stream(model, {v for a, b, _ in sums for v in (a, b)}, data):
        for span, total in sums.items():
            total += _cosines(values[span[0]], values[span[1]], span[2])
    for name, span in spans.items():
        ranked.importance[name] = max(0.0, 1 - float(sums[span][0] / sums[span][1]))
    return ranked


def _cosines(a: Array, b: Array, axis: int) -> Array:
    """Sum of the cosines along an axis, and their number; float64[2]."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    size = np.sqrt((a * a).sum(axis) * (b * b).sum(axis))
    products = (a * b).sum(axis)
    cosines = np.divide(products, size, out=np.ones_like(products), where=size > 0)
    return np.asarray([cosines.sum(), cosines.size])


@dataclass(frozen=True)
class _Block:
    """What lies between a value and the Add that returns to it."""

    start: ir.Value
    end: ir.Value
    body: frozenset[ir.Node]


def _residual_blocks(model: ir.Model, facts: Facts) -> Iterator[_Block]:
    """Every Add of a value and something computed from it, of one shape."""
    for node in model.graph:
        if node.op_type != "Add" or node.domain:
            continue
        for shortcut, other in (node.inputs[:2], node.inputs[1::-1]):
            if shortcut is None or other is None or other.producer() is None:
                continue
            body = _between(shortcut, other)
            if body and facts[shortcut].shape == facts[node.outputs[0]].shape:
                yield _Block(shortcut, node.outputs[0], frozenset(body))


def _between(start: ir.Value, end: ir.Value) -> set[ir.Node]:
    """The nodes on ways from one value to another."""
    before: set[ir.Node] = set()
    reached = False
    waiting = [end]
    while waiting:
        value = waiting.pop()
        reached = reached or value is start
        node = value.producer()
        if value is not start and node is not None and node not in before:
            before.add(node)
            waiting += [v for v in node.inputs if v is not None]
    if not reached:
        return set()
    after: set[ir.Node] = set()
    readers = list(start.consumers())
    while readers:
        node = readers.pop()
        if node in before and node not in after:
            after.add(node)
            readers += [n for v in node.outputs for n in v.consumers()]
    return after


def _span(node: ir.Node, blocks: list[_Block], facts: Facts) -> tuple[str, str] | None:
    around = [block for block in blocks if node in block.body]
    if around:
        block = min(around, key=lambda b: len(b.body))
        return block.start.name or "", block.end.name or ""
    x, y = node.inputs[0], node.outputs[0]
    if x is None or facts[x].shape is None or facts[x].shape != facts[y].shape:
        return None
    return x.name or "", y.name or ""


# --- weights alone -------------------------------------------------------------------------------


def _zd(
    model: ir.Model, weights: Weights, data: Data | None, metric: str, measured: Measured
) -> Ranked:
    ranked = Ranked()
    for name, weight in weights.items():
        tensor = model.graph.initializers[weight.initializer].const_value
        assert tensor is not None
        w = np.asarray(tensor.numpy(), np.float64)
        spread = float(w.std())
        share = float((w - w.mean() > spread).mean()) if spread > 0 else 0.0
        ranked.importance[name] = 1 - share
    return ranked


# --- pruning -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Masked(Variant):
    share: float


def _prune_slope(
    model: ir.Model, weights: Weights, data: Data | None, metric: str, measured: Measured
) -> Ranked:
    assert data is not None
    pruning = _Pruning(model, data, metric)
    groups = pruning.groups
    group_of = {
        maker: number for number, group in enumerate(groups) for maker in makers_of(groups, group)
    }
    slopes = {
        number: measured(
            {"group": groups.groups[number].name, "rates": list(RATES)},
            partial(pruning.slope, number),
        )
        for number in sorted({group_of[name] for name in weights if name in group_of})
    }
    why = {pin.name: pin.why for pin in groups.pinned}
    ranked = Ranked()
    for name in weights:
        if name in group_of:
            ranked.importance[name] = max(0.0, slopes[group_of[name]])
        else:
            ranked.silent[name] = f"none of its channels can be removed: {why.get(name, 'pinned')}"
    return ranked


class _Pruning:
    """Channel groups of a model, and what the outputs lose with their channels."""

    def __init__(self, model: ir.Model, data: Data, metric: str) -> None:
        self.groups = channel_groups(model)
        self._model, self._data, self._metric = model, data, metric
        scores, _ = scored("l2", Evidence(self.groups, np.random.default_rng(0)))
        self._options = options_of(self.groups, scores, 1)

    @cached_property
    def _bench(self) -> tuple[Parts, Yardstick]:
        parts = Parts(self._model, weighted_layers(self._model))
        return parts, Yardstick(self._metric, self._model, parts, self._data)

    def slope(self, number: int) -> float:
        """Of the line through zero, for one group: Σ share · damage / Σ share²."""
        parts, yardstick = self._bench
        variants = list(_masked(self.groups, self._options[number]))
        found = [
            (variant.share, meter.damage)
            for variant, meter in sweep(parts, variants, yardstick.batches, yardstick.meter)
        ]
        power = sum(share**2 for share, _ in found)
        return sum(share * damage for share, damage in found) / power if power else 0.0


def _masked(groups: ChannelGroups, options: Options) -> Iterator[_Masked]:
    """The model with growing shares of a group silenced."""
    last = len(options.lost) - 1
    for lost in sorted({min(max(round(rate * (last + 1)), 1), last) for rate in RATES} - {0}):
        alive = np.ones(groups.units, bool)
        alive[options.removed(lost)] = False
        make = partial(masked_model, groups, alive)
        changed = frozenset(_changed(groups.model, make()))
        if changed:
            yield _Masked(changed, make, lost * options.group.step / options.group.width)


def _changed(model: ir.Model, made: ir.Model) -> Iterator[str]:
    """Names of what nodes give that read other values in a copy."""
    reads = {
        value.name: [v.name if v is not None else None for v in node.inputs]
        for node in made.graph
        for value in node.outputs
    }
    for node in model.graph:
        name = node.outputs[0].name
        if reads.get(name) != [v.name if v is not None else None for v in node.inputs]:
            yield name or ""


IMPORTANCES: Mapping[str, Importance] = {
    "lim": Importance("1 − cosine of what a layer's block reads and gives", _lim),
    "zd": Importance("share of weights that are no outliers; needs no data", _zd),
    "prune-slope": Importance("damage per share of its channels removed", _prune_slope),
}
