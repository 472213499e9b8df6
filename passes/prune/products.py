"""Channels that no weight reads: what a product of two activations contracts, as q·kᵀ does.

With a and b the two operands, channel c adds a[c] · b[c] to the sum. If the two are independent,
the variance of that term is  E[a²] E[b²] - E[a]² E[b]²: how much less it fluctuates without it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgec.calibration.moments import Axes, Moments
from edgec.graph.channels import ChannelGroups
from edgec.graph.stored import source_of
from edgec.ops.labels import Factor

Floats = NDArray[np.float64]
Value = tuple[str, Axes]  # a value's name and the axes along which its channels lie


@dataclass(frozen=True)
class Operand:
    """One activation that a node contracts.

    Attributes:
        value: Its name and channel axes.
        units: int64[channels], the unit of each channel.
    """

    value: Value
    units: NDArray[np.int64]

    def average(self, per_channel: Floats, units: int) -> Floats:
        """A statistic per channel as the mean per unit: float64[units]."""
        times = np.bincount(self.units, minlength=units)
        return np.bincount(self.units, per_channel, units) / np.maximum(times, 1)


@dataclass(frozen=True)
class Product:
    """A contraction without a weight; `b` is None where a channel is added up by itself."""

    a: Operand
    b: Operand | None


def products(groups: ChannelGroups) -> Iterator[Product]:
    """Every contraction of activations that silencing a channel would change."""
    for mix in groups.trace.mixes:
        if any(source_of(v) for i, v in enumerate(mix.node.inputs) if i != mix.index):
            continue  # it has a weight
        for factor in mix.labels:
            a = _operand(groups, mix.node.inputs[mix.index], factor)
            if a is None:
                continue
            others = [
                operand
                for i, value in enumerate(mix.node.inputs)
                if i != mix.index and value is not None
                for other in groups.trace.labels.get(value, ())
                if (operand := _operand(groups, value, other)) is not None
                and np.isin(operand.units, a.units[a.units > 0]).any()
            ]
            yield Product(a, others[0] if others else None)


def _operand(groups: ChannelGroups, value: ir.Value | None, factor: Factor) -> Operand | None:
    if value is None or value.const_value is not None:
        return None
    axes = tuple(sorted(factor.order))
    return Operand((value.name or "", axes), groups.unit_of[factor.ids].ravel())


def shares(product: Product, moments: Mapping[Value, Moments], units: int) -> Floats | None:
    """Each unit's share of the variance of a product: float64[units]; None if it was not seen."""
    a, b = product.a, product.b
    if a.value not in moments or (b is not None and b.value not in moments):
        return None
    mean, square = _power(a, moments[a.value], units)
    if b is not None:
        other_mean, other_square = _power(b, moments[b.value], units)
        power = square * other_square - mean**2 * other_mean**2
    else:
        power = square - mean**2
    power = np.maximum(power, 0) * np.bincount(a.units, minlength=units)
    return np.asarray(power / max(float(power.sum()), 1e-30))


def _power(operand: Operand, moments: Moments, units: int) -> tuple[Floats, Floats]:
    """E[x] and E[x²] per unit."""
    return (
        operand.average(moments.mean, units),
        operand.average(moments.var + moments.mean**2, units),
    )
