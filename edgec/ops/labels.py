"""Channel labels: which elements of every tensor belong to which channel.

Vocabulary
    atom    one index on one weight axis; an int > 0. Atom 0 is *fixed*: it can never be removed.
    unit    atoms that must go together: a class of the union-find in `Atoms`.
    Factor  an integer array that broadcasts to a value's shape and says, per element, which atom
            the element belongs to. It has size 1 on the axes along which it does not vary.
    Labels  the factors of one value; no two of them vary along the same axis.

A value's axis on which no factor varies carries no channels and never shrinks.

A factor that varies along several axes is *ragged*: it came from splitting one axis into several,
outermost first in `order`. The kept elements must again form a box, so either whole outer rows go
or every row keeps an equal count; `Atoms.box` records that demand and `graph.channels` meets it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Factor:
    """Atoms of one value.

    Attributes:
        ids: int64, one dimension per axis of the value; size 1 on axes without variation.
        order: The axes along which `ids` varies, in the order in which they were split off
            one flat axis (outermost first).
    """

    ids: Ids
    order: tuple[int, ...]


Labels = tuple[Factor, ...]


@dataclass(frozen=True)
class Tie:
    """Channel `a[i]` goes with channel `b[i]`, because of `why` (a node's name and operator)."""

    a: Ids
    b: Ids
    why: str


@dataclass(frozen=True)
class Pin:
    """The channels `ids` cannot be removed, because of `why`, at the node or value `where`."""

    ids: Ids
    where: str
    why: str


@dataclass(frozen=True)
class Whole:
    """No row along `axis` of a ragged factor may go entirely."""

    factor: Factor
    axis: int
    where: str
    why: str


@dataclass(frozen=True)
class Box:
    """What is kept of a ragged factor must have equal counts in every row.

    `part` is the factor, or what a Slice takes of it along `axis`; each is counted by itself.
    """

    whole: Factor
    part: Ids
    axis: int | None = None


@dataclass(frozen=True)
class Batch:
    """Atoms `start … stop-1`, made together for one axis of one tensor."""

    start: int
    stop: int
    name: str


@dataclass
class Atoms:
    """A union-find over atoms that also remembers why: ties, pins and boxes.

    `here` names the node being labelled; every tie and pin made meanwhile carries it.
    """

    here: str = ""
    batches: list[Batch] = field(default_factory=list)
    ties: list[Tie] = field(default_factory=list)
    pins: list[Pin] = field(default_factory=list)
    boxes: list[Box] = field(default_factory=list)
    wholes: list[Whole] = field(default_factory=list)
    _parent: Ids = field(default_factory=lambda: np.zeros(1024, np.int64))
    _count: int = 1

    def __len__(self) -> int:
        """Number of atoms, the fixed atom 0 among them."""
        return self._count

    def fresh(self, size: int, name: str) -> Ids:
        """Makes `size` new atoms: int64[size]. `name` says whose channels they are."""
        start, stop = self._count, self._count + size
        if stop > len(self._parent):
            grown = np.zeros(max(stop, 2 * len(self._parent)), np.int64)
            grown[: self._count] = self._parent[: self._count]
            self._parent = grown
        ids = np.arange(start, stop, dtype=np.int64)
        self._parent[start:stop] = ids
        self._count = stop
        self.batches.append(Batch(start, stop, name))
        return ids

    def makers(self, ids: Ids) -> set[str]:
        """Names of those that made the atoms `ids`."""
        names, rest = set(), np.unique(ids[ids > 0])
        while rest.size:
            number = bisect_right(self.batches, rest[0], key=lambda batch: batch.start)
            batch = self.batches[number - 1]
            names.add(batch.name)
            rest = rest[np.searchsorted(rest, batch.stop) :]
        return names

    def find(self, ids: Ids) -> Ids:
        """The representative of each atom, same shape. Equal representatives: same unit."""
        root = ids
        while True:
            above = self._parent[root]
            higher = self._parent[above]
            if np.array_equal(above, higher):
                break
            self._parent[root] = higher  # halves the paths, so that deep ones stay logarithmic
            root = higher
        self._parent[ids] = above  # path compression
        return above

    def unite(self, a: Ids, b: Ids) -> None:
        """Ties `a` to `b` element by element (the two broadcast). Meeting atom 0 pins."""
        a, b = np.broadcast_arrays(a, b)
        a, b = a.ravel(), b.ravel()
        for one, other in ((a, b), (b, a)):
            fixed = (one == 0) & (other != 0)
            if fixed.any():
                self.pin(other[fixed], "meets channels that cannot be removed")
        both = (a != 0) & (b != 0) & (a != b)
        if not both.any():
            return
        pairs = np.stack(np.divmod(np.unique(a[both] * len(self) + b[both]), len(self)))
        self.ties.append(Tie(pairs[0], pairs[1], self.here))
        while True:
            ra, rb = self.find(pairs[0]), self.find(pairs[1])
            apart = ra != rb
            if not apart.any():
                return
            ra, rb = ra[apart], rb[apart]
            # Where several pairs hook the same root one of them wins; the loop settles the rest.
            self._parent[np.maximum(ra, rb)] = np.minimum(ra, rb)

    def pin(self, ids: Ids, why: str) -> None:
        """Forbids the removal of `ids`; `why` ends up in the report."""
        ids = np.unique(ids)
        ids = ids[ids != 0]
        if ids.size:
            self.pins.append(Pin(ids, self.here, why))

    def pin_all(self, labels: Labels, why: str) -> None:
        """Pins every atom of a value."""
        for factor in labels:
            self.pin(factor.ids, why)

    def box(self, factor: Factor) -> None:
        """Demands that what is kept of a ragged factor stays a box."""
        if len(factor.order) > 1:
            self.boxes.append(Box(factor, factor.ids))

    def box_part(self, factor: Factor, axis: int, part: slice) -> None:
        """Demands equal counts in what a slice along `axis` takes of every row."""
        at: list[slice] = [slice(None)] * factor.ids.ndim
        at[axis] = part
        if len(factor.order) > 1 and factor.ids[tuple(at)].size:
            self.boxes.append(Box(factor, factor.ids[tuple(at)], axis))

    def rows(self, factor: Factor, why: str) -> None:
        """Demands that every row (all axes but the last) keeps the same count, and at least one."""
        self.box(factor)
        self.wholes += [Whole(factor, axis, self.here, why) for axis in factor.order[:-1]]

    def tie_along(self, factor: Factor, axis: int) -> Factor:
        """Ties all atoms along `axis`: the axis stays whole, the others may still shrink."""
        first = factor.ids.take([0], axis)
        self.unite(factor.ids, first)
        return Factor(first, tuple(a for a in factor.order if a != axis))

    def fix(self, labels: Labels, axis: int, why: str) -> Labels:
        """Keeps `axis` whole.

        The innermost axis of a ragged factor is tied along, so that whole rows can still go; an
        outer axis stays whole by itself as long as rows keep equal counts. A plain one is pinned.
        """
        kept: list[Factor] = []
        for factor in labels:
            if axis not in factor.order:
                kept.append(factor)
            elif len(factor.order) == 1:
                self.pin(factor.ids, why)
            elif axis == factor.order[-1]:
                kept.append(self.tie_along(factor, axis))
            else:
                self.wholes.append(Whole(factor, axis, self.here, why))
                kept.append(factor)
        return tuple(kept)

    def blend(self, labels: Labels, axis: int, why: str) -> Labels:
        """Keeps `axis` whole for an operator that mixes along it.

        As `fix`; and an outer axis of a ragged factor is tied along, since what is mixed must lie
        at the same place in every row: all rows keep the same columns.
        """
        kept = self.fix(labels, axis, why)
        return tuple(
            self.tie_along(f, axis) if axis in f.order and len(f.order) > 1 else f for f in kept
        )

    def line(self, labels: Labels, axis: int) -> Ids | None:
        """The atoms along `axis` alone, int64[size], or None if the axis carries none.

        A ragged factor is tied along its other axes first: every row keeps the same channels.
        """
        factor = on_axis(labels, axis)
        if factor is None:
            return None
        for other in factor.order:
            if other != axis:
                factor = self.tie_along(factor, other)
        return factor.ids.ravel()

    def settle(self, factor: Factor) -> Factor | None:
        """Drops the axes along which all atoms are already one unit; None if nothing is left."""
        ids, order = factor.ids, factor.order
        roots = self.find(ids)
        for axis in factor.order:
            if np.array_equal(roots, np.broadcast_to(roots.take([0], axis), roots.shape)):
                ids, roots = ids.take([0], axis), roots.take([0], axis)
                order = tuple(a for a in order if a != axis)
        if not order and (ids == 0).all():
            return None
        if not order:  # one unit covers the whole value: nothing of it may go
            self.pin(ids, "is the only channel of its axis")
            return None
        return Factor(ids, order)


# --- the labels of one value under data movement ---------------------------------------------


def on_axis(labels: Labels, axis: int) -> Factor | None:
    """The factor that varies along `axis`, if any."""
    return next((f for f in labels if axis in f.order), None)


def along(ids: Ids, axis: int, rank: int) -> Factor:
    """A factor of a rank-`rank` value from atoms int64[size] along one axis."""
    shape = [1] * rank
    shape[axis] = len(ids)
    return Factor(ids.reshape(shape), (axis,))


def line_labels(ids: Ids | None, axis: int, rank: int) -> Labels:
    """Labels with at most one factor, along `axis`; none for a single channel."""
    return () if ids is None or len(ids) < 2 else (along(ids, axis, rank),)


def rename_axes(labels: Labels, new_axis: Callable[[int], int], rank: int) -> Labels:
    """Moves every axis `a` to `new_axis(a)` of a value of rank `rank`.

    Axes that are not named carry no channels there (size 1 in the arrays).
    """
    moved = []
    for factor in labels:
        shape = [1] * rank
        source = sorted(factor.order, key=new_axis)
        for axis in source:
            shape[new_axis(axis)] = factor.ids.shape[axis]
        compact = factor.ids.reshape([factor.ids.shape[a] for a in sorted(factor.order)])
        rank_of = {axis: i for i, axis in enumerate(sorted(factor.order))}
        ids = compact.transpose([rank_of[a] for a in source]).reshape(shape)
        moved.append(Factor(ids, tuple(new_axis(a) for a in factor.order)))
    return tuple(moved)


def index(labels: Labels, axis: int, take: Callable[[Ids], Ids]) -> Labels:
    """Applies `take` (Slice, Gather, Pad, … along `axis`) to the factor on `axis`."""
    return tuple(Factor(take(f.ids), f.order) if axis in f.order else f for f in labels)


def view_groups(
    before: Sequence[int], after: Sequence[int]
) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Splits a reshape into the smallest independent parts: (input axes, output axes).

    >>> view_groups((2, 12, 7), (2, 3, 4, 7))
    [((0,), (0,)), ((1,), (1, 2)), ((2,), (3,))]
    """
    groups = []
    i = j = 0
    while i < len(before) or j < len(after):
        start_i, start_j = i, j
        left = right = 1
        if i < len(before):
            left, i = before[i], i + 1
        if j < len(after):
            right, j = after[j], j + 1
        while left != right:
            if left < right and i < len(before):
                left, i = left * before[i], i + 1
            elif j < len(after):
                right, j = right * after[j], j + 1
            else:
                left, i = left * before[i], i + 1
        groups.append((tuple(range(start_i, i)), tuple(range(start_j, j))))
    return groups


def reshape(atoms: Atoms, labels: Labels, before: Sequence[int], after: Sequence[int]) -> Labels:
    """The labels of a value after Reshape from shape `before` to `after` (same element count)."""
    groups = view_groups(before, after)
    merged = [part for part, out in groups if len(part) > 1 or len(out) > 1]
    crowded = {
        id(factor)
        for part in merged
        for factor in sorted(
            (f for f in labels if set(part) & set(f.order)), key=lambda f: min(f.order)
        )[1:]
    }
    moved = []
    for factor in labels:
        if id(factor) in crowded:  # of axes that are merged the outermost may still go
            atoms.pin(factor.ids, "is merged with another prunable axis")
            continue
        reshaped = _reshape_factor(atoms, factor, groups, before, after)
        if reshaped is not None:
            moved.append(reshaped)
    return tuple(moved)


def _reshape_factor(
    atoms: Atoms,
    factor: Factor,
    groups: list[tuple[tuple[int, ...], tuple[int, ...]]],
    before: Sequence[int],
    after: Sequence[int],
) -> Factor | None:
    for part, _ in groups:
        # Flattening reads rows before columns. Where the split-off order says otherwise (a
        # transposed pair, as in channel shuffle) the rows must all keep the same columns.
        while not _flattens(factor.order, part):
            outermost = next(a for a in factor.order if a in part)
            factor = atoms.tie_along(factor, outermost)
    touched = {axis for part, _ in groups for axis in part if set(part) & set(factor.order)}
    wide = [before[a] if a in touched else 1 for a in range(len(before))]
    shape: list[int] = []
    order: dict[int, tuple[int, ...]] = {}
    for part, out in groups:
        hit = bool(set(part) & set(factor.order))
        shape += [after[a] if hit else 1 for a in out]
        if hit:
            order[next(a for a in factor.order if a in part)] = out
    ids = np.broadcast_to(factor.ids, wide).reshape(shape)
    spread = tuple(a for axis in factor.order for a in order.get(axis, ()) if after[a] > 1)
    settled = atoms.settle(Factor(ids, spread))
    if settled is not None:
        atoms.box(settled)
    return settled


def _flattens(order: tuple[int, ...], part: tuple[int, ...]) -> bool:
    """Whether the axes `part`, read in row-major order, follow the order they were split in."""
    places = [i for i, axis in enumerate(order) if axis in part]
    axes = [order[i] for i in places]
    contiguous = not places or places[-1] - places[0] + 1 == len(places)
    return axes == sorted(axes) and contiguous
