"""Load: the network and the samples, checked against each other and against the target."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray

from edgec import bundle
from edgec.calibration.data import Data, DataSpec, load_data
from edgec.calibration.evaluate import Metric, find_metric
from edgec.calibration.moments import Batches
from edgec.feeds import check_sizes, fix_shapes_by_sample, input_types, sample_feeds
from edgec.graph.cost import Totals, count
from edgec.graph.facts import facts_of
from edgec.model import copied, spool_weights, to_bytes
from edgec.model import load as load_model
from edgec.model_inputs import input_shapes
from edgec.preflight import check_floats, check_labels
from edgec.preparing import prepared
from edgec.report import summary
from edgec.stages.job import Job
from edgec.targets import refuse


@dataclass(frozen=True)
class Loaded:
    """What a build starts from.

    Attributes:
        source: Name, hash and size of what was read.
        original: The network as it was read; loses its weights once it is lowered.
        model: The same in the form in which it is analysed.
        totals: What it costs.
        data: The calibration samples, None if there are none.
        eval_data: The samples for the accuracy; `data` if no others were given.
        metric: The metric.
        seed: Seed of random inputs.
    """

    source: bundle.Source
    original: ir.Model
    model: ir.Model
    totals: Totals
    data: Data | None
    eval_data: Data | None
    metric: Metric
    seed: int

    def feeds(self, batch: int = 4, data: Batches | None = None) -> dict[str, NDArray[Any]]:
        """Inputs to run original and result on.

        Args:
            batch: Their number, where the model leaves it open.
            data: Samples to take them from; those that were loaded if not given.
        """
        return dict(sample_feeds(self.model, data or self.data, self.seed, batch=batch))


def load(
    job: Job,
    source: Any,
    inputs: Mapping[str, Sequence[int]] | None,
    data: DataSpec | None,
    eval_data: DataSpec | None,
    metric: str | None,
) -> Loaded:
    """Reads the model and the samples."""
    with job.phase("load"):
        shapes = {k: tuple(v) for k, v in inputs.items()} if inputs else None
        original = load_model(source, inputs=shapes)
        spool_weights(original)
        origin = _source(source, original)
        scored_by = find_metric(metric)
        types = input_types(original)
        if data is None:
            check_sizes(original)
        refuse(job.target, job.target.supports(original))
        samples = None if data is None else load_data(data, types)
        judges = samples if eval_data is None else load_data(eval_data, types)
        job.context.data = samples
        if samples is not None:
            fix_shapes_by_sample(original, samples)
        with job.about(original, origin.name):
            model = prepared(copied(original), job.context)
            if job.recipe.quantize is not None:
                check_floats(model, job.recipe.quantize)
            totals = count(model, facts_of(model, input_shapes(model)))
        job.say(_describe(origin.name, model, totals))
        if totals.uncounted:
            job.notes.append(f"FLOPs leave out {', '.join(totals.uncounted)}")
        if samples is None and job.recipe.budgets:
            job.note("no data: only criteria and repairs that need none were used")
    asked = "--eval-data" if eval_data is not None else "--eval" if metric is not None else ""
    check_labels(original, judges, scored_by, asked)
    return Loaded(origin, original, model, totals, samples, judges, scored_by, job.recipe.seed)


def _source(source: Any, model: ir.Model) -> bundle.Source:
    """Name, hash and size of what was built."""
    if isinstance(source, str | os.PathLike) and Path(source).is_file():
        path = Path(source)
        return bundle.Source(path.name, bundle.file_hash(path), path.stat().st_size)
    content = to_bytes(model)
    name = source if isinstance(source, str) else model.graph.name or "model"
    return bundle.Source(name, hashlib.sha256(content).hexdigest(), len(content))


def _describe(name: str, model: ir.Model, totals: Totals) -> str:
    opset = model.graph.opset_imports.get("", 0)
    return f"{name} · opset {opset} · {model.graph.num_nodes()} nodes · {summary(totals)}"
