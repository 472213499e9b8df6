"""Reorders the channels of every group in all weights, by the analysis' labels alone.

Channels may change places if the graph cannot tell them apart: their units lie in the same row of
the same group, are of one kind, and trading their atoms maps every label array and every tie onto
itself. Where an operator looks at neighbouring channels (LRN), or picks some of several channels
that go by one label (Gather behind a depthwise multiplier), the channels stay in place.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgec.graph.channels import ChannelGroups
from edgec.ops.labels import Factor

Ids = NDArray[np.int64]
Array = NDArray[Any]

_PICKS = {"Gather", "Slice", "Split"}
_PAIRS = 6  # trades tried one by one where a reordering of all alike units is no symmetry


def permuted(groups: ChannelGroups, rng: np.random.Generator) -> tuple[ir.Model, int]:
    """The model with its channels reordered, and how many units changed places."""
    places = _Symmetry(groups).reordering(rng)
    model = groups.model.clone()
    new_of = dict(zip(groups.model.graph, model.graph, strict=True))
    for number, use in enumerate(groups.trace.uses):
        value = use.node.inputs[use.index]
        assert value is not None
        assert value.const_value is not None
        old = new = value.const_value.numpy()
        for factor in use.labels:
            new = _moved(new, factor, places)
        if new is not old:
            name = f"{value.name}.permuted{number}"
            other = ir.val(name, const_value=ir.tensor(new, name=name))
            model.graph.initializers.add(other)
            new_of[use.node].replace_input_with(use.index, other)
    moved = np.unique(groups.unit_of[places != np.arange(len(places))])
    return model, len(moved)


class _Symmetry:
    """Which trades of units the labels cannot see."""

    def __init__(self, groups: ChannelGroups) -> None:
        self.groups, trace = groups, groups.trace
        factors = [f for labels in trace.labels.values() for f in labels]
        factors += [f for use in trace.uses for f in use.labels]
        self.arrays = list({id(f.ids): f.ids.ravel() for f in factors}.values())
        self.sorted = [np.sort(ids) for ids in self.arrays]
        ties = [np.stack([tie.a, tie.b]) for tie in trace.atoms.ties]
        self.ties = np.concatenate([np.zeros((2, 0), np.int64), *ties], 1)
        self.codes = np.unique(self._codes(self.ties))
        # atoms of each unit, ascending
        order = np.argsort(groups.unit_of, kind="stable")
        starts = np.searchsorted(groups.unit_of[order], np.arange(groups.units + 1))
        self.atoms = [order[a:b] for a, b in pairwise(starts)]

    def _codes(self, pairs: Ids) -> Ids:
        """One number per unordered pair of atoms."""
        return np.asarray(pairs.min(0) * len(self.groups.unit_of) + pairs.max(0), np.int64)

    def reordering(self, rng: np.random.Generator) -> Ids:
        """atom → the atom whose place its channel takes: int64[atoms]."""
        same = np.arange(len(self.groups.unit_of))
        classes = list(self.classes())
        places = same
        for units in classes:
            places = self.trade(places, *_cycle(units, rng))
        if self.holds(places):
            return places
        places = same
        for units in classes:
            trial = self.trade(places, *_cycle(units, rng))
            if self.holds(trial):
                places = trial
                continue
            for _ in range(_PAIRS):
                pair = rng.choice(units, 2, replace=False)
                trial = self.trade(places, pair, pair[::-1])
                places = trial if self.holds(trial) else places
        return places

    def classes(self) -> Iterator[Ids]:
        """Units of one row and kind whose atoms come from the same axes of the same weights."""
        batches = self.groups.trace.atoms.batches
        batch_of = np.zeros(len(self.groups.unit_of), np.int64)
        for number, batch in enumerate(batches):
            batch_of[batch.start : batch.stop] = number
        stay = self._unlike()
        for group in self.groups:
            alike: dict[tuple[object, ...], list[int]] = {}
            for unit, row, kind in zip(group.units, group.cells, group.kinds, strict=True):
                if int(unit) not in stay:
                    makers = tuple(batch_of[self.atoms[unit]].tolist())
                    alike.setdefault((int(row), int(kind), makers), []).append(int(unit))
            yield from (np.asarray(units) for units in alike.values() if len(units) > 1)

    def _unlike(self) -> set[int]:
        """Units that an operator tells apart although their labels do not."""
        trace = self.groups.trace
        found = [f.ids for m in trace.mixes if m.node.op_type == "LRN" for f in m.labels]
        for node in self.groups.model.graph:
            value = node.inputs[0] if node.inputs else None
            if node.op_type in _PICKS and value is not None:
                labels = trace.labels.get(value, ())
                found += [f.ids for f in labels if len(np.unique(f.ids)) < f.ids.size]
        return {unit for ids in found for unit in self.groups.unit_of[ids].ravel().tolist()}

    def trade(self, places: Ids, units: Ids, others: Ids) -> Ids:
        """`places`, and after it every unit goes where the other one of its pair is."""
        step = np.arange(len(places))
        for unit, other in zip(units, others, strict=True):
            step[self.atoms[unit]] = self.atoms[other]
        return step[places]

    def holds(self, places: Ids) -> bool:
        """Whether every label array and every tie is mapped onto itself."""
        return bool(np.isin(self._codes(places[self.ties]), self.codes).all()) and all(
            np.array_equal(np.sort(places[ids]), known)
            for ids, known in zip(self.arrays, self.sorted, strict=True)
        )


def _cycle(units: Ids, rng: np.random.Generator) -> tuple[Ids, Ids]:
    """All units in a random circle, and the next one of each: none stays where it is."""
    circle = rng.permutation(units)
    return circle, np.roll(circle, 1)


def _moved(data: Array, factor: Factor, places: Ids) -> Array:
    """An initializer whose slices have followed their atoms; itself if none moves."""
    if (places[factor.ids] == factor.ids).all():
        return data
    axes = sorted(factor.order)
    rest = [axis for axis in range(data.ndim) if axis not in axes]
    ids = factor.ids.transpose([*axes, *rest]).ravel()
    # The k-th entry of an atom goes where the k-th entry of the atom is whose place it takes.
    source = np.empty_like(ids)
    source[np.argsort(ids, kind="stable")] = np.argsort(places[ids], kind="stable")
    if len(axes) == 1:
        return data.take(source, axes[0])
    wide = list(data.shape)
    for axis in axes:
        wide[axis] = factor.ids.shape[axis]
    moving = np.broadcast_to(data, wide).transpose([*axes, *rest])
    new = moving.reshape(len(ids), -1)[source].reshape(moving.shape)
    full = new.transpose(np.argsort([*axes, *rest]))
    kept = full[tuple(slice(size) for size in data.shape)]
    assert np.array_equal(full, np.broadcast_to(kept, wide)), "one entry for unlike channels"
    return kept.copy()
