"""Sizes of tensors when channels go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgec.ops.labels import Factor, Ids, Labels

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Line:
    """The one axis along which a factor shrinks.

    Attributes:
        axis: That axis.
        units: int64, the factor's units; broadcasts to the tensor.
        rows: Axes along which the pattern differs (equal counts in each row); outermost first.
    """

    axis: int
    units: Ids
    rows: tuple[int, ...]

    def kept(self, alive: Mask) -> Mask:
        """bool, broadcasts to the tensor: which elements are kept."""
        kept: Mask = alive[self.units]
        return kept

    def indices(self, alive: Mask) -> NDArray[np.int64]:
        """Kept positions along `axis`, ascending; size 1 on axes that share the pattern.

        Raises:
            ValueError: Rows keep unequal counts.
        """
        kept = self.kept(alive)
        counts = kept.sum(self.axis)
        if (counts != counts.flat[0]).any():
            raise ValueError("rows keep unequal counts")
        order = np.argsort(~kept, axis=self.axis, kind="stable")
        return order.take(range(int(counts.flat[0])), self.axis)

    def positions(self, alive: Mask) -> Mask:
        """bool[size]: kept positions along `axis`, of the first row where rows differ."""
        kept = np.moveaxis(self.kept(alive), self.axis, -1)
        first: Mask = kept.reshape(-1, kept.shape[-1])[0]
        return first

    def length(self, alive: Mask) -> int:
        """New size of the axis."""
        rows: int = self.units.size // self.units.shape[self.axis]
        return int(self.kept(alive).sum()) // rows


def line_of(factor: Factor, unit_of: Ids, shape: Sequence[int]) -> Line | None:
    """The line of a factor of a tensor of this shape; None if nothing of the tensor can go.

    Axes along which all units are the same drop out first; of those left the innermost shrinks
    and the others are rows. A tensor of size 1 on that axis holds one entry for all of it.
    """
    units = unit_of[factor.ids]
    order = []
    for axis in factor.order:
        first = units.take([0], axis)
        if (units == first).all():
            units = first
        else:
            order.append(axis)
    if not order or shape[order[-1]] == 1:
        return None
    return Line(order[-1], units, tuple(order[:-1]))


def lines_of(labels: Labels, unit_of: Ids, shape: Sequence[int]) -> tuple[Line, ...]:
    """The lines of all factors of a tensor; ragged ones first, as they are cut first."""
    lines = [line for f in labels if (line := line_of(f, unit_of, shape)) is not None]
    return tuple(sorted(lines, key=lambda line: (not line.rows, line.axis)))


def new_shape(shape: Sequence[int], lines: Sequence[Line], alive: Mask) -> tuple[int, ...]:
    """Sizes of a tensor when only the units of `alive` are kept."""
    sizes = list(shape)
    for line in lines:
        sizes[line.axis] = line.length(alive)
    return tuple(sizes)
