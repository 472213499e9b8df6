"""Evaluate and measure: accuracy and latency of original and result, side by side."""

from __future__ import annotations

from edgec.budget import plural
from edgec.calibration import evaluate as evaluation
from edgec.devices.base import Pair
from edgec.devices.measure import PRESETS, measure_pair
from edgec.report import BeforeAfter
from edgec.stages.job import Job
from edgec.stages.loading import Loaded
from edgec.stages.lowering import Lowered


def evaluate(job: Job, loaded: Loaded, lowered: Lowered) -> BeforeAfter | None:
    """The accuracy on labelled samples; None if there are none."""
    samples = loaded.eval_data
    if samples is None or not samples.has_labels:
        return None
    if samples is loaded.data:
        job.notes.append(
            "accuracy is that of the calibration samples, which the build has seen: "
            "give --eval-data for others"
        )
    with job.phase("evaluate"):
        before, after = (
            evaluation.evaluate(artifact.runner.run, samples, loaded.metric)
            for artifact in (lowered.original, lowered.result)
        )
        job.say(f"{before.name} {before.value:.4f} → {after.value:.4f}, {before.n} samples")
    return BeforeAfter(before, after)


def measure(job: Job, loaded: Loaded, lowered: Lowered, preset: str | None) -> Pair | None:
    """The latency on this machine; None if it is not to be measured."""
    if preset is None or preset == "none":
        return None
    with job.phase("measure"):
        feeds = loaded.feeds(batch=1)
        pair = measure_pair(
            lambda: lowered.original.runner.run(feeds),
            lambda: lowered.result.runner.run(feeds),
            budget_s=PRESETS[preset].budget_s,
            min_blocks=PRESETS[preset].min_blocks,
            threads=job.threads,
            seed=job.recipe.seed,
        )
        job.say(f"this machine, {plural(job.threads, 'thread')}, n {pair.b.n}")
    return pair
