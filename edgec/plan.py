"""The plan: which channels of which original weights were kept, so that anyone can check the cut.

    plan.json                        schema: plan.schema.json
    ├── cuts    one entry per weight axis that lost indices
    ├── masks   one entry per activation that a weight-less, channel-mixing operator reads (LRN)
    └── groups  one entry per channel group: its size, the indices kept, and why

The check needs the original model and numpy only. *Zero*: in the original, multiply every
initializer by the masks of its cuts whose role is ``in``, and every masked activation by its
mask. *Cut*: take the kept indices of all cuts of an initializer. Both models
compute the same outputs, up to rounding, as long as nothing repaired or fine-tuned the weights.

A cut usually keeps the same indices everywhere along its axis. Where the weight is read in blocks
(a grouped convolution: block g of the output axis reads its own input channels), each block has
its own indices: `rows` then names the axes that are divided into equal blocks, in order, and
`kept` holds one tuple of indices per block, the last of those axes running fastest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Any, Literal, cast, get_args

import numpy as np

from edgec.document import Place, is_int
from edgec.errors import UsageError

FORMAT = 1
Role = Literal["in", "out", "both"]


@dataclass(frozen=True)
class Cut:
    """Indices kept along one axis of one original initializer.

    Args:
        initializer: Name of the initializer in the original model.
        axis: Axis of the original array, counted from 0.
        size: Length of that axis before the cut.
        kept: Increasing original indices; one tuple of them per block when `rows` is set.
        role: ``in``: the axis is read against the channels of an input. ``out``: it makes the
            channels of an output. ``both``: each index does both (a depthwise convolution,
            a normalisation's scale).
        node: Name of the node that reads the initializer.
        input: Position of the initializer among that node's inputs.
        rows: (axis, blocks) of each axis that is divided into blocks with their own indices.
    """

    initializer: str
    axis: int
    size: int
    kept: tuple[int, ...] | tuple[tuple[int, ...], ...]
    role: Role
    node: str
    input: int
    rows: tuple[tuple[int, int], ...] = ()

    def blocks(self) -> tuple[tuple[int, ...], ...]:
        """The kept indices of every block; a single block when `rows` is not set."""
        return self.kept if self.rows else (self.kept,)  # type: ignore[return-value]

    def mask(self, shape: Sequence[int]) -> np.ndarray:
        """bool, broadcastable to `shape` (of the original array): True where an element is kept.

        Errors:
            UsageError: `shape` is not one this cut can be about.
        """
        where = f"plan: cut of '{self.initializer}' axis {self.axis}"
        axes = [self.axis, *(axis for axis, _ in self.rows)]
        if max(axes) >= len(shape) or shape[self.axis] != self.size:
            raise UsageError(where, f"does not fit an array of shape {list(shape)}")
        for axis, blocks in self.rows:
            if shape[axis] % blocks:
                raise UsageError(where, f"{blocks} blocks do not divide axis {axis} of {shape}")
        # One row of the table per block; its first axes are the blocks, its last is `axis`.
        table = np.zeros((prod(n for _, n in self.rows), self.size), bool)
        for row, kept in zip(table, self.blocks(), strict=True):
            row[list(kept)] = True
        table = table.reshape([n for _, n in self.rows] + [self.size])
        for position, (axis, blocks) in enumerate(self.rows):
            table = np.repeat(table, shape[axis] // blocks, axis=position)
        order = sorted(range(len(self.rows) + 1), key=[*axes[1:], self.axis].__getitem__)
        full = [1] * len(shape)
        for axis in axes:
            full[axis] = shape[axis]
        return table.transpose(order).reshape(full)


@dataclass(frozen=True)
class Mask:
    """Indices kept along one axis of an activation that an operator without weights reads."""

    node: str
    input: int
    axis: int
    size: int
    kept: tuple[int, ...]


@dataclass(frozen=True)
class Group:
    """One channel group: how many of its channels were kept, and why just these."""

    name: str
    size: int
    kept: tuple[int, ...]
    reason: str


@dataclass(frozen=True)
class Plan:
    """What was kept of the original model with the given sha256 (64 hexadecimal digits)."""

    source_sha256: str
    cuts: tuple[Cut, ...] = ()
    masks: tuple[Mask, ...] = ()
    groups: tuple[Group, ...] = ()

    def of(self, initializer: str) -> tuple[Cut, ...]:
        """The cuts of one initializer."""
        return tuple(cut for cut in self.cuts if cut.initializer == initializer)

    def to_json(self) -> dict[str, Any]:
        """As plain lists, numbers and strings, in the form plan.schema.json describes."""
        return {
            "format": FORMAT,
            "source": {"sha256": self.source_sha256},
            "cuts": [
                {
                    "initializer": c.initializer,
                    "axis": c.axis,
                    "size": c.size,
                    "kept": [[*row] for row in c.blocks()] if c.rows else [*c.kept],
                    "role": c.role,
                    "node": c.node,
                    "input": c.input,
                    **({"rows": [[*row] for row in c.rows]} if c.rows else {}),
                }
                for c in self.cuts
            ],
            "masks": [{**vars(m), "kept": [*m.kept]} for m in self.masks],
            "groups": [{**vars(g), "kept": [*g.kept]} for g in self.groups],
        }

    @classmethod
    def from_json(cls, document: Any) -> Plan:
        """Read and check what `to_json` wrote; `document` is not trusted.

        Args:
            document: A parsed JSON value.

        Errors:
            UsageError: naming the place in the document that is wrong.
        """
        top = Place(document, "plan")
        if top.integer("format", low=1) != FORMAT:
            raise top.error(f"is of format {document['format']}, this edgec reads {FORMAT}")
        top.no_others("format", "source", "cuts", "masks", "groups")
        source = top.object("source")
        source.no_others("sha256")
        sha256 = source.text("sha256")
        if len(sha256) != 64 or set(sha256) - set("0123456789abcdef"):
            raise source.error("'sha256' is not 64 hexadecimal digits")
        return cls(
            sha256,
            tuple(_cut(place) for place in top.objects("cuts")),
            tuple(_mask(place) for place in top.objects("masks")),
            tuple(_group(place) for place in top.objects("groups")),
        )


def masked(array: np.ndarray, cuts: Sequence[Cut]) -> np.ndarray:
    """`array` with zeros where any of the cuts of role ``in`` drops."""
    for cut in cuts:
        if cut.role == "in":
            array = np.where(cut.mask(array.shape), array, np.zeros((), array.dtype))
    return array


def taken(array: np.ndarray, cuts: Sequence[Cut]) -> np.ndarray:
    """`array` without the indices that any of the cuts drops.

    Errors:
        UsageError: what is kept is not a box: some block keeps more indices than another.
    """
    keep = np.ones(array.shape, bool)
    for cut in cuts:
        keep &= cut.mask(array.shape)
    by_block = {cut.axis for cut in cuts if cut.rows}
    shape = []
    for axis in range(array.ndim):
        others = tuple(other for other in range(array.ndim) if other != axis)
        along = keep.sum(axis=axis) if axis in by_block else keep.any(axis=others).sum()
        shape.append(int(np.max(along, initial=0)))
    if prod(shape) != int(keep.sum()):
        subject = f"plan: cuts of '{cuts[0].initializer}'"
        raise UsageError(subject, "blocks keep unequal numbers of indices")
    # In row-major order the kept elements of a box are those of the smaller array.
    return array[keep].reshape(shape)


def _cut(place: Place) -> Cut:
    place.no_others("initializer", "axis", "size", "kept", "role", "node", "input", "rows")
    axis, size = place.integer("axis"), place.integer("size", low=1)
    rows: list[tuple[int, int]] = []
    for pair in place.items("rows") if "rows" in place.value else ():
        if not (isinstance(pair, list) and len(pair) == 2 and all(map(is_int, pair))):
            raise place.error("'rows' is not a list of [axis, blocks]")
        if pair[0] < 0 or pair[1] < 1 or pair[0] in (axis, *(known for known, _ in rows)):
            raise place.error(f"'rows' has {pair}: every axis once, other than the cut axis")
        rows.append((pair[0], pair[1]))
    role = place.text("role")
    if role not in get_args(Role):
        raise place.error(f"'role' is '{role}', not one of {', '.join(get_args(Role))}")
    kept: tuple[int, ...] | tuple[tuple[int, ...], ...]
    if rows:
        lists = place.items("kept")
        if len(lists) != prod(blocks for _, blocks in rows):
            raise place.error(f"'kept' has {len(lists)} lists, 'rows' another number of blocks")
        kept = tuple(_indices(place, one, size) for one in lists)
        if len({len(one) for one in kept if one}) > 1:
            raise place.error("'kept' has lists of unequal length")
    else:
        kept = _indices(place, place.items("kept"), size)
    return Cut(
        place.text("initializer"),
        axis,
        size,
        kept,
        cast(Role, role),
        place.text("node"),
        place.integer("input"),
        tuple(rows),
    )


def _mask(place: Place) -> Mask:
    place.no_others("node", "input", "axis", "size", "kept")
    size = place.integer("size", low=1)
    return Mask(
        place.text("node"),
        place.integer("input"),
        place.integer("axis"),
        size,
        _indices(place, place.items("kept"), size),
    )


def _group(place: Place) -> Group:
    place.no_others("name", "size", "kept", "reason")
    size = place.integer("size", low=1)
    kept = _indices(place, place.items("kept"), size)
    return Group(place.text("name"), size, kept, place.text("reason"))


def _indices(place: Place, values: object, size: int) -> tuple[int, ...]:
    """Increasing indices below `size`."""
    if not isinstance(values, list) or not all(map(is_int, values)):
        raise place.error("'kept' is not a list of integers")
    if any(b <= a for a, b in pairwise([-1, *values, size])):
        raise place.error(f"'kept' is not increasing within 0..{size - 1}")
    return tuple(values)
