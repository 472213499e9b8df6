"""Why a channel is tied or pinned: the path through the graph, by node name."""

from __future__ import annotations

import difflib
import io
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from edgec.budget import plural
from edgec.errors import UsageError
from edgec.graph.channels import ChannelGroups
from edgec.inspection import channel_groups
from edgec.ops.labels import Batch


@dataclass(frozen=True)
class Step:
    """One tie on the way: at node `via`, the channel goes with channel `index` of `name`."""

    via: str
    name: str
    index: int


@dataclass(frozen=True)
class Explanation:
    """All that goes with one channel.

    Attributes:
        channel: The channel asked about, `name:index`.
        steps: Every channel of other makers that goes with it, nearest first, and the node that
            ties it.
        pins: Why it cannot be removed, if so.
        group: The group it can be cut with; empty if it is pinned.
        row: Rows of the group must lose equal counts; this channel's row, None for one row.
    """

    channel: str
    steps: tuple[Step, ...]
    pins: tuple[str, ...]
    group: str
    row: int | None

    @property
    def free(self) -> bool:
        """Whether it can be cut."""
        return not self.pins

    def __str__(self) -> str:
        """The text that the command line shows."""
        from edgec.console import printer, show_explanation

        text = io.StringIO()
        show_explanation(self, printer(text))
        return text.getvalue()

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def explain(
    model: Any,
    channel: str,
    *,
    inputs: Mapping[str, Sequence[int]] | None = None,
    across_norms: bool = False,
    drop_heads: Sequence[str] = (),
) -> Explanation:
    """Explains one channel.

    Args:
        model: A path, `package.module:factory`, a model in memory, or `ChannelGroups`.
        channel: `NODE:INDEX`, the node that makes the channel.
        inputs: Concrete shapes for symbolic inputs.
        across_norms, drop_heads: As for `channel_groups`.

    Raises:
        UsageError: No such node or index.
    """
    groups = (
        model
        if isinstance(model, ChannelGroups)
        else channel_groups(model, inputs=inputs, across_norms=across_norms, drop_heads=drop_heads)
    )
    atom = _atom(groups, channel)
    unit = int(groups.unit_of[atom])
    pins = [
        f"{p.why}, at {p.where}" if p.where else p.why for p in groups.pinned if unit in p.units
    ]
    group = next((g for g in groups if unit in g.units), None)
    row = None
    if group is not None and group.rows > 1:
        row = int(group.cells[group.units == unit][0])
    return Explanation(channel, _steps(groups, atom), tuple(pins), group.name if group else "", row)


def _atom(groups: ChannelGroups, channel: str) -> int:
    name, _, number = channel.rpartition(":")
    batches = groups.trace.atoms.batches
    if not name or not (number.isascii() and number.isdecimal()):
        raise UsageError(f"--channel {channel}", "is not NODE:INDEX", "for example conv1:17")
    if all(batch.name != name for batch in batches):
        names = list(dict.fromkeys(b.name for b in batches))
        near = difflib.get_close_matches(name, names, 3, 0.3)
        remedy = "the model makes none" if not names else f"for example {', '.join(names[:3])}"
        if near:
            remedy = f"did you mean {' or '.join(near)}?"
        raise UsageError(f"node '{name}'", "makes no channels", remedy)
    atoms = _atoms_of(batches)[name]
    if int(number) >= len(atoms):
        raise UsageError(
            f"--channel {channel}",
            f"'{name}' has {plural(len(atoms), 'channel')}",
            f"channels are counted from 0 to {len(atoms) - 1}",
        )
    return atoms[int(number)]


def _atoms_of(batches: Sequence[Batch]) -> dict[str, list[int]]:
    """Maker → its atoms in the order of its channels; one that makes several lots, all of them."""
    found: dict[str, list[int]] = {}
    for batch in batches:
        found.setdefault(batch.name, []).extend(range(batch.start, batch.stop))
    return found


def _steps(groups: ChannelGroups, atom: int) -> tuple[Step, ...]:
    """Breadth first over the recorded ties, inside the atom's unit."""
    unit = groups.unit_of[atom]
    edges: dict[int, list[tuple[int, str]]] = {}
    for tie in groups.trace.atoms.ties:
        inside = groups.unit_of[tie.a] == unit
        for a, b in zip(tie.a[inside].tolist(), tie.b[inside].tolist(), strict=True):
            edges.setdefault(a, []).append((b, tie.why))
            edges.setdefault(b, []).append((a, tie.why))
    channel_of = {
        atom: (name, index)
        for name, atoms in _atoms_of(groups.trace.atoms.batches).items()
        for index, atom in enumerate(atoms)
    }
    seen, steps, queue = {atom}, [], deque([atom])
    while queue:
        for other, via in edges.get(queue.popleft(), ()):
            if other not in seen:
                seen.add(other)
                queue.append(other)
                steps.append(Step(via, *channel_of[other]))
    return tuple(steps)
