"""Rows that must keep equal counts, and what they let go together.

    box    a matrix of units, [rows, columns]; every row must keep equally many columns
    cell   the units that lie in the same rows of all boxes equally often: any of them may go first
    sort   the cells that lie in the same boxes

A unit may lie in several rows of a box: a key channel in all query heads that read it, or the q and
the k part of a fused projection. All cells of a block lose the same number n of units. A row then
loses n · Σ times, over the cells in it, so that sum must be the same for all rows of a box.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgec.graph.deadline import Clock

Units = NDArray[np.int64]
Mask = NDArray[np.bool_]


class Rows:
    """All boxes of a graph.

    Attributes:
        cell_of: int64[units], the cell of each unit; -1 for units in no box.
        cells: Number of cells.
        clashing: Units that some box holds unequally often in its rows: none can go.
    """

    def __init__(self, boxes: Sequence[Units], count: int) -> None:
        self._heights = np.array([len(box) for box in boxes], np.int64)
        self._starts = np.cumsum(self._heights) - self._heights
        self._box_of_row = np.repeat(np.arange(len(boxes)), self._heights)
        unit, row, times = _incidences(boxes, self._starts)
        self.clashing = _unequal(unit, self._box_of_row[row], times)
        self.cell_of = np.full(count, -1, np.int64)
        classes = class_of(unit, row, times, count, len(self._box_of_row))
        boxed = np.unique(unit)
        firsts, cells = np.unique(classes[boxed], return_index=True, return_inverse=True)[1:]
        self.cell_of[boxed] = np.argsort(np.argsort(firsts))[cells]  # in order of their first units
        self.cells = len(firsts)
        shown = np.isin(unit, boxed[firsts])  # one unit stands for its cell
        self._cell, self._row, self._times = self.cell_of[unit[shown]], row[shown], times[shown]

    def settle(self, free: Mask) -> Mask:
        """Of the cells that have units left (bool[cells]), those that can lose some.

        Where the rows of a box would lose unequal numbers, none of its cells can.
        """
        free = free.copy()
        clock = Clock("the count of what rows can lose")
        while len(self._starts):
            clock.check("the last row", f"{int(free.sum()):,} of {self.cells:,} cells were left")
            weight = self._weights(free[self._cell])
            most = np.maximum.reduceat(weight, self._starts)
            uneven = most != np.minimum.reduceat(weight, self._starts)
            stuck = self._cell[uneven[self._box_of_row[self._row]] & free[self._cell]]
            if not stuck.size:
                break
            free[stuck] = False
        return free

    def _weights(self, chosen: Mask) -> Units:
        """What every row loses if every chosen incidence's cell loses one: int64[rows]."""
        return np.bincount(
            self._row[chosen], self._times[chosen], minlength=len(self._box_of_row)
        ).astype(np.int64)

    def blocks(self, free: Mask) -> Units:
        """A number per cell, equal for cells that must lose equal counts: int64[cells].

        Cells of one sort do. Sorts decide for themselves if each alone is even in every box.
        """
        box = self._box_of_row[self._row]
        pairs = np.unique(self._cell * len(self._starts) + box)
        cell, held = np.divmod(pairs, max(len(self._starts), 1))
        sort_of = class_of(cell, held, np.ones_like(cell), self.cells, len(self._starts))
        leader = np.arange(len(sort_of))
        live = free[self._cell]
        order = np.flatnonzero(live)[np.argsort(box[live], kind="stable")]
        for part in np.split(order, np.flatnonzero(np.diff(box[order])) + 1):
            sorts = np.unique(sort_of[self._cell[part]])
            uneven = [sort for sort in sorts if self._uneven(part, sort_of, sort)]
            for other in uneven[1:]:
                _hook(leader, uneven[0], other)
        roots = np.array([_root(leader, s) for s in range(len(leader))], np.int64)
        return roots[sort_of] if len(sort_of) else sort_of

    def _uneven(self, part: Units, sort_of: Units, sort: int) -> bool:
        """Whether the rows of one box hold a sort unequally often; `part`: the box's incidences."""
        own = part[sort_of[self._cell[part]] == sort]
        box = self._box_of_row[self._row[part[0]]]
        rows = self._row[own] - self._starts[box]
        weight = np.bincount(rows, self._times[own], minlength=self._heights[box])
        return bool((weight != weight[0]).any())


def _incidences(boxes: Sequence[Units], starts: Units) -> tuple[Units, Units, Units]:
    """(unit, row, times) of every unit but the fixed one in every row that holds it."""
    found = [np.zeros((3, 0), np.int64)]
    for box, start in zip(boxes, starts, strict=True):
        codes, times = np.unique(box * len(box) + np.arange(len(box))[:, None], return_counts=True)
        unit, row = np.divmod(codes, len(box))
        found.append(np.stack([unit, row + start, times])[:, unit > 0])
    unit, row, times = np.concatenate(found, axis=1)
    return unit, row, times


def _unequal(unit: Units, box: Units, times: Units) -> Units:
    """Units of which one box has unequal `times`."""
    order = np.lexsort((box, unit))
    unit, box, times = unit[order], box[order], times[order]
    same = (unit[1:] == unit[:-1]) & (box[1:] == box[:-1])
    return np.unique(unit[1:][same & (times[1:] != times[:-1])])


def class_of(item: Units, place: Units, times: Units, items: int, places: int) -> Units:
    """A number per item, equal for items that are in the same places equally often: int64[items].

    Args:
        item, place, times: int64[n], one entry for every item in every place.
        items, places: How many there are.
    """
    rng = np.random.default_rng(0)  # a random linear hash
    weights = rng.integers(1, 2**63, places, dtype=np.uint64)
    prints = np.zeros(items, np.uint64)
    np.add.at(prints, item, weights[place] * times.astype(np.uint64))
    return np.unique(prints, return_inverse=True)[1].astype(np.int64)


def _root(leader: Units, item: int) -> int:
    while leader[item] != item:
        item = leader[item]
    return item


def _hook(leader: Units, one: int, other: int) -> None:
    a, b = _root(leader, one), _root(leader, other)
    leader[max(a, b)] = min(a, b)
