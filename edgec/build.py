"""The main job on one screen: a network in, a smaller and verified network out.

load → fold → analyse → feasibility → prune → verify the cut → repair → fuse
     → lower → verify the artifact → evaluate → measure → bundle
"""

from __future__ import annotations

import gc
import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnx_ir as ir

from edgec import bundle
from edgec.budget import human, plural
from edgec.calibration.data import Data, DataSpec, load_data
from edgec.calibration.evaluate import Accuracy, evaluate, find_metric
from edgec.compare import Comparison, Difference
from edgec.devices.base import Pair
from edgec.devices.measure import PRESETS, measure_pair
from edgec.errors import BudgetError
from edgec.feeds import check_sizes, fix_shapes_by_sample, input_types, sample_feeds
from edgec.foreign import diagnosed, translated
from edgec.graph.cost import Totals, count
from edgec.graph.facts import facts_of
from edgec.model import (
    copied,
    forget_weights,
    input_shapes,
    is_symbolic,
    load,
    release_pages,
    to_bytes,
)
from edgec.passes.base import Context
from edgec.passes.fuse import FuseBatchNorm
from edgec.passes.prune.feasibility import Preparation
from edgec.passes.prune.prune import Prune, PruneRecord
from edgec.passes.repair import RepairRecord, biases_to_come, repair
from edgec.planning import plan_of
from edgec.preflight import check_labels, check_options, check_place
from edgec.preparing import prepared
from edgec.recipe import Recipe
from edgec.report import BeforeAfter, BudgetResult, Report, summary
from edgec.targets import Runnable, Target, refuse, resolve
from edgec.verify import Check, check_artifact, check_cut, check_other_sizes


class Progress(Protocol):
    """Who is told what happens."""

    def phase(self, name: str) -> None:
        """A phase begins."""

    def say(self, text: str) -> None:
        """A fact about the phase that runs."""


class Silent:
    """Tells nobody."""

    def phase(self, name: str) -> None:
        """Nothing."""

    def say(self, text: str) -> None:
        """Nothing."""


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
    recipe = (recipe or Recipe()).with_options(options)
    job = _Job(recipe, progress or Silent(), threads)
    job.pruning.check_options(data is not None)
    check_options(
        repair=recipe.repair, measure=measure, threads=threads, data=data, eval_data=eval_data,
        metric=eval,
    )  # fmt: skip
    if output is not None and not dry_run:
        check_place(output, force=force, sources=(model, data, eval_data))
    job.load(model, inputs, data, eval_data, eval)
    prepared = job.analyse()
    if dry_run:
        return job.report(None, None)
    cut = job.prune(prepared)
    job.repair()
    with tempfile.TemporaryDirectory() as scratch:
        if output is None:
            job.lower(Path(scratch) / "result", Path(scratch))
            return job.finish(None, measure)
        with bundle.writing(output, force=force) as writer:
            job.lower(writer.folder, Path(scratch))
            report = job.finish(Path(output), measure)
            reasons = {d.name: d.reason for d in report.decisions}
            writer.seal(
                job.manifest(argv, report, writer.folder / bundle.MODEL),
                plan_of(cut.cut, job.source.sha256, reasons),
                report.to_json(),
            )
    return report


class _Job:
    """The state of one build, phase by phase."""

    def __init__(self, recipe: Recipe, progress: Progress, threads: int) -> None:
        self.recipe, self.progress, self.threads = recipe, progress, threads
        self.target: Target = replace(resolve(recipe.target, recipe.backend), threads=threads)
        self.pruning = Prune(
            recipe.budgets, recipe.criterion, recipe.allocator,
            recipe.round_to or self.target.profile.channel_grid,
            recipe.include, recipe.exclude, recipe.across_norms, recipe.drop_heads,
        )  # fmt: skip
        self.context = Context(seed=recipe.seed)
        self.guard: Callable[[], AbstractContextManager[None]] = partial(translated, "the model")
        self.seconds: dict[str, float] = {}
        self.notes: list[str] = []
        self.repaired = RepairRecord("none", 0)
        self.cut_check = Check()
        self.drift: list[Difference] = []
        self.artifact_check = Check()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Announces and times a phase."""
        self.progress.phase(name)
        start = time.perf_counter()
        with self.guard():
            yield
        release_pages(self.original)
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    def load(
        self,
        source: Any,
        inputs: Mapping[str, Sequence[int]] | None,
        data: DataSpec | None,
        eval_data: DataSpec | None,
        metric: str | None,
    ) -> None:
        """Reads the model and the samples."""
        with self.phase("load"):
            shapes = {k: tuple(v) for k, v in inputs.items()} if inputs else None
            self.original = load(source, inputs=shapes)
            self.source = _source(source, self.original)
            self.metric = find_metric(metric)
            types = input_types(self.original)
            if data is None:
                check_sizes(self.original)
            refuse(self.target, self.target.supports(self.original))
            self.data: Data | None = None if data is None else load_data(data, types)
            self.eval_data = self.data if eval_data is None else load_data(eval_data, types)
            self.context.data = self.data
            if self.data is not None:
                fix_shapes_by_sample(self.original, self.data)
            self.guard = partial(diagnosed, self.original, self.source.name)
            with self.guard():
                model = prepared(copied(self.original), self.context)
                self.totals = count(model, facts_of(model, input_shapes(model)))
            self.model = model
            self.progress.say(_describe(self.source.name, model, self.totals))
            if self.totals.uncounted:
                self.notes.append(f"FLOPs leave out {', '.join(self.totals.uncounted)}")
            if self.data is None:
                self.notes.append("no data: only criteria and repairs that need none were used")
                self.progress.say(self.notes[-1])
        asked = "--eval-data" if eval_data is not None else "--eval" if metric is not None else ""
        check_labels(self.original, self.eval_data, self.metric, asked)

    def analyse(self) -> Preparation:
        """Channel groups, and whether the budgets can be met."""
        with self.phase("analyse"):
            self.pruning.requires(self.model, self.context)
            self.groups = self.pruning.analyse(self.model)
            channels = sum(g.width for g in self.groups)
            pinned = sum(len(p.units) for p in self.groups.pinned)
            self.progress.say(
                f"{plural(len(self.groups), 'group')}, {channels} channels · {pinned} pinned"
            )
        with self.phase("budget"):
            reserved = 0 if self.recipe.repair == "none" else biases_to_come(self.model)
            self.prepared = self.pruning.prepare(self.groups, reserved)
            for row in self.prepared.feasibility():
                self.progress.say(
                    f"{row.metric}: smallest {row.floor / row.original:.3f}   "
                    f"asked {row.bound / row.original:.3f}   original 1.000   "
                    + ("feasible" if row.feasible else "not feasible")
                )
                if row.bound >= row.original:
                    self.notes.append(f"the {row.metric} budget is not below the original's")
                    self.progress.say(self.notes[-1])
            self.prepared.check()
        return self.prepared

    def prune(self, prepared: Preparation) -> PruneRecord:
        """Scores, allocates, cuts; proves the cut."""
        with self.phase("prune"):
            cut = self.pruning.cut(prepared, self.context)
            record: PruneRecord = self.context.records[self.pruning.name]
            self.record = record
            narrowed = sum(d.kept < d.width for d in self.record.decisions)
            self.progress.say(
                f"{self.record.criterion} → {self.record.allocator} · widths on "
                f"{self.record.round_to}s · {narrowed} of {len(self.groups)} groups narrowed"
            )
        with self.phase("verify"):
            feeds = sample_feeds(self.model, self.data, self.recipe.seed)
            self.cut_check = check_cut(cut, feeds)
            self.progress.say(
                f"cut equals masked network: max. relative difference {self.cut_check.worst:.1e}"
            )
            other = check_other_sizes(cut, self.recipe.seed)
            if other is not None:
                self.progress.say(f"and at other sizes of its inputs: {other.worst:.1e}")
            elif is_symbolic(self.model):
                self.notes.append("the cut is proven for one size of the inputs only")
        return self.record

    def repair(self) -> None:
        """Repairs what the cut damaged; counts what the result costs."""
        cut = self.record.cut
        with self.phase("repair"):
            self.repaired = repair(
                self.recipe.repair, self.model, cut, self.data, seed=self.recipe.seed
            )
            change = (
                ""
                if self.repaired.before is None or self.repaired.after is None
                else f" · output error {self.repaired.before:.3g} → {self.repaired.after:.3g}"
            )
            on = plural(self.repaired.samples, "sample") if self.data else "no samples"
            self.progress.say(f"{self.repaired.method}, {on}{change}")
            self.notes += self.repaired.notes
        self.result_totals = count(cut.model, facts_of(cut.model, input_shapes(self.model)))
        self.check_budgets()

    def check_budgets(self) -> None:
        """The counted cost, not the predicted one, decides."""
        for budget in self.recipe.budgets:
            found = self.result_totals.get(budget.metric)
            if found > budget.bound(self.totals.get(budget.metric)):
                raise BudgetError(
                    f"the budget {budget} {budget.metric}",
                    f"is exceeded by the result: {human(found, budget.metric)}",
                    "this is a defect of edgec; please report the model",
                )

    def lower(self, folder: Path, scratch: Path) -> None:
        """Builds the artifact, loads it, checks it against the network it was made from."""
        with self.phase("lower"):
            feeds = sample_feeds(self.model, self.data, self.recipe.seed)
            folder.mkdir(exist_ok=True)
            self.result_bytes = self.lower_result(folder)
            self.artifact_check = check_artifact(self.record.cut.model, self.runner, feeds)
            # Make room for the original. A graph is a cycle: only the collector frees its weights.
            forget_weights(self.record.cut.model)
            gc.collect()
            self.original_bytes = self.lower_original(scratch / "original")
            drift = Comparison()
            drift.add(self.original_runner.run(feeds), self.runner.run(feeds), _samples(feeds))
            self.drift = drift.result()
            self.progress.say(
                f"{self.target.backend} · {human(self.original_bytes, 'size')} → "
                f"{human(self.result_bytes, 'size')} · loaded, run and compared"
            )

    def lower_result(self, folder: Path) -> int:
        """Folds BatchNormalization, builds and loads; the bytes of the files."""
        final = FuseBatchNorm()(load(self.record.cut.model), self.context)
        refuse(self.target, self.target.supports(final))
        artifact = self.target.build(final, folder)
        self.runner: Runnable = self.target.load(artifact)
        return sum(file.stat().st_size for file in artifact.files)

    def lower_original(self, folder: Path) -> int:
        """Builds and loads what the result is compared with; the bytes of the files."""
        folder.mkdir()
        artifact = self.target.build(self.original, folder)
        release_pages(self.original)
        for model in (self.original, self.model):  # the original is a file from here on
            forget_weights(model)
        self.original_runner: Runnable = self.target.load(artifact)
        return sum(file.stat().st_size for file in artifact.files)

    def finish(self, path: Path | None, measure: str | None) -> Report:
        """Accuracy and latency of original and result, side by side."""
        accuracy: BeforeAfter | None = None
        if self.eval_data is not None and self.eval_data.has_labels:
            if self.eval_data is self.data:
                self.notes.append(
                    "accuracy is that of the calibration samples, which the build has seen: "
                    "give --eval-data for others"
                )
            with self.phase("evaluate"):
                scores: list[Accuracy] = [
                    evaluate(r.run, self.eval_data, self.metric)
                    for r in (self.original_runner, self.runner)
                ]
                accuracy = BeforeAfter(*scores)
                self.progress.say(
                    f"{scores[0].name} {scores[0].value:.4f} → {scores[1].value:.4f}, "
                    f"{scores[0].n} samples"
                )
        pair: Pair | None = None
        if measure not in (None, "none"):
            with self.phase("measure"):
                feeds = sample_feeds(self.model, self.data, self.recipe.seed, batch=1)
                preset = PRESETS[measure]
                pair = measure_pair(
                    lambda: self.original_runner.run(feeds),
                    lambda: self.runner.run(feeds),
                    budget_s=preset.budget_s,
                    min_blocks=preset.min_blocks,
                    threads=self.threads,
                    seed=self.recipe.seed,
                )
                self.progress.say(f"this machine, {plural(self.threads, 'thread')}, n {pair.b.n}")
        return self.report(path, accuracy, pair)

    def report(
        self, path: Path | None, accuracy: BeforeAfter | None, latency: Pair | None = None
    ) -> Report:
        """All that was found out so far."""
        record: PruneRecord | None = self.context.records.get(self.pruning.name)
        after: Totals | None = getattr(self, "result_totals", None)
        budgets = tuple(
            BudgetResult(
                b.metric, str(b), b.bound(self.totals.get(b.metric)), row.floor,
                None if after is None else after.get(b.metric), self.totals.get(b.metric),
            )
            for b, row in zip(self.recipe.budgets, self.prepared.feasibility(), strict=True)
        )  # fmt: skip
        return Report(
            path, f"{self.target.name} ({self.target.backend})",
            BeforeAfter(self.totals, after),
            BeforeAfter(getattr(self, "original_bytes", None), getattr(self, "result_bytes", None)),
            budgets, self.pruning.chosen_criterion(self.context), self.recipe.allocator,
            record.decisions if record else (), self.repaired, self.cut_check,
            self.artifact_check, tuple(self.drift), accuracy, latency,
            tuple(self.notes), dict(self.seconds), self.groups,
        )  # fmt: skip

    def manifest(self, argv: Sequence[str], report: Report, model: Path) -> bundle.Manifest:
        """Everything that decides the bundle; nothing that depends on time or machine."""
        numerics = [
            bundle.Numeric(check, d.name, d.samples, d.max_abs, d.max_rel, found.tolerance)
            for check, found in (("cut", report.cut), ("artifact", report.artifact))
            for d in found.differences
        ]
        accuracy = report.accuracy
        scored = (
            ()
            if accuracy is None
            else (
                bundle.Scored(
                    accuracy.before.name,
                    accuracy.before.n,
                    accuracy.before.value,
                    accuracy.after.value,
                ),
            )
        )
        return bundle.Manifest(
            source=self.source,
            argv=bundle.command(argv),
            seed=self.recipe.seed,
            target={"name": self.target.name, "backend": self.target.backend},
            passes=tuple({"name": name} for name in self.context.done),
            data=None if self.data is None else self.data.describe(),
            weights="original" if self.repaired.method == "none" else self.repaired.method,
            budgets=tuple(
                bundle.Budgeted(
                    b.metric, b.asked, int(b.bound), self.result_totals.get(b.metric), b.original
                )
                for b in report.budgets
            ),
            original=_costs(self.totals, self.original_bytes),
            result=_costs(self.result_totals, model.stat().st_size),
            numerics=tuple(numerics),
            accuracy=scored,
            reasons=tuple(
                bundle.Reason(p.name, f"{len(p.units)} channels pinned: {p.why}")
                for p in self.groups.pinned
            ),
        )


def _costs(totals: Totals, size: int) -> bundle.Costs:
    return bundle.Costs(totals.flops, totals.macs, totals.params, size)


def _samples(feeds: Mapping[str, np.ndarray]) -> int:
    return next((len(a) for a in feeds.values() if a.ndim), 1)


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
