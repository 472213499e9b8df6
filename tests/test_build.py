"""The main job, end to end: what comes out is small enough, the same each time, and checkable."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import numpy as np
import onnx
import onnxruntime as ort  # type: ignore[import-untyped, unused-ignore]
import pytest
from onnx import numpy_helper
from zoo import light

import edgec
from edgec import bundle
from edgec.budget import METRICS
from edgec.graph.channels import ChannelGroups, Group
from edgec.graph.cost import Totals, count
from edgec.graph.facts import facts_of
from edgec.inspection import channel_groups
from edgec.model_inputs import input_shapes
from edgec.passes.prune.allocate import ALLOCATORS
from edgec.passes.prune.criteria import CRITERIA
from edgec.passes.repair import REPAIRS
from edgec.report import Report

ROOT = Path(__file__).resolve().parent.parent
DIGITS = ROOT / "examples" / "digits" / "digits.onnx"
CALIBRATION = ROOT / "examples" / "digits" / "calibration.npz"
SCHEMAS = {
    name: json.loads((ROOT / "edgec" / f"{name}.schema.json").read_text())
    for name in ("manifest", "plan")
}
SLOW = {"bvlc_alexnet", "vgg19", "zfnet512"}


def samples(n: int) -> dict[str, np.ndarray]:
    """A few of the calibration images."""
    with np.load(CALIBRATION) as arrays:
        return {"image": arrays["image"][:n], "labels": arrays["labels"][:n]}


def document(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_text())


# --- budgets -------------------------------------------------------------------------------------


def wider(groups: ChannelGroups, kept: dict[str, list[int]], round_to: int) -> Iterator[set[int]]:
    """For every narrowed group: the units that go if that group alone takes its next width.

    Args:
        groups: The analysis of the original.
        kept: Group → positions among its units, as plan.json has them.
        round_to: The grid.
    """
    gone = {g.name: set(g.units.tolist()) - set(g.units[kept[g.name]].tolist()) for g in groups}
    everything = set().union(*gone.values())
    for group in groups:
        back = next_width(group, gone[group.name], round_to)
        if back:
            yield everything - back


def next_width(group: Group, gone: set[int], round_to: int) -> set[int]:
    """The units that come back with the next width on the grid, as many in every row."""
    rows = [[u for u in group.units[group.cells == row].tolist() if u in gone]
            for row in range(group.rows)]  # fmt: skip
    lost = min(map(len, rows), default=0)
    for fewer in range(lost - 1, -1, -1):
        width = group.width - fewer * group.step
        if fewer == 0 or width % round_to == 0:
            return {unit for row in rows for unit in row[: lost - fewer]}
    return set()


def counted(groups: ChannelGroups, gone: set[int]) -> Totals:
    """The cost of the model without some units, counted on the cut model itself."""
    cut = edgec.remove_channels(groups, sorted(gone))
    return count(cut.model, facts_of(cut.model, dict(input_shapes(groups.model))))


def meets(report: Report, folder: Path, source: Any, round_to: int) -> None:
    """No budget is broken, and none could be used up further by one step of one group."""
    for result in report.budgets:
        assert result.achieved is not None
        assert result.achieved <= result.bound
    if any(b.achieved is not None and b.achieved >= 0.995 * b.bound for b in report.budgets):
        return
    groups = channel_groups(source)
    kept = {g["name"]: g["kept"] for g in document(folder, "plan.json")["groups"]}
    for gone in wider(groups, kept, round_to):
        costs = counted(groups, gone)
        assert any(costs.get(b.metric) > b.bound for b in report.budgets)


ORIGINAL = edgec.inspect(DIGITS).totals
BUDGETS: list[dict[Any, Any]] = [
    *({metric: ratio} for metric in METRICS for ratio in (0.2, 0.4, 0.75, 1.0)),
    *({metric: f"{ORIGINAL.get(metric) * 0.55e-3:.3f}k"} for metric in METRICS),
    {"size": "300kB"},
    {"flops": "1.5M", "params": 0.3},
    {"flops": 0.6, "macs": 0.5, "params": 0.5, "size": "400kB"},
]
ALLOCATED = [
    *((budgets, "mckp") for budgets in BUDGETS),
    *((BUDGETS[at], other) for at in (1, 10, -1) for other in ("global", "uniform")),
]


@pytest.mark.parametrize(("budgets", "allocator"), ALLOCATED, ids=str)
def test_a_budget_is_met_to_the_last_step(
    budgets: dict[str, Any], allocator: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    report = edgec.build(
        DIGITS, output=out, measure=None, repair="none", allocator=allocator, **budgets
    )
    assert {b.metric for b in report.budgets} == budgets.keys()
    meets(report, out, DIGITS, 8)
    for entry in bundle.read(out).manifest["budgets"]:
        assert entry["achieved"] == report.costs.after.get(entry["kind"])
    widths = {d.name: (d.width, d.kept) for d in report.decisions}
    assert all(kept == width or kept % 8 == 0 for width, kept in widths.values())


@pytest.mark.parametrize("round_to", [1, 3, 16])
def test_widths_lie_on_the_grid(round_to: int, tmp_path: Path) -> None:
    out = tmp_path / "out"
    report = edgec.build(DIGITS, output=out, flops=0.5, round_to=round_to, measure=None)
    meets(report, out, DIGITS, round_to)
    narrowed = [d for d in report.decisions if d.kept < d.width]
    assert narrowed
    assert all(d.kept % round_to == 0 for d in narrowed)


def test_the_counts_are_those_of_the_file(tmp_path: Path) -> None:
    """MACs and parameters, counted by hand on the model that was written."""
    edgec.build(DIGITS, output=tmp_path / "out", flops=0.4, repair="none", measure=None)
    model = onnx.shape_inference.infer_shapes(onnx.load(tmp_path / "out" / "model.onnx"))
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim]
              for v in (*model.graph.value_info, *model.graph.output)}  # fmt: skip
    weights = {t.name: list(t.dims) for t in model.graph.initializer}
    macs = 0
    for node in model.graph.node:
        if node.op_type == "Conv":
            macs += int(np.prod(weights[node.input[1]])) * int(np.prod(shapes[node.output[0]][2:]))
        elif node.op_type == "Gemm":
            macs += int(np.prod(weights[node.input[1]]))
    manifest = document(tmp_path / "out", "manifest.json")
    assert manifest["result"]["macs"] == macs
    assert manifest["result"]["bytes"] == (tmp_path / "out" / "model.onnx").stat().st_size


def test_patterns_choose_the_groups() -> None:
    report = edgec.build(
        DIGITS, flops=0.8, measure=None, include=["stages.2*"], exclude=["stages.2.0.conv1"]
    )
    narrowed = {d.name for d in report.decisions if d.kept < d.width}
    assert narrowed
    assert all(name.startswith("stages.2") for name in narrowed - {"stages.2.0.conv1"})
    reasons = {d.name: d.reason for d in report.decisions}
    assert reasons["stages.2.0.conv1"] == "kept by --exclude"
    assert reasons["stages.0.0.conv1"] == "not named by --include"
    assert {reasons[name] for name in narrowed} == {"the highest by l2, as many as mckp affords"}
    assert all(reasons.values())


def test_excluding_what_is_pinned_is_no_mistake() -> None:
    assert edgec.build(DIGITS, flops=0.5, measure=None, exclude=["head"]).budgets[0].achieved


def test_a_budget_above_the_original_keeps_all() -> None:
    report = edgec.build(DIGITS, flops="1G", measure=None)
    assert report.costs.before == report.costs.after
    assert "the flops budget is not below the original's" in report.notes


# --- the same bytes ------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [[], ["--data", str(CALIBRATION)]], ids=["no data", "data"])
def test_same_inputs_and_seed_give_the_same_bytes(data: list[str], tmp_path: Path) -> None:
    """In processes that differ in all that must not matter: hashes, folders, the clock."""
    command = [str(Path(sys.executable).with_name("edgec")), "build", str(DIGITS), "--flops",
               "0.5", "--measure", "none", *data, "-o"]  # fmt: skip
    for name in ("a", "b"):
        environment = {**os.environ, "PYTHONHASHSEED": str(ord(name))}
        run = subprocess.run(
            [*command, str(tmp_path / name)], env=environment, capture_output=True, text=True
        )
        assert run.returncode == 0, run.stderr
    for file in ("model.onnx", "plan.json", "manifest.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_another_seed_gives_another_choice() -> None:
    builds = [
        edgec.build(DIGITS, flops=0.5, criterion="random", seed=seed, measure=None)
        for seed in (0, 0, 1)
    ]
    first, again, other = ({d.name: d.kept for d in b.decisions} for b in builds)
    assert first == again
    assert builds[0].drift == builds[1].drift
    assert (first, builds[0].drift) != (other, builds[2].drift)


# --- what is written -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of digits, its weights as they were."""
    out = tmp_path_factory.mktemp("built") / "out"
    edgec.build(
        DIGITS, output=out, flops=0.4, repair="none", data=samples(32), measure=None,
        argv=["build", "digits.onnx", "-o", "x", "--flops", "0.4"],
    )  # fmt: skip
    return out


def test_the_bundle_verifies(built: Path) -> None:
    found = bundle.read(built)
    assert found.manifest["argv"] == ["build", "digits.onnx", "--flops", "0.4"]
    assert found.manifest["source"]["sha256"] == bundle.file_hash(DIGITS)
    assert found.plan.source_sha256 == bundle.file_hash(DIGITS)
    assert found.manifest["weights"] == "original"
    assert {n["check"] for n in found.manifest["numerics"]} == {"cut", "artifact"}
    assert all(n["max_rel"] <= n["tolerance"] for n in found.manifest["numerics"])


@pytest.mark.parametrize("name", SCHEMAS)
def test_documents_fit_their_schema(name: str, built: Path) -> None:
    jsonschema.validate(document(built, f"{name}.json"), SCHEMAS[name])


def test_batch_normalization_is_folded_and_the_batch_stays_open(built: Path) -> None:
    original, model = onnx.load(DIGITS), onnx.load(built / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert "BatchNormalization" in {n.op_type for n in original.graph.node}
    assert "BatchNormalization" not in {n.op_type for n in model.graph.node}
    assert model.graph.input == original.graph.input
    assert model.graph.output == original.graph.output
    session = ort.InferenceSession(built / "model.onnx")
    for batch in (1, 3):
        (scores,) = session.run(None, {"image": np.ones((batch, 1, 8, 8), np.float32)})
        assert scores.shape == (batch, 10)


def test_a_stranger_checks_the_cut(built: Path) -> None:
    """docs/plan.md with onnx, numpy and a runtime: zero what plan.json says, run, compare."""
    plan = document(built, "plan.json")
    model = onnx.load(DIGITS)
    tensors = {t.name: t for t in model.graph.initializer}
    zeroed = 0
    for cut in plan["cuts"]:
        array = numpy_helper.to_array(tensors[cut["initializer"]]).copy()
        assert array.shape[cut["axis"]] == cut["size"]
        if cut["role"] == "in":
            gone = np.setdiff1d(np.arange(cut["size"]), cut["kept"])
            array[(slice(None),) * cut["axis"] + (gone,)] = 0
            tensors[cut["initializer"]].CopyFrom(numpy_helper.from_array(array, cut["initializer"]))
            zeroed += gone.size
    assert zeroed > 100
    assert plan["masks"] == []
    feeds = {"image": samples(32)["image"]}
    (theirs,) = ort.InferenceSession(model.SerializeToString()).run(None, feeds)
    (ours,) = ort.InferenceSession(built / "model.onnx").run(None, feeds)
    (before,) = ort.InferenceSession(DIGITS).run(None, feeds)
    assert np.abs(ours - theirs).max() <= 1e-5 * np.abs(theirs).max()
    assert np.abs(ours - before).max() > 1e-2 * np.abs(before).max()


def test_a_forced_build_replaces_and_a_failed_one_does_not(tmp_path: Path) -> None:
    out = tmp_path / "out"
    edgec.build(DIGITS, output=out, flops=0.6, measure=None)
    first = (out / "model.onnx").read_bytes()
    with pytest.raises(edgec.EdgecError):
        edgec.build(DIGITS, output=out, force=True, flops=0.01, measure=None)
    assert (out / "model.onnx").read_bytes() == first
    edgec.build(DIGITS, output=out, force=True, flops=0.4, measure=None)
    assert (out / "model.onnx").read_bytes() != first
    assert os.listdir(tmp_path) == ["out"]


# --- every choice there is -----------------------------------------------------------------------


CHOICES = [  # all of them; in CI the repairs with one criterion, which they do not depend on
    pytest.param(*choice, marks=[pytest.mark.slow] * (choice[0] != "flap" and choice[2] != "none"))
    for choice in product(CRITERIA, ALLOCATORS, REPAIRS)
]


@pytest.mark.parametrize(("criterion", "allocator", "repair"), CHOICES)
def test_every_criterion_allocator_and_repair(criterion: str, allocator: str, repair: str) -> None:
    report = edgec.build(
        DIGITS, flops=0.5, criterion=criterion, allocator=allocator, repair=repair,
        data=samples(16), measure=None,
    )  # fmt: skip
    (budget,) = report.budgets
    assert budget.achieved is not None
    assert 0.9 * budget.bound < budget.achieved <= budget.bound
    assert (report.criterion, report.allocator) == (criterion, allocator)
    assert report.cut.worst <= report.cut.tolerance
    assert report.artifact.worst <= report.artifact.tolerance
    assert report.accuracy is not None
    assert report.accuracy.before.n == 16


def test_labels_give_accuracies_and_measuring_a_latency(tmp_path: Path) -> None:
    report = edgec.build(
        DIGITS, output=tmp_path / "out", flops=0.5, data=samples(64), measure="rapid", threads=1
    )
    assert report.accuracy is not None
    assert report.accuracy.before.value > 0.9
    assert report.latency is not None
    assert report.latency.b.p50_ms is not None
    assert report.latency.b.p50_ms > 0
    saved = document(tmp_path / "out", "report.json")
    assert saved["accuracy"]["original"]["value"] == report.accuracy.before.value
    assert saved["latency"]["result"]["threads"] == 1


@pytest.mark.parametrize("threads", [1, 2])
def test_the_session_has_the_threads_that_are_reported(
    threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if threads > (os.cpu_count() or 1):
        pytest.skip("one core")
    seen: list[int] = []
    create = ort.InferenceSession

    def record(model: Any, options: ort.SessionOptions, **rest: Any) -> ort.InferenceSession:
        seen.append(options.intra_op_num_threads)
        return create(model, options, **rest)

    monkeypatch.setattr("edgec.targets.cpu.ort.InferenceSession", record)
    edgec.build(DIGITS, flops=0.5, repair="none", threads=threads, measure=None)
    assert threads in seen


# --- real topologies -----------------------------------------------------------------------------


@pytest.mark.parametrize("flops", [0.4, 0.7])
@pytest.mark.parametrize(
    "network", [pytest.param(n, marks=[pytest.mark.slow] * (n in SLOW)) for n in light.NAMES]
)
def test_light_networks(network: str, flops: float, tmp_path: Path) -> None:
    model = light.light(network)
    report = edgec.build(model, output=tmp_path / "out", flops=flops, measure=None)
    meets(report, tmp_path / "out", model, 8)
    found = bundle.read(tmp_path / "out")
    jsonschema.validate(found.manifest, SCHEMAS["manifest"])
    jsonschema.validate(document(tmp_path / "out", "plan.json"), SCHEMAS["plan"])
    result = onnx.load(found.model)
    onnx.checker.check_model(result, full_check=True)
    assert found.manifest["result"]["flops"] == report.costs.after.flops
    known = {n.op_type for n in model.graph}
    if "LRN" in known:  # a cut LRN is spelled out over the channels that are left
        known |= {"Mul", "Pad", "Gather", "Sum", "Add", "Pow", "Div"}
    assert {n.op_type for n in result.graph.node} <= known
