"""Which layers stay in floats, or get fewer bits, so that quantisation costs no more than allowed.

The damage of every layer alone is measured with its weight and what it reads on their grids; of
all choices whose damages add up to no more than the bound, the smallest is taken. That they add up
is an assumption, and what is rounded between the layers is in no layer's damage: so the result is
measured, and the bound on the sum tightened by as much as the result was worse, a few times.
"""

from __future__ import annotations

import glob
import math
from dataclasses import dataclass, replace

import onnx_ir as ir

from edgec.budget import plural
from edgec.calibration.cache import Cache
from edgec.calibration.data import Data
from edgec.calibration.moments import Batches, runner
from edgec.calibration.ranges import ranges_of
from edgec.calibration.variants import Parts
from edgec.errors import BudgetError, UnsupportedError, UsageError
from edgec.model import copied
from edgec.passes.quantize.bits import (
    FLOAT,
    Allocation,
    Table,
    damages_of,
    floats_of,
    stored_bytes,
    up_to,
)
from edgec.passes.quantize.quantize import FIT, Quantize, QuantizeRecord
from edgec.passes.quantize.sensitivity import scan
from edgec.passes.quantize.yardstick import PLAIN, Yardstick
from edgec.recipe import Recipe
from edgec.stages.job import Job
from edgec.stages.loading import Loaded

_TRIES = 4
_MARGIN = 0.9  # what is aimed at, of the bound that the last figures suggest


@dataclass(frozen=True)
class Drop:
    """What a choice costs: predicted and measured.

    Attributes:
        recipe: Has the bound and the metric.
        chosen: The bits of every layer.
        damages: Layer → bits → its damage alone.
        measured: The damage of the result.
        samples: On how many it was measured.
    """

    recipe: Recipe
    chosen: Allocation
    damages: Table
    measured: float
    samples: int

    @property
    def holds(self) -> bool:
        """Whether the result costs no more than allowed."""
        return self.measured <= (self.recipe.max_drop or 0.0)

    @property
    def reasons(self) -> dict[str, str]:
        """Layer that stays in floats → why."""
        metric, most = self.recipe.drop_metric, self.recipe.max_drop
        return {
            name: f"in {bits} bits it alone costs {self.damages[name][bits]:.3g} of the "
            f"{most:g} {metric} of --max-drop"
            for name in floats_of(self.chosen)
            for bits in [max((b for b in self.damages[name] if b != FLOAT), default=FLOAT)]
        }

    @property
    def words(self) -> str:
        """The figures, and the layers."""
        figures = (
            f"{self.recipe.drop_metric} predicted {self.chosen.damage:.3g}, measured "
            f"{self.measured:.3g} on {plural(self.samples, 'sample')}"
        )
        found = [figures]
        for bits, name in ((FLOAT, "in floats"), (4, "in 4 bits")):
            layers = [layer for layer, own in self.chosen.bits.items() if own == bits]
            if layers:
                found.append(f"{name}: {', '.join(layers)}")
        return "; ".join(found)


def mix(
    job: Job, loaded: Loaded, model: ir.Model, step: Quantize, data: Batches
) -> tuple[ir.Model, QuantizeRecord, Drop]:
    """The network quantised so that --max-drop holds, what the pass did, and what it costs.

    Args:
        job: The build.
        loaded: Has the samples.
        model: The network in floats, BatchNorms folded; not changed.
        step: The pass, without a choice of layers.
        data: The samples that ranges are taken from.

    Raises:
        UsageError: The metric wants labels, and there are none.
        BudgetError: No choice was found that keeps the bound.
    """
    recipe, bound = job.recipe, job.recipe.max_drop
    assert bound is not None
    damages, sizes = _tables(
        job, model, step, data, _labelled(recipe, loaded.data, loaded.eval_data)
    )
    judges = _labelled(recipe, loaded.eval_data, loaded.data)
    yardstick = Yardstick(recipe.drop_metric, model, Parts(model, []), judges)
    aim, told = bound, ""
    for _ in range(_TRIES):
        chosen = up_to(damages, sizes, aim)
        floats = floats_of(chosen)
        if len(floats) == len(damages):
            break
        own = replace(
            step,
            exclude=(*step.exclude, *map(glob.escape, floats)),
            bits={layer: bits for layer, bits in chosen.bits.items() if bits != FLOAT},
        )
        context = replace(job.context, data=data, records={}, done=[])
        result = own(copied(model), context)
        drop = Drop(recipe, chosen, damages, *_measured(yardstick, model, result))
        told = drop.words
        job.say(f"--max-drop {bound:g} · {told}")
        if drop.holds:
            return result, context.records[own.name], drop
        if not 0 < chosen.damage < math.inf or not drop.measured < math.inf:
            break
        aim = _MARGIN * bound * min(aim, chosen.damage) / drop.measured
    least = min(own[bits] for own in damages.values() for bits in own if bits != FLOAT)
    raise BudgetError(
        f"--max-drop {bound:g} {recipe.drop_metric}",
        f"is exceeded by the result: {told}" if told else
        f"lets no layer be quantised: the least that one costs alone is {least:.3g}",
        "allow more, try --rounding or another --observer, or give more samples to --data; "
        "'edgec quantize-scan' ranks the layers",
    )  # fmt: skip


def _labelled(recipe: Recipe, *samples: Data | None) -> Data:
    """The first samples that the metric can judge."""
    for data in samples:
        if data is not None and (recipe.drop_metric in PLAIN or data.has_labels):
            return data
    raise UsageError(
        f"--drop-metric {recipe.drop_metric}",
        "needs samples with labels, and these have none",
        f"add an array 'labels' to the .npz file, or take one of {', '.join(PLAIN)}",
    )


def _tables(
    job: Job, model: ir.Model, step: Quantize, ranges: Batches, data: Data
) -> tuple[dict[str, dict[int, float]], Table]:
    """Layer → bits → its damage, and its bytes. What looks like a gain is luck: it counts as 0."""
    bits = job.recipe.bits
    wide = replace(step, bits={"": min(bits)})
    ready, placement = wide.placed(copied(model), replace(job.context, records={}, done=[]))
    if not placement.weights:
        raise UnsupportedError("the model", "has nothing to quantise", "leave --quantize away")
    cache = Cache.default() if step.keep else Cache(None)
    seen = cache.observe(ready, [point.value for point in placement.points], ranges)
    grids = ranges_of(seen, step.observer, step.rules.activations, placement.tied)
    found = scan(
        ready, placement, data, bits=bits, metric=job.recipe.drop_metric, fit=FIT, grids=grids
    )
    damages = {
        layer: {b: max(damage, 0.0) for b, damage in own.items()}
        for layer, own in damages_of(found).items()
    }
    sizes = {x.name: {b: float(stored_bytes(x, b)) for b in (*bits, FLOAT)} for x in found.layers}
    return damages, sizes


def _measured(yardstick: Yardstick, before: ir.Model, result: ir.Model) -> tuple[float, int]:
    """The damage of the result, and on how many samples."""
    inputs, outputs = (
        [v.name or "" for v in vs] for vs in (before.graph.inputs, before.graph.outputs)
    )
    run, meter, samples = runner(result, inputs, outputs), yardstick.meter(), 0
    for number, feeds in enumerate(yardstick.batches()):
        meter.add(number, run(feeds))
        samples += len(next(iter(feeds.values())))
    damage = meter.damage
    return math.inf if math.isnan(damage) else damage, samples
