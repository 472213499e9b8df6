"""Repair: what the cut damaged, adjusted."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from edgec.budget import plural
from edgec.graph.cost import Totals, count
from edgec.graph.cut import CutResult
from edgec.graph.facts import facts_of
from edgec.model_inputs import input_shapes
from edgec.passes import repair as repairs
from edgec.passes.repair import RepairRecord
from edgec.stages.job import Job
from edgec.stages.loading import Loaded


@dataclass(frozen=True)
class Repaired:
    """The cut network, repaired in place, and what it costs."""

    model: ir.Model
    record: RepairRecord
    totals: Totals


def repair(job: Job, loaded: Loaded, cut: CutResult) -> Repaired:
    """Repairs what the cut damaged; counts what the result costs."""
    if not job.recipe.budgets:
        return Repaired(cut.model, RepairRecord("none", 0), loaded.totals)
    with job.phase("repair"):
        with repairs.in_reals(cut.model):
            record = repairs.repair(
                job.recipe.repair, loaded.model, cut, loaded.data, seed=job.recipe.seed
            )
        change = (
            ""
            if record.before is None or record.after is None
            else f" · output error {record.before:.3g} → {record.after:.3g}"
        )
        on = plural(record.samples, "sample") if loaded.data else "no samples"
        job.say(f"{record.method}, {on}{change}")
        job.notes += record.notes
    totals = count(cut.model, facts_of(cut.model, input_shapes(loaded.model)))
    return Repaired(cut.model, record, totals)
