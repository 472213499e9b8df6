"""Finish and quantise: the graph that is lowered, made from the repaired network."""

from __future__ import annotations

from dataclasses import dataclass, replace

import onnx_ir as ir

from edgec.budget import plural
from edgec.graph.cost import Totals
from edgec.model import load
from edgec.passes.fuse import FuseBatchNorm
from edgec.passes.quantize.formats import FORMATS, Options
from edgec.passes.quantize.quantize import QuantizeRecord
from edgec.stages.job import Job
from edgec.stages.repairing import Repaired


@dataclass(frozen=True)
class Finished:
    """What is lowered.

    Attributes:
        model: The graph.
        before: The repaired network, from which it was made.
        record: What was quantised; None if nothing was.
        totals: What the result costs: the bytes of its weights are those of the integers.
    """

    model: ir.Model
    before: ir.Model
    totals: Totals
    record: QuantizeRecord | None = None


def finish(job: Job, repaired: Repaired) -> Finished:
    """Folds BatchNormalization, and quantises where that is asked for."""
    model = FuseBatchNorm()(load(repaired.model), job.context)
    word = job.recipe.quantize
    if word is None:
        return Finished(model, repaired.model, repaired.totals)
    with job.phase("quantise"):
        recipe = job.recipe
        step = FORMATS[word].make(
            Options(
                job.target.profile.quantize, recipe.observer, recipe.rounding, recipe.keep_float,
                recipe.calib_samples,
            )
        )  # fmt: skip
        model = step(model, job.context)
        record: QuantizeRecord = job.context.records[step.name]
        job.say(
            f"{word} · {record.observer}, {plural(record.samples, 'sample')} · "
            f"{record.quantised} of {plural(record.products, 'layer')} in integers"
        )
        for note in record.notes:
            job.note(note)
    stored = [v.const_value for v in model.graph.initializers.values()]
    size = sum(tensor.nbytes for tensor in stored if tensor is not None)
    return Finished(model, repaired.model, replace(repaired.totals, size=size), record)
