"""What the stages found out, put together: the report of a build."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgec.devices.base import Pair
from edgec.passes.prune.feasibility import Preparation
from edgec.passes.repair import RepairRecord
from edgec.report import BeforeAfter, BudgetResult, Quantised, Report
from edgec.stages.job import Job
from edgec.stages.loading import Loaded
from edgec.stages.lowering import Lowered
from edgec.stages.pruning import Pruned
from edgec.stages.quantizing import Finished
from edgec.stages.repairing import Repaired
from edgec.verify import Check


@dataclass(frozen=True)
class Result:
    """What a dry run does not have.

    Attributes:
        accuracy: Before and after, if there were labels.
        latency: None if it was not measured.
        gain: The network before quantisation and the result, measured side by side.
    """

    pruned: Pruned
    repaired: Repaired
    finished: Finished
    lowered: Lowered
    accuracy: BeforeAfter | None
    latency: Pair | None
    gain: Pair | None


def report(
    job: Job,
    loaded: Loaded,
    prepared: Preparation,
    result: Result | None = None,
    path: Path | None = None,
) -> Report:
    """All that was found out; `path` is the bundle's folder."""
    after = result.finished.totals if result else None
    budgets = tuple(
        BudgetResult(
            b.metric, str(b), b.bound(loaded.totals.get(b.metric)), row.floor,
            None if after is None else after.get(b.metric), loaded.totals.get(b.metric),
        )
        for b, row in zip(job.recipe.budgets, prepared.feasibility(), strict=True)
    )  # fmt: skip
    sizes = (result.lowered.original.bytes, result.lowered.result.bytes) if result else (None, None)
    return Report(
        path=path,
        target=f"{job.target.name} ({job.target.backend})",
        costs=BeforeAfter(loaded.totals, after),
        file_bytes=BeforeAfter(*sizes),
        budgets=budgets,
        criterion=job.pruning.chosen_criterion(job.context),
        allocator=job.recipe.allocator,
        decisions=result.pruned.decisions if result else (),
        repair=result.repaired.record if result else RepairRecord("none", 0),
        cut=result.pruned.check if result else Check(),
        quantised=_quantised(job, result) if result else None,
        artifact=result.lowered.check if result else Check(),
        drift=result.lowered.drift if result else (),
        accuracy=result.accuracy if result else None,
        latency=result.latency if result else None,
        notes=tuple(job.notes),
        seconds=dict(job.seconds),
        groups=prepared.groups,
    )


def _quantised(job: Job, result: Result) -> Quantised | None:
    word, summary = job.recipe.quantize, result.finished.summary
    if word is None or summary is None:
        return None
    return Quantised(word, summary, result.lowered.moved, result.gain)
