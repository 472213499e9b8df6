"""The prune pass: score, allocate, cut."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import ClassVar

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgec.budget import Budget, Metric
from edgec.calibration.moments import (
    Moments,
    Reader,
    consumer_moments,
    position_spread,
    reader,
)
from edgec.errors import BudgetError, UsageError
from edgec.graph.channels import ChannelGroups, Group, channel_groups
from edgec.graph.cost import CostModel, Storage, Totals, count
from edgec.graph.cut import CutResult, remove_channels
from edgec.passes.base import Context, Pass
from edgec.passes.prune.allocate import ALLOCATORS, Options, Problem
from edgec.passes.prune.criteria import CRITERIA, Evidence, scored
from edgec.passes.prune.feasibility import Preparation
from edgec.passes.prune.products import products
from edgec.suggest import check_known

_NOUNS = {"flops": "FLOPs", "macs": "MACs", "params": "parameters", "size": "weights"}


@dataclass(frozen=True)
class Decision:
    """What the prune pass decided about one group.

    Attributes:
        name: The group.
        width: Channels before.
        kept: Channels after.
        reason: Why just this width, and these channels.
    """

    name: str
    width: int
    kept: int
    reason: str


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
    across_norms: bool = False
    drop_heads: tuple[str, ...] = ()
    name: ClassVar[str] = "prune"

    def requires(self, model: ir.Model, context: Context) -> None:
        """The options name things that exist, and the data that the criterion needs is there."""
        self.check_options(context.data is not None)

    def check_options(self, has_data: bool) -> None:
        """The part of `requires` that needs no model: wrong words are told before any work.

        Raises:
            UsageError: An option names nothing, or needs data that is not there; or no budget.
        """
        if not self.budgets:
            raise UsageError("budget", "is missing", "give --flops, --macs, --params or --size")
        if len({b.metric for b in self.budgets}) < len(self.budgets):
            raise UsageError("budget", "is given twice for one metric", "give each metric once")
        if self.criterion != "auto":
            check_known(f"--criterion {self.criterion}", self.criterion, ["auto", *CRITERIA])
        check_known(f"--allocator {self.allocator}", self.allocator, ALLOCATORS)
        if self.round_to < 1:
            raise UsageError("--round-to", f"is {self.round_to}", "give 1 or more")
        criterion = self.criterion_for(has_data)
        if CRITERIA[criterion].needs != "weights" and not has_data:
            free = [name for name, c in CRITERIA.items() if c.needs == "weights"]
            raise UsageError(
                f"--criterion {criterion}",
                "looks at activations, and no data was given",
                f"give --data, or a criterion that reads weights only: {', '.join(free)}",
            )

    def chosen_criterion(self, context: Context) -> str:
        """The criterion that `auto` stands for."""
        return self.criterion_for(context.data is not None)

    def criterion_for(self, has_data: bool) -> str:
        """The same, before there is a context."""
        if self.criterion != "auto":
            return self.criterion
        return "flap" if has_data else "l2"

    def run(self, model: ir.Model, context: Context) -> ir.Model:
        """Analyses, chooses and cuts; the CutResult is `context.records["prune"]`."""
        return self._cut(self.prepare(self.analyse(model)), context).model

    def analyse(self, model: ir.Model) -> ChannelGroups:
        """The channel groups, with the freedom that the options give."""
        return channel_groups(model, across_norms=self.across_norms, drop_heads=self.drop_heads)

    def prepare(
        self, groups: ChannelGroups, reserved: int = 0, storage: Storage | None = None
    ) -> Preparation:
        """The analysis that every choice starts from, with the floor of every budget.

        Args:
            groups: The analysed model.
            reserved: Parameters that later passes may add; budgets on parameters and bytes
                leave room for them.
            storage: The weights that will not be stored as they are now.

        Raises:
            UsageError: A pattern that matches nothing.
            BudgetError: A budget on what the model has none of.
        """
        reasons = self.selection(groups)
        model = CostModel(groups, storage)
        original = count(groups.model, groups.facts)
        for budget in self.budgets:
            if not original.get(budget.metric):
                raise BudgetError(
                    f"--{budget.metric} {budget}",
                    f"cannot be met: the model has no {_NOUNS[budget.metric]} that could go",
                    "there is nothing in it to prune; 'edgec inspect' shows what it is made of",
                )
        bounds = {b.metric: b.bound(original.get(b.metric)) for b in self.budgets}
        room: dict[Metric, int] = {"params": reserved, "size": reserved * 4}  # biases are float32
        return Preparation(groups, model, original, bounds, reasons, self.round_to, room)

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
        self._check_patterns(groups, used)
        return reasons

    def _check_patterns(self, groups: ChannelGroups, used: set[str]) -> None:
        """Refuses patterns that change nothing. To exclude what is pinned anyway is no mistake."""
        makers = [batch.name for batch in groups.trace.atoms.batches]
        for pattern in (p for p in (*self.include, *self.exclude) if p not in used):
            option = "include" if pattern in self.include else "exclude"
            hit = next((m for m in makers if fnmatchcase(m, pattern)), None)
            if hit is None:
                names = sorted({g.name for g in groups}) or ["none"]
                shown = ", ".join(names[:6]) + (", …" if len(names) > 6 else "")
                raise UsageError(
                    f"--{option} {pattern or repr(pattern)}",
                    "matches no node that makes channels",
                    f"groups that can be narrowed: {shown}; 'edgec inspect' lists all",
                )
            if option == "include":
                why = next((p.why for p in groups.pinned if p.name == hit), "it is pinned")
                raise UsageError(
                    f"--include {pattern}",
                    f"names only channels that cannot be removed: '{hit}' {why}",
                    "include a group that 'edgec inspect' lists as removable",
                )

    def cut(self, prepared: Preparation, context: Context) -> CutResult:
        """The pass from here on, for who has prepared it: scores, allocates and removes channels.

        Raises:
            BudgetError: A budget lies below the floor.
        """
        cut = self._cut(prepared, context)
        self.conclude(cut.model, context)
        return cut

    def _cut(self, prepared: Preparation, context: Context) -> CutResult:
        prepared.check()
        groups = prepared.groups
        criterion = self.chosen_criterion(context)
        scores, silent = scored(criterion, self.evidence(criterion, groups, context))
        options = prepared.options(scores)
        for number, group in enumerate(groups):
            if group.name in silent and number not in prepared.reasons:
                prepared.reasons[number] = silent[group.name]
                options[number] = prepared.whole(options[number])
        problem = Problem(prepared.model, options, prepared.limits)
        if not problem.fits(problem.costs(problem.floor)):
            few = ", or give more samples" if CRITERIA[criterion].needs != "weights" else ""
            raise BudgetError(
                f"--criterion {criterion}",
                f"says nothing about {_some(sorted(silent))}, and the other groups are not enough "
                "for the budget",
                f"take another criterion{few}",
            )
        state = ALLOCATORS[self.allocator](problem)
        removed = [o.removed(s) for o, s in zip(options, state, strict=True)]
        cut = remove_channels(groups, np.concatenate([np.zeros(0, np.int64), *removed]))
        context.records[self.name] = PruneRecord(
            criterion, self.allocator, prepared.round_to, prepared.original,
            prepared.model.totals(problem.removed(state)), prepared.bounds,
            decisions(prepared, options, state, criterion, self.allocator), cut, scores,
        )  # fmt: skip
        return cut

    def evidence(self, criterion: str, groups: ChannelGroups, context: Context) -> Evidence:
        """Collects what the criterion looks at."""
        needs = CRITERIA[criterion].needs
        moments = factors = spreads = None
        if needs == "moments" and context.data is not None:
            values = {
                operand.value
                for product in products(groups)
                for operand in (product.a, product.b)
                if operand is not None
            }
            seen = context.twin or groups.model
            moments, factors = consumer_moments(seen, context.data, values=values)
            if context.twin is not None:
                moments = _renamed(moments, context.twin, groups.model)
        if needs == "spreads" and context.data is not None:
            spreads = position_spread(groups.model, context.data)
        return Evidence(groups, context.rng("criterion"), moments, factors, spreads)


def _renamed(
    moments: Mapping[Reader, Moments], twin: ir.Model, model: ir.Model
) -> dict[Reader, Moments]:
    """Readers as they are called in the model: a folded BatchNormalization renames outputs."""
    nodes = {node.name: node for node in model.graph}
    names = {
        reader(node, 0)[0]: reader(nodes[node.name], 0)[0]
        for node in twin.graph
        if node.name in nodes
    }
    return {(names.get(out, out), i): found for (out, i), found in moments.items()}


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
    prepared: Preparation,
    options: Sequence[Options],
    state: Sequence[int],
    criterion: str,
    allocator: str,
) -> tuple[Decision, ...]:
    """In words of widths."""
    found = []
    for number, (own, choice) in enumerate(zip(options, state, strict=True)):
        group = own.group
        lost = int(own.lost[choice]) * group.step
        if number in prepared.reasons:
            reason = prepared.reasons[number]
        elif lost:
            reason = f"the highest by {criterion}, as many as {allocator} affords"
        elif len(own.lost) == 1:
            reason = f"no smaller width is on the grid of {prepared.round_to}"
        else:
            reason = f"{allocator} meets the budgets without it"
        found.append(Decision(group.name, group.width, group.width - lost, reason))
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


def _some(names: Sequence[str], most: int = 3) -> str:
    """`'a', 'b', 'c' and 4 more`."""
    shown = ", ".join(f"'{name}'" for name in names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")
