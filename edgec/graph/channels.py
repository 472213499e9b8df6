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

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgec.graph.deadline import Clock
from edgec.graph.facts import Facts, facts_of
from edgec.graph.rows import Rows, class_of
from edgec.graph.trace import trace_labels
from edgec.model_inputs import input_shapes
from edgec.ops.labels import Box, Factor, Ids
from edgec.ops.tracing import Freedom, Trace

Units = NDArray[np.int64]


@dataclass(frozen=True, repr=False)
class Group:
    """One decision of the allocator.

    Attributes:
        name: The node or initializer that makes its channels.
        units: int64[n], the removable units.
        cells: int64[n], the cell of each unit (see `edgec.graph.rows`); every cell loses the same
            number.
        kinds: int64[n], the cost class of each unit.
        width: Size of the axis that makes the channels.
        step: Channels of that axis that go when every cell loses one unit.
    """

    name: str
    units: Units
    cells: Units
    kinds: Units
    width: int
    step: int

    def __repr__(self) -> str:
        return (
            f"Group(name={self.name!r}, width={self.width}, units={len(self.units)}, "
            f"rows={self.rows}, step={self.step})"
        )

    def __str__(self) -> str:
        """`conv1: 32 channels, in steps of 4 over 4 rows`."""
        rows = f" over {self.rows} rows" if self.rows > 1 else ""
        return f"{self.name}: {self.width} channels, in steps of {self.step}{rows}"

    @cached_property
    def rows(self) -> int:
        """Number of cells (1 for a free group)."""
        return len(np.unique(self.cells))

    @cached_property
    def depth(self) -> int:
        """The most units that every cell has; one of them always stays."""
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
    model: ir.Model,
    *,
    inputs: Mapping[str, Sequence[int]] | None = None,
    across_norms: bool = False,
    drop_heads: Sequence[str] = (),
) -> ChannelGroups:
    """Finds the channel groups of a model.

    Args:
        model: A model in topological order; constant subgraphs should be folded before.
        inputs: Concrete sizes of graph inputs, where the model's own are symbolic.
        across_norms: Whether channels may go over which a norm takes its statistics (a
            transformer's embedding width). The statistics are then those of the kept channels,
            so that removal no longer equals zeroing.
        drop_heads: Patterns of node names. Attention heads made by such nodes go whole, instead
            of an equal count of channels of every head.
    """
    given = {name: tuple(shape) for name, shape in (inputs or {}).items()}
    facts = facts_of(model, input_shapes(model, inputs=given))
    trace = trace_labels(model, facts, Freedom(across_norms, tuple(drop_heads)))
    return _Analysis(model, facts, trace).result()


class _Analysis:
    def __init__(self, model: ir.Model, facts: Facts, trace: Trace) -> None:
        self.model, self.facts, self.trace = model, facts, trace
        atoms = trace.atoms
        roots = atoms.find(np.arange(len(atoms)))
        self.unit_of = np.unique(roots, return_inverse=True)[1].astype(np.int64)
        self.count = int(self.unit_of.max()) + 1
        self.reason: dict[int, tuple[str, str]] = {}
        self.free = np.ones(self.count, bool)
        self.free[0] = False
        for pin in atoms.pins:
            self.pin(self.unit_of[pin.ids], pin.where, pin.why)

    def pin(self, units: Units, where: str, why: str) -> None:
        """Pins what is not pinned yet; the first reason counts."""
        found = np.unique(units)
        for unit in found[self.free[found]].tolist():
            self.reason[unit] = (where, why)
        self.free[found] = False

    def result(self) -> ChannelGroups:
        self.kinds = self.kinds_of_units()
        self.pin_wholes()
        boxes = [m for m in map(self.matrix, self.trace.atoms.boxes) if m is not None]
        self.rows = Rows(boxes, self.count)
        self.pin(self.rows.clashing, "", "lies unequally often in rows that must keep equal counts")
        self.settle()
        self.makers = self.makers_of_units()
        groups = [self.group(units, cells) for units, cells in self.keep_every_kind()]
        groups.sort(key=lambda g: int(g.units[0]))
        return ChannelGroups(
            self.model, self.facts, self.trace, self.unit_of, tuple(groups), self.pinned()
        )

    def group(self, units: Units, cells: Units) -> Group:
        """A group, named after the first maker of its first unit."""
        batch = self.trace.atoms.batches[self.makers.first[units[0]]]
        made = self.unit_of[batch.start : batch.stop]
        per_cell = np.isin(made, units).sum() / len(units)
        step = round(float(per_cell * (cells.max() + 1)))
        return Group(batch.name, units, cells, self.kinds[units], len(made), step)

    def kinds_of_units(self) -> Units:
        """A class per unit: equal if the units occur equally often in every factor."""
        factors = {id(f.ids): f for labels in self.trace.labels.values() for f in labels}
        factors |= {id(f.ids): f for use in self.trace.uses for f in use.labels}
        counts = [count for own in self.trace.counts.values() for count in own]
        factors |= {id(f.ids): f for count in counts for f in count.labels}
        rng = np.random.default_rng(0)  # random linear hash of the occurrence counts
        print_of = np.zeros(self.count, np.uint64)
        for factor in factors.values():
            units, times = np.unique(self.unit_of[factor.ids], return_counts=True)
            print_of[units] += times.astype(np.uint64) * rng.integers(1, 2**63, dtype=np.uint64)
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

    def free_cells(self) -> NDArray[np.bool_]:
        """bool[cells]: those that have a unit that is not pinned."""
        cells = self.rows.cell_of[self.free]
        return np.bincount(cells[cells >= 0], minlength=self.rows.cells) > 0

    def settle(self) -> None:
        """Pins the units of cells whose rows cannot all lose the same number."""
        free = self.free_cells()
        stuck = free & ~self.rows.settle(free)
        (boxed,) = np.nonzero(self.rows.cell_of >= 0)
        why = "its rows cannot all lose the same number of channels"
        self.pin(boxed[stuck[self.rows.cell_of[boxed]]], "", why)

    def keep_every_kind(self) -> list[tuple[Units, Units]]:
        """The blocks, with one unit pinned for every kind that its block might lose entirely.

        Each tensor axis holds all units of some kinds; so none can become empty. Every cell keeps
        a unit, so a kind that has a cell to itself needs no pin.
        """
        clock = Clock("the search for channel groups")
        while True:
            clock.check("the last group", f"{len(self.reason):,} channels were pinned")
            safe = set(self.kinds[~self.free].tolist())
            found = self.blocks()
            pinned = len(self.reason)
            for units, cells in found:
                pairs = np.unique(np.stack([cells, self.kinds[units]]), axis=1)
                alone = np.bincount(pairs[0])[pairs[0]] == 1
                for kind in np.setdiff1d(pairs[1], pairs[1][alone]).tolist():
                    if kind not in safe:
                        first = units[self.kinds[units] == kind][:1]
                        self.pin(first, "", "is kept so that no tensor loses its last channel")
            for units, cells in found:
                alone = np.bincount(cells)[cells] == 1
                self.pin(units[alone], "", "is all that is left of a row or an axis")
            if len(self.reason) == pinned:
                return found
            self.settle()

    def blocks(self) -> list[tuple[Units, Units]]:
        """(units, cell of each) per group: by the rows they lie in, else by kind and makers."""
        (units,) = np.nonzero(self.free)
        cells = self.rows.cell_of[units]
        blocks = np.append(self.rows.blocks(self.free_cells()), -1)[cells]  # -1: in no box
        loose = cells < 0
        keys = np.stack(
            [
                blocks,
                np.where(loose, self.kinds[units], 0),
                np.where(loose, self.makers.of[units], 0),
            ]
        )
        number = np.unique(keys, axis=1, return_inverse=True)[1].ravel()
        order = np.argsort(number, kind="stable")
        found = np.split(order, np.flatnonzero(np.diff(number[order])) + 1) if order.size else []
        return [
            (units[part], np.unique(cells[part], return_inverse=True)[1].astype(np.int64))
            for part in found
        ]

    def makers_of_units(self) -> _Makers:
        atoms = self.trace.atoms
        batch_of = np.zeros(len(atoms), np.int64)
        for number, batch in enumerate(atoms.batches):
            batch_of[batch.start : batch.stop] = number
        unit, batch = np.unique(np.stack([self.unit_of[1:], batch_of[1:]]), axis=1)
        first = np.zeros(self.count, np.int64)
        first[unit[::-1]] = batch[::-1]
        return _Makers(
            first, class_of(unit, batch, np.ones_like(unit), self.count, len(atoms.batches))
        )

    def pinned(self) -> tuple[Pinned, ...]:
        found: dict[tuple[str, str, str], list[int]] = {}
        for unit, (where, why) in sorted(self.reason.items()):
            name = self.trace.atoms.batches[self.makers.first[unit]].name
            found.setdefault((name, where, why), []).append(unit)
        return tuple(
            Pinned(name, np.asarray(units, np.int64), where, why)
            for (name, where, why), units in found.items()
        )


@dataclass(frozen=True)
class _Makers:
    """Who makes the units.

    Attributes:
        first: int64[units], the first batch that an atom of the unit comes from.
        of: int64[units], equal for units whose atoms come from the same batches.
    """

    first: Units
    of: Units
