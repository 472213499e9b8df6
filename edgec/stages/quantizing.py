"""Finish and quantise: the graph that is lowered, made from the repaired network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgec.calibration.data import Data
from edgec.calibration.moments import runner
from edgec.calibration.selection import Selected, divergence, select
from edgec.calibration.synthetic import Synthetic, synthetic
from edgec.errors import UnsupportedError
from edgec.graph.cost import Totals, weights_in
from edgec.model import copied, load
from edgec.passes.base import Pass
from edgec.passes.fuse import FuseBatchNorm
from edgec.passes.quantize.formats import ALL, FORMATS, SYNTHETIC, Summary
from edgec.passes.quantize.quantize import Quantize
from edgec.recipe import Recipe
from edgec.stages.budgets import check_budgets
from edgec.stages.job import Job
from edgec.stages.loading import Loaded
from edgec.stages.mixing import mix
from edgec.stages.repairing import Repaired

_ENOUGH = 128  # samples that a selection chooses where no number is given
_JUDGED_ON = 32
_TOLD = 6  # reasons
Samples = Data | Selected | Synthetic
Told = Callable[[Any], Summary]


@dataclass(frozen=True)
class Finished:
    """What is lowered.

    Attributes:
        model: The graph.
        before: The repaired network, from which it was made.
        totals: What the result costs: the bytes of its weights are those of the integers.
        summary: What was quantised; None if nothing was.
        twin: The graph in the numbers before; None if nothing was quantised.
        seen: The samples that activations were observed on, if any were.
    """

    model: ir.Model
    before: ir.Model
    totals: Totals
    summary: Summary | None = None
    twin: ir.Model | None = None
    seen: Samples | None = None

    def to_json(self, recipe: Recipe) -> dict[str, Any] | None:
        """For the manifest."""
        if self.summary is None or recipe.quantize is None:
            return None
        return {
            "numbers": recipe.quantize,
            "options": {name: getattr(recipe, name) for name in FORMATS[recipe.quantize].takes},
            "samples": None if self.seen is None else self.seen.describe(),
            "summary": self.summary.text,
            "floats": dict(self.summary.floats),
        }


def finish(job: Job, loaded: Loaded, repaired: Repaired) -> Finished:
    """Folds BatchNormalization, and quantises where that is asked for."""
    model = FuseBatchNorm()(load(repaired.model), job.context)
    word, recipe = job.recipe.quantize, job.recipe
    if word is None:
        check_budgets(job, loaded.totals, repaired.totals)
        return Finished(model, repaired.model, repaired.totals)
    with job.phase("quantise"):
        twin = copied(model)
        kind = FORMATS[word]
        step = job.quantising
        assert step is not None
        data: Samples | None = loaded.data if kind.sees_data else None
        if kind.needs_data:
            data = _samples(job, loaded, repaired.model, model, step)
        if recipe.max_drop is None:
            context = replace(job.context, data=data)
            model = step(model, context)
            summary = kind.told(context.records[step.name])
        else:
            model, summary = _mixed(job, loaded, model, step, data, kind.told)
        if not summary.changed:
            raise UnsupportedError(
                f"--quantize {word}", "finds nothing to do",
                "; ".join(f"{n}: {why}" for n, why in [*summary.floats.items()][:_TOLD])
                or "the model has no such layer",
            )  # fmt: skip
        job.say(" · ".join(filter(None, (word, summary.how, summary.text))))
        for note in summary.notes:
            job.note(note)
    totals = replace(repaired.totals, size=weights_in(model)[1])
    check_budgets(job, loaded.totals, totals)
    return Finished(model, repaired.model, totals, summary, twin, data)


def _mixed(
    job: Job, loaded: Loaded, model: ir.Model, step: Pass, data: Samples | None, told: Told
) -> tuple[ir.Model, Summary]:
    """Quantises under --max-drop."""
    assert isinstance(step, Quantize)
    assert data is not None
    model, record, drop = mix(job, loaded, model, step, data)
    summary = told(record)
    note = f"--max-drop {job.recipe.max_drop:g}, against the network before quantisation"
    return model, replace(
        summary,
        floats={**summary.floats, **drop.reasons},
        notes=(*summary.notes, f"{note}: {drop.words}"),
    )


def _samples(job: Job, loaded: Loaded, repaired: ir.Model, folded: ir.Model, step: Pass) -> Samples:
    """The samples that activations are observed on."""
    how, count = job.recipe.calib, job.recipe.calib_samples
    if how == SYNTHETIC:
        made = synthetic(repaired, count or _ENOUGH, seed=job.recipe.seed)
        for note in made.describe()["notes"]:
            job.note(note)
        return made
    data = loaded.data
    assert data is not None
    if how == ALL:
        return data

    def score(chosen: Selected) -> float:
        """How far the network that is quantised on these samples moves on fixed others."""
        context = replace(job.context, data=chosen, records={}, done=[])
        return float(divergence(original, _outputs(step(copied(folded), context), data)))

    original = _outputs(folded, data) if how == "kl" else np.zeros(0)
    return select(
        data, count or _ENOUGH, how, seed=job.recipe.seed, model=loaded.model, score=score
    )


def _outputs(model: ir.Model, data: Data) -> NDArray[Any]:
    """The first output on the first samples."""
    inputs = [v.name or "" for v in model.graph.inputs]
    name = model.graph.outputs[0].name or ""
    return runner(model, inputs, [name])(next(data.batches(_JUDGED_ON)))[name]
