"""What a cut leaves of the original's initializers, whatever they are read through.

A node may read an initializer itself, or a constant that is computed from it. Each reader's cuts
say which elements of what it reads are kept; followed back to the initializer's elements
(`edgec.graph.origin`), they have to agree, and to be whole slices.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import prod

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgec.graph.origin import Made, layers_of, origin_of, sources_of
from edgec.plan import Cut, Slice, Weight

Reader = tuple[ir.Node, int]
Bools = NDArray[np.bool_]

_APART = "its readers keep different parts of it"


def weights_of(model: ir.Model, cuts: Mapping[Reader, Sequence[Cut]]) -> Iterator[Weight]:
    """What is left of every initializer of the original that lost something, by name.

    Args:
        model: The model that was analysed.
        cuts: The cuts of every reader that keeps less than all.
    """
    values = list(model.graph.initializers.values())
    readers = {value: [(user, i) for user, i in value.uses()] for value in values}
    shapes: dict[str, tuple[int, ...]] = {}
    behind: dict[str, list[ir.Value]] = {}
    for value in values:
        for name, shape in sources_of(origin_of(value)).items():
            behind.setdefault(name, []).append(value)
            if any(reader in cuts for reader in readers[value]):
                shapes[name] = shape
    for name, shape in sorted(shapes.items()):
        found = {v: [cuts.get(reader, ()) for reader in readers[v]] for v in behind[name]}
        for value in behind[name]:
            if value.is_graph_output():  # where it is read whole
                found[value].append(())
        yield _weight(name, shape, found, model.graph.opset_imports)


def _weight(
    name: str,
    shape: tuple[int, ...],
    found: Mapping[ir.Value, Sequence[Sequence[Cut]]],
    opsets: Mapping[str, int],
) -> Weight:
    if not any(isinstance(origin_of(value), Made) for value in found):
        sets = {frozenset(map(_slice, cuts)) for each in found.values() for cuts in each}
        if len(sets) > 1:
            return Weight(name, (), _APART)
        return Weight(name, tuple(sorted(*sets, key=lambda s: (bool(s.rows), s.axis))))
    kept, dropped = np.zeros((2, prod(shape) + 1), bool)
    for value, each in found.items():
        layers = layers_of(origin_of(value), {name: 1}, opsets)
        if layers is None:
            return Weight(name, (), f"'{value.name}' is computed from it")
        for cuts in each:
            keeps, reads = np.zeros((2, kept.size), bool)
            for numbers in layers:
                mask = np.ones(numbers.shape, bool)
                for cut in cuts:
                    mask &= cut.mask(numbers.shape)
                keeps[numbers[mask]] = reads[numbers] = True
            kept |= keeps
            dropped |= reads & ~keeps
    if (kept & dropped)[1:].any():
        return Weight(name, (), _APART)
    slices = _slices(kept[1:].reshape(shape), dropped[1:].reshape(shape))
    return Weight(name, slices or (), "" if slices is not None else "what it keeps is no box")


def _slice(cut: Cut) -> Slice:
    return Slice(cut.axis, cut.size, cut.kept, cut.rows)


def _slices(kept: Bools, dropped: Bools) -> tuple[Slice, ...] | None:
    """Whole indices of every axis that hold all that is dropped; None if there are none such."""
    slices, covered = [], np.zeros(kept.shape, bool)
    for axis, size in enumerate(kept.shape):
        others = tuple(other for other in range(kept.ndim) if other != axis)
        gone = dropped.any(others) & ~kept.any(others)
        if gone.any():
            slices.append(Slice(axis, size, tuple(np.flatnonzero(~gone).tolist())))
            covered |= np.expand_dims(gone, others)
    return None if (dropped & ~covered).any() else tuple(slices)
