"""Kept indices as arrays: what they keep of a tensor, and what they leave.

`rows` names the axes that are divided into equal blocks, in order; `kept` then holds one tuple of
indices per block, the last of those axes running fastest.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Protocol

import numpy as np

from edgec.errors import UsageError

Kept = tuple[int, ...] | tuple[tuple[int, ...], ...]
Rows = tuple[tuple[int, int], ...]


class Keeping(Protocol):
    """What is kept along one axis of an array."""

    @property
    def axis(self) -> int:
        """The axis that shrinks."""

    @property
    def rows(self) -> Rows:
        """The axes whose blocks keep indices of their own."""

    def mask(self, shape: Sequence[int]) -> np.ndarray:
        """bool, broadcastable to `shape`: True where an element is kept."""


def blocks_of(kept: Kept, rows: Rows) -> tuple[tuple[int, ...], ...]:
    """The kept indices of every block; a single block without rows."""
    return kept if rows else (kept,)  # type: ignore[return-value]


def pattern(
    where: str,
    axis: int,
    size: int,
    blocks: Sequence[Sequence[int]],
    rows: Rows,
    shape: Sequence[int],
) -> np.ndarray:
    """bool, broadcastable to `shape`: True where an element is kept.

    Errors:
        UsageError: an array of that shape is not one they can be about; `where` is its subject.
    """
    axes = [axis, *(other for other, _ in rows)]
    if max(axes) >= len(shape) or shape[axis] != size:
        raise UsageError(where, f"does not fit an array of shape {list(shape)}")
    for other, count in rows:
        if shape[other] % count:
            raise UsageError(where, f"{count} blocks do not divide axis {other} of {list(shape)}")
    # One row of the table per block; its first axes are the blocks, its last is `axis`.
    table = np.zeros((prod(count for _, count in rows), size), bool)
    for row, kept in zip(table, blocks, strict=True):
        row[list(kept)] = True
    table = table.reshape([count for _, count in rows] + [size])
    for position, (other, count) in enumerate(rows):
        table = np.repeat(table, shape[other] // count, axis=position)
    order = sorted(range(len(rows) + 1), key=[*axes[1:], axis].__getitem__)
    full = [1] * len(shape)
    for other in axes:
        full[other] = shape[other]
    return table.transpose(order).reshape(full)


def taken(array: np.ndarray, cuts: Sequence[Keeping], subject: str = "plan") -> np.ndarray:
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
