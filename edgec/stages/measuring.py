"""Evaluate and measure: accuracy and latency of original and result, side by side."""

from __future__ import annotations

from edgec.budget import plural
from edgec.calibration import evaluate as evaluation
from edgec.devices.base import Pair
from edgec.devices.measure import PRESETS, measure_pair
from edgec.report import BeforeAfter
from edgec.stages.job import Job
from edgec.stages.loading import Loaded
from edgec.stages.lowering import Artifact, Lowered
from edgec.stages.quantizing import Finished


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
        pair = _side_by_side(job, loaded, lowered.original, lowered.result, preset)
        job.say(f"this machine, {plural(job.threads, 'thread')}, n {pair.b.n}")
    return pair


def measure_gain(
    job: Job, loaded: Loaded, finished: Finished, lowered: Lowered, preset: str | None
) -> Pair | None:
    """The latency of the network before quantisation and of the result; None without one.

    Where the result is no faster, a note says so and names the layers that do not gain.
    """
    if preset is None or lowered.twin is None or finished.summary is None:
        return None
    word = job.recipe.quantize
    with job.phase("measure"):
        pair = _side_by_side(job, loaded, lowered.twin, lowered.result, preset)
        found = pair.comparison
        job.say(f"{word} against the same network before: {found.ratio:.3f}, {found.verdict}")
    if found.verdict != "FASTER":
        few = list(finished.summary.doubtful.items())
        shown = ", ".join(f"{name} ({why})" for name, why in few[:4])
        more = f" and {len(few) - 4} more" if len(few) > 4 else ""
        layers = f"; too little work to gain from it: {shown}{more}" if few else ""
        job.notes.append(f"{word} does not make this network faster here{layers}")
    return pair


def _side_by_side(job: Job, loaded: Loaded, a: Artifact, b: Artifact, preset: str) -> Pair:
    feeds = loaded.feeds(batch=1)
    return measure_pair(
        lambda: a.runner.run(feeds),
        lambda: b.runner.run(feeds),
        budget_s=PRESETS[preset].budget_s,
        min_blocks=PRESETS[preset].min_blocks,
        threads=job.threads,
        seed=job.recipe.seed,
    )
