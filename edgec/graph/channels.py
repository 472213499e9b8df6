"""Channel groups: what can be removed together, and under which demands.

Units are the classes of the union-find over atoms. A *group* is one decision: its units are
interchangeable for the shapes of the graph, or bound together by rows that must keep equal counts.
Within a group, units of the same *kind* occur in the same tensors the same number of times, so
removing one costs what removing another costs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgec.graph.facts import Facts, facts_of
from edgec.graph.trace import trace_labels
from edgec.model import input_shapes
from edgec.ops.labels import Box, Factor, Ids
from edgec.ops.tracing import Trace

Units = NDArray[np.int64]


@dataclass(frozen=True)
class Group:
    """One decision of the allocator.

    Attributes:
        name: The node or initializer that makes its channels.
        units: int64[n], the removable units.
        cells: int64[n], the row of each unit; every row loses the same number.
        kinds: int64[n], the cost class of each unit.
        width: Size of the axis that makes the channels.
        per_unit: Channels of that axis that one unit stands for.
    """

    name: str
    units: Units
    cells: Units
    kinds: Units
    width: int
    per_unit: int

    @cached_property
    def rows(self) -> int:
        """Number of rows (1 for a free group)."""
        return len(np.unique(self.cells))

    @cached_property
    def depth(self) -> int:
        """The most units that every row has; one of them always stays."""
        return int(np.unique(self.cells, return_counts=True)[1].min())


@dataclass(frozen=True)
class Pinned:
    """Channels that cannot be removed: who makes them, which units, where and why."""

    name: str
    units: Units
    where: str
    why: str


@dataclass(frozen=True)
class ChannelGroups:
    """The analysed graph.

    Attributes:
        model: The model; not changed by the analysis.
        facts: Concrete shapes of its values.
        trace: Labels of its values, uses of its initializers.
        unit_of: int64[atoms], the unit of each atom; unit 0 is fixed.
        groups: What can be removed.
        pinned: What cannot, with reasons.
    """

    model: ir.Model
    facts: Facts
    trace: Trace
    unit_of: Units
    groups: tuple[Group, ...]
    pinned: tuple[Pinned, ...]

    @property
    def units(self) -> int:
        """Number of units, the fixed one among them."""
        return int(self.unit_of.max()) + 1

    def __iter__(self) -> Iterator[Group]:
        return iter(self.groups)

    def __len__(self) -> int:
        return len(self.groups)


def channel_groups(
    model: ir.Model, *, inputs: Mapping[str, Sequence[int]] | None = None
) -> ChannelGroups:
    """Finds the channel groups of a model.

    Args:
        model: A model in topological order; constant subgraphs should be folded before.
        inputs: Concrete sizes of graph inputs, where the model's own are symbolic.
    """
    given = {name: tuple(shape) for name, shape in (inputs or {}).items()}
    facts = facts_of(model, input_shapes(model, inputs=given))
    trace = trace_labels(model, facts)
    return _Analysis(model, facts, trace).result()


class _Analysis:
    def __init__(self, model: ir.Model, facts: Facts, trace: Trace) -> None:
        self.model, self.facts, self.trace = model, facts, trace
        atoms = trace.atoms
        roots = atoms.find(np.arange(len(atoms)))
        self.unit_of = np.unique(roots, return_inverse=True)[1].astype(np.int64)
        self.count = int(self.unit_of.max()) + 1
        self.reason: dict[int, tuple[str, str]] = {}
        for pin in atoms.pins:
            self.pin(self.unit_of[pin.ids], pin.where, pin.why)

    def pin(self, units: Units, where: str, why: str) -> None:
        for unit in np.unique(units).tolist():
            if unit:
                self.reason.setdefault(unit, (where, why))

    def is_pinned(self, units: Units) -> NDArray[np.bool_]:
        pinned = np.zeros(self.count, bool)
        pinned[0] = True
        pinned[list(self.reason)] = True
        return pinned[units]

    def result(self) -> ChannelGroups:
        kinds = self.kinds()
        self.pin_wholes()
        boxes = [
            matrix for matrix in map(self.matrix, self.trace.atoms.boxes) if matrix is not None
        ]
        cells = self.cells(boxes)
        makers = self.makers()
        groups: list[Group] = []
        for units, rows in self.keep_every_kind(boxes, cells, kinds, makers):
            batch = self.trace.atoms.batches[makers[int(units[0])][0]]
            made = self.unit_of[batch.start : batch.stop]
            groups.append(
                Group(
                    batch.name, units, rows, kinds[units], len(made), int((made == units[0]).sum())
                )
            )
        groups.sort(key=lambda g: int(g.units[0]))
        return ChannelGroups(
            self.model, self.facts, self.trace, self.unit_of, tuple(groups), self.pinned(makers)
        )

    def factors(self) -> dict[int, Factor]:
        """Every distinct factor of values and uses, by identity of its array."""
        found = {id(f.ids): f for labels in self.trace.labels.values() for f in labels}
        found |= {id(f.ids): f for use in self.trace.uses for f in use.labels}
        return found

    def kinds(self) -> Units:
        """A class per unit: equal if the units occur equally often in every factor."""
        rng = np.random.default_rng(0)  # random linear hash of the occurrence counts
        print_of = np.zeros(self.count, np.uint64)
        for factor in self.factors().values():
            times = np.bincount(self.unit_of[factor.ids].ravel(), minlength=self.count)
            print_of += times.astype(np.uint64) * rng.integers(1, 2**63, dtype=np.uint64)
        return np.unique(print_of, return_inverse=True)[1].astype(np.int64)

    def varying(self, factor: Factor) -> tuple[Ids, tuple[int, ...]]:
        """The factor's units and the axes along which they really vary, outermost first."""
        units = self.unit_of[factor.ids]
        order = []
        for axis in factor.order:
            first = units.take([0], axis)
            if (units == first).all():
                units = first
            else:
                order.append(axis)
        return units, tuple(order)

    def pin_wholes(self) -> None:
        for whole in self.trace.atoms.wholes:
            units, order = self.varying(whole.factor)
            if order and order[-1] == whole.axis:
                self.pin(units.ravel(), whole.where, whole.why)

    def matrix(self, box: Box) -> Units | None:
        """A box as units[rows, columns]; None where the units make it trivial."""
        _, order = self.varying(box.whole)
        if len(order) < 2 or box.axis not in (None, order[-1]):
            return None  # one row, or a part that takes rows whole
        units = self.unit_of[box.part]
        rest = [a for a in range(units.ndim) if a not in order]
        first = tuple(0 if a in rest else slice(None) for a in range(units.ndim))
        units = units[first].transpose(np.argsort(np.argsort(order)))
        return units.reshape(-1, units.shape[-1])

    def cells(self, boxes: list[Units]) -> dict[int, dict[int, int]]:
        """unit → {box: row}. Units that no row can lose alone are pinned."""
        cells: dict[int, dict[int, int]] = {}
        for number, matrix in enumerate(boxes):
            rows = np.repeat(np.arange(len(matrix)), matrix.shape[1])
            pairs, times = np.unique(np.stack([matrix.ravel(), rows]), axis=1, return_counts=True)
            units, seen = np.unique(pairs[0], return_counts=True)
            self.pin(units[seen > 1], "", "lies in two rows that must keep equal counts")
            alone = np.isin(pairs[0], units[seen == 1]) & (pairs[0] > 0)
            if len(np.unique(times[alone])) > 1:
                self.pin(pairs[0], "", "rows that must keep equal counts hold it unequally often")
                continue
            for unit, row in pairs[:, alone].T.tolist():
                cells.setdefault(unit, {})[number] = row
        self.settle_rows(boxes, cells)
        return cells

    def settle_rows(self, boxes: list[Units], cells: dict[int, dict[int, int]]) -> None:
        """Pins until every row of every box consists of equally many cells that can lose one."""
        while True:
            pinned = len(self.reason)
            owners: dict[int, list[int]] = {}
            for unit in cells:
                if unit not in self.reason:
                    for box in cells[unit]:
                        owners.setdefault(box, []).append(unit)
            for box, units in owners.items():
                parts = {(cells[u][box], tuple(sorted(cells[u].items()))) for u in units}
                rows = np.bincount([row for row, _ in parts], minlength=len(boxes[box]))
                if len(set(rows.tolist())) > 1:
                    self.pin(
                        np.asarray(units),
                        "",
                        "its rows cannot all lose the same number of channels",
                    )
            if len(self.reason) == pinned:
                return

    def keep_every_kind(
        self,
        boxes: list[Units],
        cells: dict[int, dict[int, int]],
        kinds: Units,
        makers: list[tuple[int, ...]],
    ) -> list[tuple[Units, Units]]:
        """The blocks, with one unit pinned for every kind that its block might lose entirely.

        Each tensor axis holds all units of some kinds; so none can become empty. Every row keeps
        a unit, so a kind that has a row to itself needs no pin.
        """
        while True:
            free = ~self.is_pinned(np.arange(self.count))
            safe = set(kinds[~free].tolist())
            found = list(self.blocks(boxes, cells, kinds, makers, free))
            pinned = len(self.reason)
            for units, rows in found:
                pairs = np.unique(np.stack([rows, kinds[units]]), axis=1)
                alone = np.bincount(pairs[0])[pairs[0]] == 1
                for kind in np.setdiff1d(pairs[1], pairs[1][alone]).tolist():
                    if kind not in safe:
                        first = units[kinds[units] == kind][:1]
                        self.pin(first, "", "is kept so that no tensor loses its last channel")
            for units, rows in found:
                if np.unique(rows, return_counts=True)[1].min() == 1:
                    self.pin(units, "", "is all that is left of a row or an axis")
            if len(self.reason) == pinned:
                return found
            self.settle_rows(boxes, cells)

    def blocks(
        self,
        boxes: list[Units],
        cells: dict[int, dict[int, int]],
        kinds: Units,
        maker: list[tuple[int, ...]],
        free: NDArray[np.bool_],
    ) -> Iterator[tuple[Units, Units]]:
        """(units, row of each) per group: by the boxes they lie in, else by kind and maker.

        Units that lie in the same boxes lose equal counts from every row. Other units of these
        boxes decide for themselves if every row of every box has as many cells of each sort.
        """
        leader: dict[object, object] = {}

        def find(key: object) -> object:
            while leader.setdefault(key, key) != key:
                key = leader[key]
            return key

        def key(unit: int) -> object:
            return frozenset(cells.get(unit, {})) or ("kind", int(kinds[unit]), maker[unit])

        for sorts in self.uneven(boxes, cells, free):
            for other in sorts[1:]:
                leader[find(other)] = find(sorts[0])
        members: dict[object, list[int]] = {}
        for unit in np.flatnonzero(free).tolist():
            members.setdefault(find(key(unit)), []).append(unit)
        for units in members.values():
            rows = [tuple(sorted(cells.get(unit, {}).items())) for unit in units]
            place = {row: i for i, row in enumerate(sorted(set(rows)))}
            yield np.asarray(units, np.int64), np.asarray([place[r] for r in rows], np.int64)

    def uneven(
        self, boxes: list[Units], cells: dict[int, dict[int, int]], free: NDArray[np.bool_]
    ) -> Iterator[list[frozenset[int]]]:
        """Per box: the sorts of units (by their boxes) of which rows have unlike numbers of cells.

        Together they are even (`settle_rows`), so they must lose equal counts together.
        """
        placed: dict[int, dict[frozenset[int], set[tuple[int, object]]]] = {}
        for unit, rows in cells.items():
            if free[unit]:
                cell = tuple(sorted(rows.items()))
                for box, row in rows.items():
                    sorts = placed.setdefault(box, {})
                    sorts.setdefault(frozenset(rows), set()).add((row, cell))
        for box, sorts in placed.items():
            length = len(boxes[box])
            counts = {
                sort: np.bincount([row for row, _ in found], minlength=length)
                for sort, found in sorts.items()
            }
            yield [sort for sort, count in counts.items() if (count != count[0]).any()]

    def makers(self) -> list[tuple[int, ...]]:
        """unit → the batches its atoms come from, first made first."""
        atoms = self.trace.atoms
        batch_of = np.zeros(len(atoms), np.int64)
        for number, batch in enumerate(atoms.batches):
            batch_of[batch.start : batch.stop] = number
        pairs = np.unique(np.stack([self.unit_of[1:], batch_of[1:]]), axis=1)
        starts = np.searchsorted(pairs[0], np.arange(self.count + 1))
        numbers = pairs[1].tolist()
        return [tuple(numbers[a:b]) for a, b in pairwise(starts.tolist())]

    def pinned(self, makers: list[tuple[int, ...]]) -> tuple[Pinned, ...]:
        found: dict[tuple[str, str, str], list[int]] = {}
        for unit, (where, why) in sorted(self.reason.items()):
            key = (self.trace.atoms.batches[makers[unit][0]].name, where, why)
            found.setdefault(key, []).append(unit)
        return tuple(
            Pinned(name, np.asarray(units, np.int64), where, why)
            for (name, where, why), units in found.items()
        )
