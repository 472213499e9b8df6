"""Kept indices as arrays: what they keep of a tensor, and what they leave.

`rows` names the axes that are divided into equal blocks, in order; `kept` then holds one tuple of
indices per block, the last of those axes running fastest.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from math import prod

import numpy as np

from edgec.errors import UsageError

Kept = tuple[int, ...] | tuple[tuple[int, ...], ...]
Rows = tuple[tuple[int, int], ...]


def blocks_of(kept: Kept, rows: Rows) -> tuple[tuple[int, ...], ...]:
    """The kept indices of every block; a single block without rows."""
    return kept if rows else (kept,)  # type: ignore[return-value]


class Along(ABC):
    """Indices kept along one axis of an array: what the parts of a plan share.

    Attributes:
        axis: The axis that shrinks.
        size: Its length before the cut.
        kept: Increasing original indices; one tuple of them per block when `rows` is set.
        rows: (axis, blocks) of each axis that is divided into blocks with their own indices.
    """

    axis: int
    size: int
    kept: Kept
    rows: Rows

    @property
    @abstractmethod
    def where(self) -> str:
        """Its place in the plan: the subject of errors."""

    def blocks(self) -> tuple[tuple[int, ...], ...]:
        """The kept indices of every block; a single block when `rows` is not set."""
        return blocks_of(self.kept, self.rows)

    def mask(self, shape: Sequence[int]) -> np.ndarray:
        """bool, broadcastable to `shape` (of the original array): True where an element is kept.

        Errors:
            UsageError: An array of that shape is not one this can be about.
        """
        axes = [self.axis, *(other for other, _ in self.rows)]
        if max(axes) >= len(shape) or shape[self.axis] != self.size:
            raise UsageError(self.where, f"does not fit an array of shape {list(shape)}")
        for other, count in self.rows:
            if shape[other] % count:
                fact = f"{count} blocks do not divide axis {other} of {list(shape)}"
                raise UsageError(self.where, fact)
        # One row of the table per block; its first axes are the blocks, its last is `axis`.
        table = np.zeros((prod(count for _, count in self.rows), self.size), bool)
        for row, kept in zip(table, self.blocks(), strict=True):
            row[list(kept)] = True
        table = table.reshape([count for _, count in self.rows] + [self.size])
        for position, (other, count) in enumerate(self.rows):
            table = np.repeat(table, shape[other] // count, axis=position)
        order = sorted(range(len(axes)), key=[*axes[1:], self.axis].__getitem__)
        full = [1] * len(shape)
        for other in axes:
            full[other] = shape[other]
        return table.transpose(order).reshape(full)


def taken(array: np.ndarray, cuts: Sequence[Along], subject: str = "plan") -> np.ndarray:
    """`array` without the indices that any of the cuts drops.

    Errors:
        UsageError: what is kept is not a box: some block keeps more indices than another.
    """
    keep = np.ones(array.shape, bool)
    for cut in cuts:
        keep &= cut.mask(array.shape)
    by_block = {cut.axis for cut in cuts if cut.rows}
    touched = {axis for cut in cuts for axis in (cut.axis, *(row for row, _ in cut.rows))}
    shape = []
    for axis in range(array.ndim):
        if axis not in touched:
            shape.append(array.shape[axis])
            continue
        others = tuple(other for other in range(array.ndim) if other != axis)
        along = keep.sum(axis=axis) if axis in by_block else keep.any(axis=others).sum()
        shape.append(int(np.max(along, initial=0)))
    if prod(shape) != int(keep.sum()):
        raise UsageError(subject, "blocks keep unequal numbers of indices")
    # With the axes that blocks cut each in its way moved last, the kept elements of a box are, in
    # row-major order, those of the smaller array.
    order = sorted(range(array.ndim), key=lambda axis: axis in by_block)
    kept = array.transpose(order)[keep.transpose(order)].reshape([shape[axis] for axis in order])
    return kept.transpose(np.argsort(order))
