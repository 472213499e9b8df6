"""What sizes lose when units go: linear terms over slots, each over a few of them.

A *slot* is one kind of units of one group (`edgec.graph.cost`). A size that shrinks is
    full − Σ shares · removed[slots]
so the terms are the rows of a matrix that is almost all zeros; only the others are kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Slots = NDArray[np.int64]
Floats = NDArray[np.float64]


class Terms:
    """All terms of a model.

    Attributes:
        slots: int64[n] per term, the slots it depends on, ascending.
        shares: float64[n] per term, what it loses per removed unit of each.
    """

    def __init__(self) -> None:
        self.slots: list[Slots] = []
        self.shares: list[Floats] = []

    def __len__(self) -> int:
        """Number of terms."""
        return len(self.slots)

    def add(self, slots: Slots, shares: Floats) -> int:
        """A new term; its number."""
        self.slots.append(slots)
        self.shares.append(shares)
        return len(self.slots) - 1

    def lost(self, removed: Floats) -> Floats:
        """float64[terms] from removed units per slot: float64[all slots]."""
        found = [
            shares @ removed[slots] for slots, shares in zip(self.slots, self.shares, strict=True)
        ]
        return np.asarray(found, np.float64)

    def slots_of(self, terms: Iterable[int]) -> list[int]:
        """The slots that some terms depend on, ascending."""
        return sorted({slot for term in terms for slot in self.slots[term].tolist()})

    def block(self, terms: Iterable[int]) -> Block:
        """The part of the matrix that some terms fill."""
        rows = {term: row for row, term in enumerate(sorted(set(terms)))}
        slots = np.asarray(self.slots_of(rows), np.int64)
        shares = np.zeros((len(rows), len(slots)))
        for term, row in rows.items():
            shares[row, np.searchsorted(slots, self.slots[term])] = self.shares[term]
        return Block(rows, slots, shares)


@dataclass(frozen=True)
class Block:
    """Some terms, and all slots that they depend on.

    Attributes:
        rows: term → its row.
        slots: int64[slots], ascending.
        shares: float64[rows, slots].
    """

    rows: dict[int, int]
    slots: Slots
    shares: Floats

    def lost(self, own: Sequence[int], removed: Floats, options: Floats) -> Floats:
        """float64[rows, options]: what is lost with each option of a group.

        Args:
            own: The group's slots.
            removed: float64[all slots], the removed units per slot; the group's own are not read.
            options: float64[options, own], removed units per slot of the group.
        """
        others = removed[self.slots]
        shares = np.zeros((len(self.shares), len(own)))
        for column, slot in enumerate(own):
            here = self.slots == slot
            others[here] = 0
            shares[:, column] = self.shares[:, here].sum(1)
        return (self.shares @ others)[:, None] + shares @ options.T
