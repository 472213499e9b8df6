"""The manifest of a build: everything that decides the bundle, nothing of time or machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgec.bundle import Budgeted, Costs, Manifest, Numeric, Reason, Scored, command
from edgec.graph.cost import Totals
from edgec.report import BeforeAfter, Report, finite
from edgec.stages.job import Job
from edgec.stages.loading import Loaded
from edgec.stages.quantizing import Finished


def manifest(
    job: Job, loaded: Loaded, finished: Finished, report: Report, argv: Sequence[str], model: Path
) -> Manifest:
    """The manifest of the bundle that a report is about.

    Args:
        job: The build.
        loaded: What it started from.
        finished: What was lowered.
        report: What it found out.
        argv: The command line.
        model: The result's file.
    """
    totals = report.costs.after
    return Manifest(
        source=loaded.source,
        argv=command(argv),
        seed=job.recipe.seed,
        target={"name": job.target.name, "backend": job.target.backend},
        passes=tuple({"name": name} for name in job.context.done),
        data=None if loaded.data is None else loaded.data.describe(),
        weights="original" if report.repair.method == "none" else report.repair.method,
        budgets=tuple(
            Budgeted(b.metric, b.asked, int(b.bound), totals.get(b.metric), b.original)
            for b in report.budgets
        ),
        original=_costs(report.costs.before, report.file_bytes.before),
        result=_costs(totals, model.stat().st_size),
        numerics=_numerics(report),
        quantisation=finished.to_json(job.recipe),
        accuracy=_scored(report.accuracy),
        reasons=tuple(
            Reason(p.name, f"{len(p.units)} channels pinned: {p.why}") for p in report.groups.pinned
        ),
    )


def _costs(totals: Totals, size: int) -> Costs:
    return Costs(totals.flops, totals.macs, totals.params, size)


def _numerics(report: Report) -> tuple[Numeric, ...]:
    moved = () if report.quantised is None else report.quantised.differences
    compared = (
        ("cut", report.cut.differences, report.cut.tolerance),
        ("quantised", moved, None),
        ("artifact", report.artifact.differences, report.artifact.tolerance),
    )
    return tuple(
        Numeric(check, d.name, d.samples, d.max_abs, finite(d.max_rel), finite(d.snr_db), tolerance)
        for check, differences, tolerance in compared
        for d in differences
    )


def _scored(accuracy: BeforeAfter | None) -> tuple[Scored, ...]:
    if accuracy is None:
        return ()
    before, after = accuracy.before, accuracy.after
    return (Scored(before.name, before.n, before.value, after.value),)
