"""The plan: which channels of which original weights were kept, so that anyone can check the cut.

    plan.json                        schema: plan.schema.json
    ├── cuts    one entry per reader and weight axis that lost indices
    ├── masks   one entry per activation that an operator mixes across channels (LRN, q·kᵀ)
    ├── norms   one entry per norm whose statistics are taken over the kept channels only
    ├── weights one entry per initializer of the original that lost something: its slices
    └── groups  one entry per channel group: its size, the indices kept, and why

The check needs the original model and numpy only. *Zero*: in the original, multiply what a node
reads by the masks of its cuts whose role is ``in``, and by its masks; let a norm read the kept
channels alone and put what it makes back in their places. *Cut*: take, of every
initializer as a node reads it, the kept indices of all that node's cuts. Both models compute the
same outputs, up to rounding, as long as nothing repaired or fine-tuned the weights. A reader is a
node and the position among its inputs; where several read one initializer, each keeps its own.

The check speaks of what nodes read, which may be computed from initializers (transposed, joined).
`weights` speaks of the initializers themselves, as a training framework's parameters need it.

A cut usually keeps the same indices everywhere along its axis. Where the tensor is read in blocks
(a grouped convolution: block g of the output axis reads its own input channels; attention: each
head keeps its own), each block has its own indices: `rows` then names the axes that are divided
into equal blocks, in order, and `kept` holds one tuple of indices per block, the last of those
axes running fastest.
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
from edgec.patterns import Along, Kept, Rows, blocks_of

FORMAT = 1
Role = Literal["in", "out", "both"]


@dataclass(frozen=True)
class Cut(Along):
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
    kept: Kept
    role: Role
    node: str
    input: int
    rows: Rows = ()

    @property
    def where(self) -> str:
        """Its place in the plan."""
        return f"plan: cut of '{self.initializer}' axis {self.axis}"


@dataclass(frozen=True)
class Mask(Along):
    """Indices kept along one axis of an activation across whose channels a node mixes.

    Args:
        node: Name of that node.
        input: Position of the activation among its inputs.
        axis: Axis of the activation, counted from 0.
        size: Length of that axis before the cut.
        kept: Increasing original indices; one tuple of them per block when `rows` is set.
        rows: (axis, blocks) of each axis that is divided into blocks with their own indices.
        periods: (axis, length) of each such axis that may be longer than what was analysed: other
            samples follow there (heads merged with a batch), and the pattern repeats.
    """

    node: str
    input: int
    axis: int
    size: int
    kept: Kept
    rows: Rows = ()
    periods: Rows = ()

    @property
    def where(self) -> str:
        """Its place in the plan."""
        return f"plan: mask of input {self.input} of '{self.node}'"

    def mask(self, shape: Sequence[int]) -> np.ndarray:
        """As of every `Along`, repeated where the activation is longer than what was analysed."""
        one, times = list(shape), [1] * len(shape)
        for axis, length in self.periods:
            if axis >= len(shape) or shape[axis] % length:
                raise UsageError(self.where, f"does not fit an array of shape {list(shape)}")
            one[axis], times[axis] = length, shape[axis] // length
        return np.tile(super().mask(one), times)


@dataclass(frozen=True)
class Norm:
    """A node that takes statistics across channels, in the cut network over the kept ones.

    Args:
        node: Name of that node.
        size: Number of channels before the cut.
        kept: Increasing original indices.
        reads: (input, axis) of everything that it reads by channel.
        gives: (output, axis) of everything that it makes by channel.
    """

    node: str
    size: int
    kept: tuple[int, ...]
    reads: tuple[tuple[int, int], ...]
    gives: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Slice(Along):
    """Indices kept along one axis of an initializer, whoever reads it.

    Args:
        axis: Axis of the original array, counted from 0.
        size: Length of that axis before the cut.
        kept: Increasing original indices; one tuple of them per block when `rows` is set.
        rows: (axis, blocks) of each axis that is divided into blocks with their own indices.
    """

    axis: int
    size: int
    kept: Kept
    rows: Rows = ()

    @property
    def where(self) -> str:
        """Its place in the plan."""
        return f"plan: slice of axis {self.axis}"


@dataclass(frozen=True)
class Weight:
    """What is left of one initializer of the original, for all of its readers.

    Args:
        name: Name of the initializer in the original model.
        slices: What is kept along each axis that lost indices; all of them apply.
        why: Why no slices can say it; empty where they do.
    """

    name: str
    slices: tuple[Slice, ...]
    why: str = ""


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
    norms: tuple[Norm, ...] = ()
    groups: tuple[Group, ...] = ()
    weights: tuple[Weight, ...] = ()

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
                    "role": c.role,
                    "node": c.node,
                    "input": c.input,
                    **_kept_json(c.kept, c.rows),
                }
                for c in self.cuts
            ],
            "masks": [
                {
                    "node": m.node,
                    "input": m.input,
                    "axis": m.axis,
                    "size": m.size,
                    **_kept_json(m.kept, m.rows),
                    **({"periods": [[*p] for p in m.periods]} if m.periods else {}),
                }
                for m in self.masks
            ],
            "norms": [
                {
                    **vars(n),
                    "kept": [*n.kept],
                    "reads": [[*r] for r in n.reads],
                    "gives": [[*g] for g in n.gives],
                }
                for n in self.norms
            ],
            "groups": [{**vars(g), "kept": [*g.kept]} for g in self.groups],
            "weights": [
                {
                    "name": w.name,
                    "slices": [
                        {"axis": s.axis, "size": s.size, **_kept_json(s.kept, s.rows)}
                        for s in w.slices
                    ],
                    **({"why": w.why} if w.why else {}),
                }
                for w in self.weights
            ],
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
        top.no_others("format", "source", "cuts", "masks", "norms", "groups", "weights")
        source = top.object("source")
        source.no_others("sha256")
        sha256 = source.text("sha256")
        if len(sha256) != 64 or set(sha256) - set("0123456789abcdef"):
            raise source.error("'sha256' is not 64 hexadecimal digits")
        return cls(
            sha256,
            tuple(_cut(place) for place in top.objects("cuts")),
            tuple(_mask(place) for place in top.objects("masks")),
            tuple(_norm(place) for place in top.objects("norms")),
            tuple(_group(place) for place in top.objects("groups")),
            tuple(_weight(place) for place in top.objects("weights")),
        )


def _kept_json(kept: Kept, rows: Rows) -> dict[str, Any]:
    if not rows:
        return {"kept": [*kept]}
    return {"kept": [[*block] for block in blocks_of(kept, rows)], "rows": [[*row] for row in rows]}


def masked(array: np.ndarray, cuts: Sequence[Cut]) -> np.ndarray:
    """`array` with zeros where any of the cuts of role ``in`` drops."""
    for cut in cuts:
        if cut.role == "in":
            array = np.where(cut.mask(array.shape), array, np.zeros((), array.dtype))
    return array


def _cut(place: Place) -> Cut:
    place.no_others("initializer", "axis", "size", "kept", "role", "node", "input", "rows")
    axis, size, kept, rows = _kept(place)
    role = place.text("role")
    if role not in get_args(Role):
        raise place.error(f"'role' is '{role}', not one of {', '.join(get_args(Role))}")
    return Cut(
        place.text("initializer"),
        axis,
        size,
        kept,
        cast(Role, role),
        place.text("node"),
        place.integer("input"),
        rows,
    )


def _mask(place: Place) -> Mask:
    place.no_others("node", "input", "axis", "size", "kept", "rows", "periods")
    axis, size, kept, rows = _kept(place)
    periods = _pairs(place, "periods") if "periods" in place.value else ()
    for pair in periods:
        if pair[1] < 1 or pair[0] not in [known for known, _ in rows]:
            raise place.error(f"'periods' has {[*pair]}: an axis of 'rows', and a length")
    return Mask(place.text("node"), place.integer("input"), axis, size, kept, rows, periods)


def _norm(place: Place) -> Norm:
    place.no_others("node", "size", "kept", "reads", "gives")
    size = place.integer("size", low=1)
    kept = _indices(place, place.items("kept"), size)
    return Norm(place.text("node"), size, kept, _pairs(place, "reads"), _pairs(place, "gives"))


def _pairs(place: Place, name: str) -> tuple[tuple[int, int], ...]:
    """Pairs of a position and an axis, both counted from 0."""
    pairs = place.items(name)
    for pair in pairs:
        if not (isinstance(pair, list) and len(pair) == 2 and all(map(is_int, pair))):
            raise place.error(f"'{name}' is not a list of [position, axis]")
        if min(pair) < 0:
            raise place.error(f"'{name}' has {pair}: counted from 0")
    return tuple((pair[0], pair[1]) for pair in pairs)


def _kept(place: Place) -> tuple[int, int, Kept, Rows]:
    """The axis, its size, the kept indices, and the rows they differ in."""
    axis, size = place.integer("axis"), place.integer("size", low=1)
    rows: list[tuple[int, int]] = []
    for pair in place.items("rows") if "rows" in place.value else ():
        if not (isinstance(pair, list) and len(pair) == 2 and all(map(is_int, pair))):
            raise place.error("'rows' is not a list of [axis, blocks]")
        if pair[0] < 0 or pair[1] < 1 or pair[0] in (axis, *(known for known, _ in rows)):
            raise place.error(f"'rows' has {pair}: every axis once, other than the cut axis")
        rows.append((pair[0], pair[1]))
    lists = place.items("kept")
    if not rows:
        return axis, size, _indices(place, lists, size), ()
    if len(lists) != prod(blocks for _, blocks in rows):
        raise place.error(f"'kept' has {len(lists)} lists, 'rows' another number of blocks")
    kept = tuple(_indices(place, one, size) for one in lists)
    if len({len(one) for one in kept if one}) > 1:
        raise place.error("'kept' has lists of unequal length")
    return axis, size, kept, tuple(rows)


def _group(place: Place) -> Group:
    place.no_others("name", "size", "kept", "reason")
    size = place.integer("size", low=1)
    kept = _indices(place, place.items("kept"), size)
    return Group(place.text("name"), size, kept, place.text("reason"))


def _weight(place: Place) -> Weight:
    place.no_others("name", "slices", "why")
    slices = []
    for one in place.objects("slices"):
        one.no_others("axis", "size", "kept", "rows")
        slices.append(Slice(*_kept(one)))
    return Weight(
        place.text("name"), tuple(slices), place.text("why") if "why" in place.value else ""
    )


def _indices(place: Place, values: object, size: int) -> tuple[int, ...]:
    """Increasing indices below `size`."""
    if not isinstance(values, list) or not all(map(is_int, values)):
        raise place.error("'kept' is not a list of integers")
    if any(b <= a for a, b in pairwise([-1, *values, size])):
        raise place.error(f"'kept' is not increasing within 0..{size - 1}")
    return tuple(values)
