"""The main job on one screen: a network in, a smaller and verified network out.

load → fold → analyse → feasibility → prune → verify the cut → repair → fuse
     → quantise → lower → verify the artifact → evaluate → measure → bundle
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgec.progress import Progress, Silent
from edgec.recipe import Recipe

if TYPE_CHECKING:
    from edgec.calibration.data import DataSpec
    from edgec.report import Report


def build(
    model: Any,
    *,
    recipe: Recipe | None = None,
    output: str | os.PathLike[str] | None = None,
    force: bool = False,
    data: DataSpec | None = None,
    eval_data: DataSpec | None = None,
    eval: str | None = None,
    inputs: Mapping[str, Sequence[int]] | None = None,
    measure: str | None = "rapid",
    threads: int = 1,
    dry_run: bool = False,
    argv: Sequence[str] = (),
    progress: Progress | None = None,
    **options: Any,
) -> Report:
    """Builds a smaller network for a target, proves the cut, measures it, writes a bundle.

    Args:
        model: A path, `package.module:factory`, or a model in memory (see `edgec.load`).
        recipe: The options; `Recipe()` if not given.
        output: Folder of the bundle; None writes none.
        force: Replace a bundle that is there.
        data: Calibration samples (see `edgec.calibration.data.load_data`).
        eval_data: Labelled samples for the accuracy; `data` if that has labels.
        eval: `package.module:function`, the metric; top-1 if not given.
        inputs: Concrete shapes for symbolic inputs.
        measure: Preset of the measurement (`rapid`, `standard`), None for no measurement.
        threads: Threads of the measured models.
        dry_run: Stop after the feasibility table; nothing is cut or written.
        argv: The command line, for the manifest.
        progress: Told of every phase.
        **options: Fields of the recipe, which they override: `target`, `flops`, `seed`, …

    Raises:
        EdgecError: Its exit code says what kind.
    """
    # Here, so that `import edgec` loads none of the libraries that these stand on.
    from edgec import bundle, stages
    from edgec.planning import plan_of
    from edgec.preflight import check_options, check_place, check_quantisation

    recipe = (recipe or Recipe()).with_options(options)
    job = stages.Job(recipe, progress or Silent(), threads)
    if recipe.budgets or recipe.quantize is None:
        job.pruning.check_options(data is not None)
    check_options(
        repair=recipe.repair, measure=measure, threads=threads, data=data, eval_data=eval_data,
        metric=eval,
    )  # fmt: skip
    check_quantisation(recipe, job.target, data)
    if output is not None and not dry_run:
        check_place(output, force=force, sources=(model, data, eval_data))

    loaded = stages.load(job, model, inputs, data, eval_data, eval)
    prepared = stages.analyse(job, loaded)
    if dry_run:
        return stages.report(job, loaded, prepared)
    pruned = stages.prune(job, loaded, prepared)
    repaired = stages.repair(job, loaded, pruned.cut)
    finished = stages.finish(job, loaded, repaired)
    path = None if output is None else Path(output)
    with (
        tempfile.TemporaryDirectory() as scratch,
        nullcontext() if path is None else bundle.writing(path, force=force) as writer,
    ):
        folder = Path(scratch) / "result" if writer is None else writer.folder
        lowered = stages.lower(
            job, loaded, finished, folder, Path(scratch), twin=measure not in (None, "none")
        )
        accuracy = stages.evaluate(job, loaded, lowered)
        latency = stages.measure(job, loaded, lowered, measure)
        gain = stages.measure_gain(job, loaded, finished, lowered, measure)
        result = stages.Result(pruned, repaired, finished, lowered, accuracy, latency, gain)
        report = stages.report(job, loaded, prepared, result, path)
        if writer is not None:
            reasons = {d.name: d.reason for d in report.decisions}
            writer.seal(
                stages.manifest(job, loaded, finished, report, argv, folder / bundle.MODEL),
                plan_of(pruned.cut, loaded.source.sha256, reasons),
                report.to_json(),
            )
    return report
