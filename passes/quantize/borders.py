"""Where two types meet: which of two sides every node takes, so that the fewest tensors are cast.

Some nodes must be on one side, some on the other, the rest are free. A tensor costs one cast when
somebody reads it on the side on which it was not made; all such readers share that cast. So

    casts = Σ over tensors  [made half, some reader float] + [made float, some reader half]

which is the capacity of a cut, exactly: with an auxiliary vertex a for each tensor, the edges
producer → a (capacity 1) and a → reader (∞) are cut once if the producer lies on the half side and
any reader does not; the other term has all edges turned round. The least cut is a greatest flow
(Dinic 1970).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

_WHOLE = 1 << 30  # no cut is as large


@dataclass
class _Network:
    """Edges in pairs: edge e and its reverse e ^ 1."""

    ends: list[int] = field(default_factory=list)
    rooms: list[int] = field(default_factory=list)
    out: list[list[int]] = field(default_factory=list)

    def vertex(self) -> int:
        self.out.append([])
        return len(self.out) - 1

    def edge(self, start: int, end: int, room: int) -> None:
        for a, b, r in ((start, end, room), (end, start, 0)):
            self.out[a].append(len(self.ends))
            self.ends.append(b)
            self.rooms.append(r)


def half_side(
    size: int,
    half: Collection[int],
    full: Collection[int],
    tensors: Iterable[tuple[int, Sequence[int]]],
) -> set[int]:
    """The nodes on the half side of a least cut; of several, the largest such side.

    Args:
        size: How many nodes there are; they are called 0 … size − 1.
        half, full: Nodes whose side is settled; none is in both.
        tensors: (producer, readers) of every tensor.
    """
    net = _Network()
    for _ in range(size):
        net.vertex()
    source, sink = net.vertex(), net.vertex()
    for node in half:
        net.edge(source, node, _WHOLE)
    for node in full:
        net.edge(node, sink, _WHOLE)
    for producer, readers in tensors:
        others = [r for r in dict.fromkeys(readers) if r != producer]
        if not others:
            continue
        to_full, to_half = net.vertex(), net.vertex()
        net.edge(producer, to_full, 1)
        net.edge(to_half, producer, 1)
        for reader in others:
            net.edge(to_full, reader, _WHOLE)
            net.edge(reader, to_half, _WHOLE)
    while (levels := _levels(net, source))[sink] >= 0:
        _block(net, source, sink, levels)
    return set(range(size)) - _reaching(net, sink)


def _levels(net: _Network, source: int) -> list[int]:
    """Edges from the source to each vertex on a shortest path with room; −1: there is none."""
    levels = [-1] * len(net.out)
    levels[source] = 0
    queue = deque([source])
    while queue:
        at = queue.popleft()
        for edge in net.out[at]:
            if net.rooms[edge] and levels[net.ends[edge]] < 0:
                levels[net.ends[edge]] = levels[at] + 1
                queue.append(net.ends[edge])
    return levels


def _block(net: _Network, source: int, sink: int, levels: list[int]) -> None:
    """Sends flow along shortest paths until none of them has room."""
    tried = [0] * len(net.out)
    path: list[int] = []
    while True:
        at = net.ends[path[-1]] if path else source
        if at == sink:
            room = min(net.rooms[edge] for edge in path)
            for edge in path:
                net.rooms[edge] -= room
                net.rooms[edge ^ 1] += room
            path.clear()
            continue
        while tried[at] < len(net.out[at]):
            edge = net.out[at][tried[at]]
            if net.rooms[edge] and levels[net.ends[edge]] == levels[at] + 1:
                path.append(edge)
                break
            tried[at] += 1
        else:
            if not path:
                return
            tried[net.ends[path.pop() ^ 1]] += 1


def _reaching(net: _Network, sink: int) -> set[int]:
    """The vertices from which the sink can be reached along edges with room."""
    found = {sink}
    queue = deque([sink])
    while queue:
        at = queue.popleft()
        for edge in net.out[at]:
            start = net.ends[edge]
            if net.rooms[edge ^ 1] and start not in found:
                found.add(start)
                queue.append(start)
    return found
