"""The quantise pass: where integers go, over which ranges, and what they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import onnx_ir as ir
from numpy.typing import NDArray

from edgec.calibration.cache import Cache
from edgec.calibration.grid import Grid
from edgec.calibration.observers import OBSERVERS
from edgec.calibration.ranges import ranges_of, remarks
from edgec.errors import UnsupportedError, UsageError
from edgec.passes.base import Context, Data, Pass
from edgec.passes.opset import RaiseOpset
from edgec.passes.quantize.bias import channels_read, correct_locally
from edgec.passes.quantize.bits import with_bits
from edgec.passes.quantize.candidates import PRODUCTS, op_name
from edgec.passes.quantize.equalize import Equalise
from edgec.passes.quantize.gains import doubtful
from edgec.passes.quantize.insert import insert
from edgec.passes.quantize.place import place
from edgec.passes.quantize.placement import Placement
from edgec.passes.quantize.pools import GlobalPools
from edgec.passes.quantize.rounding import ROUNDINGS, round_weights
from edgec.passes.quantize.rules import QuantizeRules
from edgec.passes.quantize.weights import WEIGHT_METHODS, StoredWeight
from edgec.suggest import check_known

_PAIRS = 13  # the operator set from which on scales may run along an axis
_NARROW = 21  # and that from which on integers may have 4 bits
FIT = "slim"


@dataclass(frozen=True)
class QuantizeRecord:
    """What the quantise pass did.

    Attributes:
        observer, rounding: The options in force.
        samples: How many samples the ranges are from.
        corrected: Layers whose bias takes out the mean error of the rounded weights.
        weights: Names of the weights in integers.
        quantised, products: Layers in integers, and all of them.
        grids: Activation → its grid.
        floats: Node → why it stays in floats.
        doubtful: Layer in integers → why it hardly gains by itself.
        remembered: Whether the ranges are from the cache.
        notes: What a reader has to know.
    """

    observer: str
    rounding: str
    samples: int
    corrected: int
    weights: tuple[str, ...]
    quantised: int
    products: int
    grids: Mapping[str, Grid]
    floats: Mapping[str, str]
    doubtful: Mapping[str, str]
    remembered: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Quantize(Pass):
    """Puts Q/DQ where the target computes in integers.

    Attributes:
        rules: The target's.
        observer: How the range of an activation is found (`OBSERVERS`).
        rounding: How weights become integers (`ROUNDINGS`).
        exclude: Patterns of node names that stay in floats.
        bits: Layer → width of its weight, where that is not what the rules say.
        equalise: Whether channels that share a grid are given like ranges before.
        correct: Whether biases take out the mean error that rounded weights make.
        keep: Whether what was observed is kept for the next time.
    """

    rules: QuantizeRules
    observer: str = "mse"
    rounding: str = "nearest"
    exclude: tuple[str, ...] = ()
    bits: Mapping[str, int] = field(default_factory=dict)
    equalise: bool = False
    correct: bool = True
    keep: bool = False
    name: ClassVar[str] = "quantize"

    def requires(self, model: ir.Model, context: Context) -> None:
        """There are samples, and the options name what exists."""
        check_known(f"observer '{self.observer}'", self.observer, OBSERVERS)
        check_known(f"rounding '{self.rounding}'", self.rounding, ROUNDINGS)
        if context.data is None:
            raise UsageError("--quantize", "needs to see activations", "give --data")

    def placed(self, model: ir.Model, context: Context) -> tuple[ir.Model, Placement]:
        """The model in an operator set that can say it, and where integers go."""
        least = _NARROW if any(width != 8 for width in self.bits.values()) else _PAIRS
        model = GlobalPools()(RaiseOpset(least)(model, context), context)
        return model, with_bits(place(model, self.rules, exclude=self.exclude), self.bits)

    def run(self, model: ir.Model, context: Context) -> ir.Model:
        """Places, observes, rounds, corrects, inserts."""
        data = context.data
        assert data is not None
        if self.equalise:
            model = Equalise(per_channel=True)(model, context)
        model, placement = self.placed(model, context)
        if not placement.weights:
            raise UnsupportedError("the model", "has nothing to quantise", _reasons(placement))
        cache = Cache.default() if self.keep else Cache(None)
        placed = [p.value for p in placement.points]
        axes = {name: axis for name, axis in channels_read(model).items() if name in placed}
        seen = cache.observe(model, placed, data, channels=axes if self.correct else None)
        odd = remarks(seen)
        if odd and len(odd) == len(seen):
            raise UsageError(
                "calibration data", f"are all alike: {_some(odd)}",
                "give samples that the network is meant for",
            )  # fmt: skip
        grids = ranges_of(seen, self.observer, self.rules.activations, placement.tied)
        stored = self._stored(model, placement, data)
        slow = doubtful(model, placement)
        corrected = 0
        if self.correct:
            means = {name: histogram.channels for name, histogram in seen.items()}
            corrected = correct_locally(model, stored, means).corrected
        insert(model, placement, grids, stored)
        notes = [*cache.notes, *([f"on these samples {_some(odd)}"] if odd else [])]
        layers = {node for w in placement.weights for node, _ in w.readers}
        others = {n.name for n in model.graph if op_name(n) in PRODUCTS} & set(placement.floats)
        samples = max((histogram.samples for histogram in seen.values()), default=0)
        context.records[self.name] = QuantizeRecord(
            self.observer, self.rounding, samples, corrected,
            tuple(w.initializer for w in placement.weights), len(layers), len(layers | others),
            grids, placement.floats, slow, cache.hits > 0, tuple(notes),
        )  # fmt: skip
        return model

    def _stored(self, model: ir.Model, placement: Placement, data: Data) -> dict[str, StoredWeight]:
        """The integers of every weight."""
        arrays = {w.initializer: _array(model, w.initializer) for w in placement.weights}
        fit = WEIGHT_METHODS[FIT].fit
        grids = {
            w.initializer: fit(
                arrays[w.initializer], replace(self.rules.weights, bits=w.bits), w.axis, None
            )
            for w in placement.weights
        }
        if self.rounding == "nearest":
            return {name: StoredWeight.of(arrays[name], grid) for name, grid in grids.items()}
        return round_weights(model, grids, data, method=self.rounding)[0]


def _array(model: ir.Model, name: str) -> NDArray[Any]:
    tensor = model.graph.initializers[name].const_value
    assert tensor is not None
    return tensor.numpy()


def _some(remarks: Mapping[str, str], most: int = 3) -> str:
    shown = ", ".join(f"activation '{name}' {what}" for name, what in list(remarks.items())[:most])
    return shown + (f", … ({len(remarks)})" if len(remarks) > most else "")


def _reasons(placement: Placement) -> str:
    shown = [f"{node}: {why}" for node, why in list(placement.floats.items())[:6]]
    return "; ".join(shown) or "it has no layer with weights"
