"""The quantise pass: where integers go, over which ranges, and what they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from edgec.calibration.grid import Grid, Scheme
from edgec.calibration.ranges import observe, ranges_of
from edgec.errors import UnsupportedError, UsageError
from edgec.model import copied
from edgec.passes.base import Context, Pass
from edgec.passes.opset import RaiseOpset
from edgec.passes.quantize.insert import insert
from edgec.passes.quantize.place import place
from edgec.passes.quantize.placement import Placement
from edgec.passes.quantize.pools import GlobalPools
from edgec.passes.quantize.rules import QuantizeRules
from edgec.passes.quantize.weights import WEIGHT_METHODS, StoredWeight


@dataclass(frozen=True)
class QuantizeRecord:
    """What the quantise pass did.

    Attributes:
        observer, rounding: The options in force.
        samples: How many samples the ranges are from.
        weights: Names of the weights in integers.
        grids: Activation → its grid.
        floats: Node → why it stays in floats.
        notes: What a reader has to know.
    """

    observer: str
    rounding: str
    samples: int
    weights: tuple[str, ...]
    grids: Mapping[str, Grid]
    floats: Mapping[str, str]
    notes: tuple[str, ...] = ()

    @property
    def products(self) -> int:
        """Layers with weights, in integers or not."""
        return len(self.weights) + len(self.floats)

    @property
    def quantised(self) -> int:
        """Those in integers."""
        return len(self.weights)


@dataclass(frozen=True)
class Quantize(Pass):
    """Puts Q/DQ where the target computes in integers.

    Attributes:
        rules: The target's.
        observer: How the range of an activation is found.
        rounding: How weights become integers.
        exclude: Patterns of node names that stay in floats.
        samples: How many samples to look at; None: all.
    """

    rules: QuantizeRules
    observer: str = "mse"
    rounding: str = "nearest"
    exclude: tuple[str, ...] = ()
    samples: int | None = None
    name: ClassVar[str] = "quantize"

    def requires(self, model: ir.Model, context: Context) -> None:
        """There are samples."""
        if context.data is None:
            raise UsageError("--quantize", "needs to see activations", "give --data")

    def run(self, model: ir.Model, context: Context) -> ir.Model:
        """Places, observes, rounds, inserts, corrects; the model is changed in place."""
        assert context.data is not None
        model = GlobalPools()(RaiseOpset(13)(model, context), context)
        placement = place(model, self.rules, exclude=self.exclude)
        if not placement.weights:
            raise UnsupportedError("the model", "has nothing to quantise", _reasons(placement))
        seen = observe(
            model, [p.value for p in placement.points], context.data, samples=self.samples
        )
        grids = ranges_of(seen, self.observer, self.rules.activations, placement.tied)
        weights = _weights(model, placement, self.rules.weights)
        floats = copied(model)
        insert(model, placement, grids, weights)
        del floats
        context.records[self.name] = QuantizeRecord(
            self.observer, self.rounding, self.samples or 0,
            tuple(w.initializer for w in placement.weights), grids, placement.floats,
        )  # fmt: skip
        return model


def _weights(model: ir.Model, placement: Placement, scheme: Scheme) -> dict[str, StoredWeight]:
    found = {}
    for weight in placement.weights:
        tensor = model.graph.initializers[weight.initializer].const_value
        assert tensor is not None
        array = tensor.numpy()
        grid = WEIGHT_METHODS["slim"].fit(array, scheme, weight.axis, None)
        found[weight.initializer] = StoredWeight.of(array, grid)
    return found


def _reasons(placement: Placement) -> str:
    shown = [f"{node}: {why}" for node, why in list(placement.floats.items())[:6]]
    return "; ".join(shown) or "it has no layer with weights"
