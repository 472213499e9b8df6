"""Lower: what the target runs, made from result and original, loaded, run and compared."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from edgec.budget import human
from edgec.calibration.memory import give_back
from edgec.compare import Comparison, Difference
from edgec.errors import UnsupportedError
from edgec.feeds import samples_in, split
from edgec.graph.stored import unrounded
from edgec.model import MAX_EMBEDDED, forget_weights, release_pages
from edgec.stages.job import Job
from edgec.stages.loading import Loaded
from edgec.stages.quantizing import Finished
from edgec.targets import Runnable, refuse
from edgec.verify import Check, Feeds, check_artifact, check_quantised

_EMBEDDED = 8 << 20  # bytes of weights in files that are loaded and thrown away


@dataclass(frozen=True)
class Artifact:
    """What the target made of a network, loaded; `bytes` are those of its files."""

    runner: Runnable
    bytes: int


@dataclass(frozen=True)
class Lowered:
    """Original and result as the target runs them.

    Attributes:
        original, result: The artifacts.
        check: The result's artifact against the network it was made from.
        twin: The network before quantisation, if there was one and it is to be measured.
        moved: What quantisation changed: the network before it against the quantised graph.
        drift: The result's artifact against the original's, on the same inputs.
    """

    original: Artifact
    result: Artifact
    twin: Artifact | None
    check: Check
    moved: tuple[Difference, ...]
    drift: tuple[Difference, ...]


def lower(
    job: Job, loaded: Loaded, finished: Finished, folder: Path, scratch: Path, *, twin: bool
) -> Lowered:
    """Builds the artifact, loads it, checks it against the network it was made from.

    Args:
        job: The build.
        loaded: The original; loses its weights.
        finished: The result; loses its weights.
        folder: For the files of the result.
        scratch: For those of the original.
        twin: Whether the network before quantisation is lowered too.
    """
    with job.phase("lower"):
        feeds = loaded.feeds(data=finished.seen)
        parts = split(loaded.model, feeds)
        folder.mkdir(exist_ok=True)
        if finished.summary is not None:
            _refuse_numbers(job, finished.model)
        result = _lower_result(job, finished.model, folder)
        check, moved = _check(finished, result.runner, feeds, parts)
        other = None
        if twin and finished.twin is not None:
            (scratch / "twin").mkdir()
            other = _lower_result(job, finished.twin, scratch / "twin", embedded=_EMBEDDED)
        # Make room for the original. A graph is a cycle: only the collector frees its weights.
        for model in (finished.model, finished.before, finished.twin):
            if model is not None:
                forget_weights(model)
        gc.collect()
        give_back()
        original = _lower_original(job, loaded, scratch / "original")
        drift = Comparison()
        for part in parts:
            drift.add(original.runner.run(part), result.runner.run(part), samples_in(part))
        job.say(
            f"{job.target.backend} · {human(original.bytes, 'size')} → "
            f"{human(result.bytes, 'size')} · loaded, run and compared"
        )
    return Lowered(original, result, other, check, moved, tuple(drift.result()))


def _refuse_numbers(job: Job, model: ir.Model) -> None:
    """The original was taken: what is refused now, quantisation has made."""
    refused = job.target.supports(model)
    if refused:
        kernels = ", ".join(
            f"{r.op or 'the graph'} ({', '.join(r.nodes[:2])})" for r in refused[:4]
        )
        raise UnsupportedError(
            f"--quantize {job.recipe.quantize}",
            f"makes what {job.target.backend} has no kernels for: {kernels}",
            "take another --quantize, or another --target",
        )


def _check(
    finished: Finished, runner: Runnable, feeds: Feeds, parts: Sequence[Feeds]
) -> tuple[Check, tuple[Difference, ...]]:
    """The result's artifact against the network it was made from; what quantisation changed."""
    if finished.summary is not None:
        return check_quantised(runner, finished.model, finished.before, parts)
    floats = unrounded(finished.before)
    if floats is None:
        return check_artifact(finished.before, runner, feeds), ()
    # it rounds by itself, so the same holds for it as for what edgec quantises
    return check_quantised(runner, finished.before, floats, parts)[0], ()


def _lower_result(
    job: Job, model: ir.Model, folder: Path, *, embedded: int = MAX_EMBEDDED
) -> Artifact:
    """Builds and loads."""
    refuse(job.target, job.target.supports(model))
    artifact = job.target.build(model, folder, embedded=embedded)
    return Artifact(job.target.load(artifact), sum(f.stat().st_size for f in artifact.files))


def _lower_original(job: Job, loaded: Loaded, folder: Path) -> Artifact:
    """Builds and loads what the result is compared with."""
    folder.mkdir()
    artifact = job.target.build(loaded.original, folder, embedded=_EMBEDDED)
    release_pages(loaded.original)
    for model in (loaded.original, loaded.model):  # the original is a file from here on
        forget_weights(model)
    return Artifact(job.target.load(artifact), sum(f.stat().st_size for f in artifact.files))
