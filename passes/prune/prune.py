"""The prune pass: score, allocate, cut."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import ClassVar

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgec.budget import Budget, Metric, human
from edgec.calibration.moments import consumer_moments, position_spread
from edgec.errors import BudgetError, UsageError
from edgec.graph.channels import ChannelGroups, Group, channel_groups
from edgec.graph.cost import CostModel, Totals, count
from edgec.graph.cut import CutResult, remove_channels
from edgec.passes.base import Context, Pass
from edgec.passes.prune.allocate import ALLOCATORS, Options, Problem, options_of
from edgec.passes.prune.criteria import CRITERIA, Evidence, scored


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


@dataclass(frozen=True)
class Decision:
    """What the prune pass decided about one group.

    Attributes:
        name: The group.
        width: Channels before.
        kept: Channels after.
        reason: Why it was not narrowed, if so.
    """

    name: str
    width: int
    kept: int
    reason: str = ""


@dataclass(frozen=True)
class Prune(Pass):
    """Removes the channels that the budgets cannot afford.

    Attributes:
        budgets: Upper bounds; at least one.
        criterion: How channels are scored; `auto` is `flap` with data and `l2` without.
        allocator: How widths are chosen.
        round_to: Kept widths are multiples of this (or the original width).
        include: Only groups made by a node whose name matches one of these patterns are narrowed.
        exclude: Groups made by a node whose name matches are kept.
    """

    budgets: tuple[Budget, ...] = ()
    criterion: str = "auto"
    allocator: str = "mckp"
    round_to: int = 8
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    name: ClassVar[str] = "prune"

    def requires(self, model: ir.Model, context: Context) -> None:
        """The options name things that exist, and the data that the criterion needs is there."""
        criterion = self.chosen_criterion(context)
        if criterion not in CRITERIA:
            raise UsageError(
                f"criterion '{criterion}'", "is unknown", f"one of: {', '.join(CRITERIA)}"
            )
        if self.allocator not in ALLOCATORS:
            raise UsageError(
                f"allocator '{self.allocator}'", "is unknown", f"one of: {', '.join(ALLOCATORS)}"
            )
        if self.round_to < 1:
            raise UsageError("--round-to", f"is {self.round_to}", "give 1 or more")
        if CRITERIA[criterion].needs != "weights" and context.data is None:
            free = [name for name, c in CRITERIA.items() if c.needs == "weights"]
            raise UsageError(
                f"criterion '{criterion}'",
                "looks at activations, and no data was given",
                f"give --data, or a criterion that reads weights only: {', '.join(free)}",
            )

    def chosen_criterion(self, context: Context) -> str:
        """The criterion that `auto` stands for."""
        if self.criterion != "auto":
            return self.criterion
        return "l2" if context.data is None else "flap"

    def run(self, model: ir.Model, context: Context) -> ir.Model:
        """Analyses, chooses and cuts; the CutResult is `context.records["prune"]`."""
        groups = channel_groups(model)
        cut = self.cut(self.prepare(groups), context)
        return cut.model

    def prepare(self, groups: ChannelGroups) -> Preparation:
        """The analysis that every choice starts from, with the floor of every budget.

        Raises:
            UsageError: No budget, or a pattern that matches no group.
        """
        if not self.budgets:
            raise UsageError("budget", "is missing", "give --flops, --macs, --params or --size")
        if len({b.metric for b in self.budgets}) < len(self.budgets):
            raise UsageError("budget", "is given twice for one metric", "give each metric once")
        reasons = self.selection(groups)
        model = CostModel(groups)
        original = count(groups.model, groups.facts)
        bounds = {b.metric: b.bound(original.get(b.metric)) for b in self.budgets}
        return Preparation(groups, model, original, bounds, reasons, self.round_to)

    def selection(self, groups: ChannelGroups) -> dict[int, str]:
        """Index of group → why the user's patterns keep it."""
        reasons: dict[int, str] = {}
        used: set[str] = set()
        for number, group in enumerate(groups):
            makers = makers_of(groups, group)
            hits = {p for p in (*self.include, *self.exclude) for m in makers if fnmatchcase(m, p)}
            used |= hits
            if hits & set(self.exclude):
                reasons[number] = "kept by --exclude"
            elif self.include and not hits & set(self.include):
                reasons[number] = "not named by --include"
        unused = [p for p in (*self.include, *self.exclude) if p not in used]
        if unused:
            names = ", ".join(sorted({g.name for g in groups})[:6])
            raise UsageError(
                f"pattern '{unused[0]}'", "matches no channel group", f"groups here: {names}, …"
            )
        return reasons

    def cut(self, prepared: Preparation, context: Context) -> CutResult:
        """Scores, allocates and removes channels.

        Raises:
            BudgetError: A budget lies below the floor.
        """
        prepared.check()
        groups = prepared.groups
        criterion = self.chosen_criterion(context)
        scores, silent = scored(criterion, self.evidence(criterion, groups, context))
        options = prepared.options(scores)
        for number, group in enumerate(groups):
            if group.name in silent and number not in prepared.reasons:
                prepared.reasons[number] = silent[group.name]
                options[number] = prepared.whole(options[number])
        problem = Problem(prepared.model, options, prepared.bounds)
        if not problem.fits(problem.costs(problem.floor)):
            raise BudgetError(
                f"criterion '{criterion}'",
                f"says nothing about {len(silent)} groups, and the others are not enough",
                "take another criterion",
            )
        state = ALLOCATORS[self.allocator](problem)
        removed = [o.removed(s) for o, s in zip(options, state, strict=True)]
        cut = remove_channels(groups, np.concatenate([np.zeros(0, np.int64), *removed]))
        context.records[self.name] = PruneRecord(
            criterion, self.allocator, prepared.round_to, prepared.original,
            prepared.model.totals(problem.removed(state)), prepared.bounds,
            decisions(prepared, options, state), cut, scores,
        )  # fmt: skip
        return cut

    def evidence(self, criterion: str, groups: ChannelGroups, context: Context) -> Evidence:
        """Collects what the criterion looks at."""
        needs = CRITERIA[criterion].needs
        moments = spreads = None
        if needs == "moments" and context.data is not None:
            moments = consumer_moments(groups.model, context.data)
        if needs == "spreads" and context.data is not None:
            spreads = position_spread(groups.model, context.data)
        return Evidence(groups, context.rng("criterion"), moments, spreads)


@dataclass
class Preparation:
    """The analysed model with costs and bounds, before any choice."""

    groups: ChannelGroups
    model: CostModel
    original: Totals
    bounds: Mapping[Metric, float]
    reasons: dict[int, str]
    round_to: int
    _floor: Totals | None = field(default=None, repr=False)

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
            Feasibility(m, self.floor.get(m), bound, self.original.get(m))
            for m, bound in self.bounds.items()
        ]

    def check(self) -> None:
        """Raises BudgetError, with the floor and what holds it, if a budget lies below it."""
        for row in self.feasibility():
            if row.feasible:
                continue
            ratio = row.floor / row.original
            held = "\n    ".join(self.holders()) or "the narrowest widths on the grid"
            raise BudgetError(
                f"the budget {row.bound / row.original:.3g} ({human(row.bound, row.metric)}"
                f" {row.metric})",
                f"is below what can be cut: the floor is {ratio:.3f}"
                f" ({human(row.floor, row.metric)})",
                f"what holds it:\n    {held}\n  try --{row.metric} {_round_up(ratio)}"
                + (f", or --round-to below {self.round_to}" if self.round_to > 1 else ""),
            )

    def holders(self, most: int = 3) -> list[str]:
        """The pins with the most channels behind them, in words."""
        pins = sorted(self.groups.pinned, key=lambda p: -len(p.units))
        lines = [
            f"'{p.name}' ({len(p.units)} channels) {p.why}" + (f", at {p.where}" if p.where else "")
            for p in pins[:most]
        ]
        if self.reasons:
            lines.append(f"{len(self.reasons)} groups are kept by --include/--exclude")
        return lines


@dataclass(frozen=True)
class PruneRecord:
    """What the prune pass did.

    Attributes:
        criterion, allocator, round_to: The options in force.
        original: Totals before.
        predicted: Totals after, as the cost model sees them.
        bounds: The budgets as absolute numbers.
        decisions: One per group.
        cut: The cut itself.
        scores: float64[units].
    """

    criterion: str
    allocator: str
    round_to: int
    original: Totals
    predicted: Totals
    bounds: Mapping[Metric, float]
    decisions: tuple[Decision, ...]
    cut: CutResult
    scores: NDArray[np.float64]


def decisions(
    prepared: Preparation, options: Sequence[Options], state: Sequence[int]
) -> tuple[Decision, ...]:
    """In words of widths."""
    found = []
    for number, (own, choice) in enumerate(zip(options, state, strict=True)):
        group = own.group
        lost = int(own.lost[choice]) * group.rows * group.per_unit
        found.append(
            Decision(group.name, group.width, group.width - lost, prepared.reasons.get(number, ""))
        )
    return tuple(found)


def makers_of(groups: ChannelGroups, group: Group) -> list[str]:
    """Names of all nodes that make channels of a group."""
    units = np.zeros(groups.units, bool)
    units[group.units] = True
    return [
        batch.name
        for batch in groups.trace.atoms.batches
        if units[groups.unit_of[batch.start : batch.stop]].any()
    ]


def _round_up(ratio: float) -> str:
    return f"{np.ceil(ratio * 100) / 100:.2f}"
