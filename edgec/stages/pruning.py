"""Analyse and prune: what can go, what goes, and the proof that its going changes nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import onnx_ir as ir

from edgec.budget import plural
from edgec.graph.cost import Storage
from edgec.graph.cut import CutResult, remove_channels
from edgec.model import copied
from edgec.model_inputs import is_symbolic
from edgec.passes.fuse import FuseBatchNorm
from edgec.passes.prune.feasibility import Preparation
from edgec.passes.prune.prune import Decision, PruneRecord
from edgec.passes.quantize.quantize import Quantize
from edgec.passes.quantize.storage import storage
from edgec.passes.repair import biases_to_come
from edgec.stages.job import Job
from edgec.stages.loading import Loaded
from edgec.verify import Check, check_cut, check_other_sizes


@dataclass(frozen=True)
class Pruned:
    """What was cut, and the proof of it; without budgets a copy, and nothing to prove."""

    cut: CutResult
    decisions: tuple[Decision, ...] = ()
    check: Check = field(default_factory=Check)


def analyse(job: Job, loaded: Loaded) -> Preparation:
    """Channel groups, and whether the budgets can be met."""
    with job.phase("analyse"):
        if job.recipe.budgets:
            job.pruning.requires(loaded.model, job.context)
        groups = job.pruning.analyse(loaded.model)
        channels = sum(g.width for g in groups)
        pinned = sum(len(p.units) for p in groups.pinned)
        job.say(f"{plural(len(groups), 'group')}, {channels} channels · {pinned} pinned")
    if not job.recipe.budgets:
        return job.pruning.prepare(groups)
    with job.phase("budget"):
        reserved = 0 if job.recipe.repair == "none" else biases_to_come(loaded.model)
        prepared = job.pruning.prepare(groups, reserved, _storage(job, loaded))
        for row in prepared.feasibility():
            job.say(
                f"{row.metric}: smallest {row.floor / row.original:.3f}   "
                f"asked {row.bound / row.original:.3f}   original 1.000   "
                + ("feasible" if row.feasible else "not feasible")
            )
            if row.bound >= row.original:
                job.note(f"the {row.metric} budget is not below the original's")
        prepared.check()
    return prepared


def _storage(job: Job, loaded: Loaded) -> Storage | None:
    """How the weights will be stored, where a budget asks and integers are to come."""
    asked = any(budget.metric == "size" for budget in job.recipe.budgets)
    if not asked or not isinstance(job.quantising, Quantize):
        return None
    return storage(job.quantising, loaded.model)


def _twin(job: Job, loaded: Loaded) -> ir.Model | None:
    """The original as --quantize would make it, where channels are to be scored in that."""
    if not job.recipe.score_quantised or not isinstance(job.quantising, Quantize):
        return None
    step = replace(job.quantising, equalise=False)  # scores go with weights as they are
    context = replace(job.context, records={}, done=[])
    twin = step(FuseBatchNorm()(copied(loaded.model), context), context)
    job.note(f"channels are scored in {job.recipe.quantize}")
    return twin


def prune(job: Job, loaded: Loaded, prepared: Preparation) -> Pruned:
    """Scores, allocates, cuts; proves the cut. Without a budget nothing is cut."""
    if not job.recipe.budgets:
        return Pruned(remove_channels(prepared.groups, ()))
    with job.phase("prune"):
        cut = job.pruning.cut(prepared, replace(job.context, twin=_twin(job, loaded)))
        record: PruneRecord = job.context.records[job.pruning.name]
        narrowed = sum(d.kept < d.width for d in record.decisions)
        job.say(
            f"{record.criterion} → {record.allocator} · widths on {record.round_to}s · "
            f"{narrowed} of {len(prepared.groups)} groups narrowed"
        )
    with job.phase("verify"):
        check = check_cut(cut, loaded.feeds())
        job.say(f"cut equals masked network: max. relative difference {check.worst:.1e}")
        other = check_other_sizes(cut, job.recipe.seed)
        if other is not None:
            job.say(f"and at other sizes of its inputs: {other.worst:.1e}")
        elif is_symbolic(loaded.model):
            job.notes.append("the cut is proven for one size of the inputs only")
    return Pruned(cut, record.decisions, check)
