"""What a budget can reach: the floor of every metric, and what to say when it is not low enough."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from edgec.budget import Metric, human, plural
from edgec.errors import BudgetError
from edgec.graph.channels import ChannelGroups, Group, Pinned, channel_groups
from edgec.graph.cost import CostModel, Totals
from edgec.passes.prune.allocate import Options, Problem, options_of


@dataclass(frozen=True)
class Feasibility:
    """What can be reached, before anything is done.

    Attributes:
        metric: The metric of a budget.
        floor: The smallest cost on the grid.
        bound: What was asked.
        original: The cost of the original.
    """

    metric: Metric
    floor: float
    bound: float
    original: float

    @property
    def feasible(self) -> bool:
        """Whether the bound is at or above the floor."""
        return self.floor <= self.bound


@dataclass
class Preparation:
    """The analysed model with costs and bounds, before any choice.

    `bounds` are what was asked; `room` is what later passes may add to a cost.
    """

    groups: ChannelGroups
    model: CostModel
    original: Totals
    bounds: Mapping[Metric, float]
    reasons: dict[int, str]
    round_to: int
    room: Mapping[Metric, int] = field(default_factory=dict)
    _floor: Totals | None = field(default=None, repr=False)

    @property
    def limits(self) -> dict[Metric, float]:
        """Upper bounds for the cut itself."""
        return {m: bound - self.room.get(m, 0) for m, bound in self.bounds.items()}

    def options(self, scores: NDArray[np.float64]) -> list[Options]:
        """Options of every group; those the user keeps have one."""
        found = options_of(self.groups, scores, self.round_to)
        return [self.whole(o) if i in self.reasons else o for i, o in enumerate(found)]

    @staticmethod
    def whole(options: Options) -> Options:
        """The options of a group that is not to be narrowed."""
        return Options(
            options.group, options.order, options.lost[:1], options.values[:1], options.slots[:1],
            options.scores[:, :0],
        )  # fmt: skip

    @property
    def floor(self) -> Totals:
        """Totals with every group at its narrowest."""
        if self._floor is None:
            problem = Problem(self.model, self.options(np.zeros(self.groups.units)), self.bounds)
            self._floor = self.model.totals(problem.removed(problem.floor))
        return self._floor

    def feasibility(self) -> list[Feasibility]:
        """One row per budget."""
        return [
            Feasibility(m, self.floor.get(m) + self.room.get(m, 0), bound, self.original.get(m))
            for m, bound in self.bounds.items()
        ]

    def check(self) -> None:
        """Raises BudgetError, with the floor and what holds it, if a budget lies below it."""
        for row in self.feasibility():
            if row.feasible:
                continue
            ratio = row.floor / row.original
            raise BudgetError(
                f"the budget {row.bound / row.original:.3g} ({human(row.bound, row.metric)}"
                f" {row.metric})",
                f"is below what can be cut: the floor is {ratio:.3f}"
                f" ({human(row.floor, row.metric)})",
                "what holds it:\n    "
                + "\n    ".join(self.holders(row.metric))
                + self._ways_out(row),
            )

    def _ways_out(self, row: Feasibility) -> str:
        """Options with which this budget can be met, as far as there are any."""
        ways = []
        ratio = row.floor / row.original
        if _round_up(ratio) < 1:
            ways.append(f"--{row.metric} {_round_up(ratio):.2f}")
        if self.round_to > 1:
            finer = replace(self, round_to=1, _floor=None).floor.get(row.metric)
            finer += self.room.get(row.metric, 0)
            if finer < row.floor:
                then = finer / row.original
                ways.append(f"--round-to below {self.round_to} (the floor at 1 is {then:.3f})")
        crossed = self._across_norms()
        if crossed is not None and crossed.floor.get(row.metric) < row.floor:
            then = crossed.floor.get(row.metric) / row.original
            ways.append(f"--across-norms (the floor is then {then:.3f})")
        return f"\n  try {', or '.join(ways)}" if ways else ""

    def _held(self, metric: Metric) -> Iterator[tuple[float, Pinned]]:
        """Every pin with what would be saved if all but one of its channels could go."""
        pins = self.groups.pinned
        model = CostModel(
            replace(self.groups, groups=tuple(map(_as_group, pins))), self.model.storage
        )
        none = np.zeros(model.slots)
        for number, pin in enumerate(pins):
            options = np.asarray([[0], [len(pin.units) - 1]], np.float64)
            costs = model.alternatives(metric, number, none, options)
            yield float(costs[0] - costs[1]), pin

    def _across_norms(self) -> Preparation | None:
        """The same with channels across norms free; None where the user picks groups."""
        freedom = self.groups.trace.freedom
        if freedom.across_norms or self.reasons:
            return None
        groups = channel_groups(self.groups.model, across_norms=True, drop_heads=freedom.drop_heads)
        model = CostModel(groups, self.model.storage)
        return replace(self, groups=groups, model=model, _floor=None)

    def holders(self, metric: Metric, most: int = 3) -> list[str]:
        """What keeps the floor up, in words: the costliest pins, the user's patterns, the grid."""
        pins = [pin for _, pin in sorted(self._held(metric), key=lambda held: -held[0])]
        lines = [
            f"'{p.name}' ({len(p.units)} channels) {p.why}" + (f", at {p.where}" if p.where else "")
            for p in pins[:most]
        ]
        if self.reasons:
            lines.append(f"{len(self.reasons)} of its groups are kept by --include/--exclude")
        narrow = len(self.groups) - len(self.reasons)
        if narrow:
            lines.append(
                f"{plural(narrow, 'group')} at the narrowest, on a grid of {self.round_to}"
            )
        if not len(self.groups):
            lines.insert(0, "it has no channels that can be removed")
        return lines


def _as_group(pin: Pinned) -> Group:
    alike = np.zeros(len(pin.units), np.int64)
    return Group(pin.name, pin.units, alike, alike, len(pin.units), 1)


def _round_up(ratio: float) -> float:
    """The next hundredth."""
    return float(np.ceil(ratio * 100) / 100)
