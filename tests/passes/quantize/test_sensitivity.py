"""The scan: damages are those of the rounded models, and a killed one goes on where it stopped."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from zoo import model_of, run
from zoo.patterns import PATTERNS

from edgec.calibration.data import Data, load_data
from edgec.calibration.grid import Grid, Scheme
from edgec.errors import UnsupportedError, UsageError, VerificationError
from edgec.feeds import input_types
from edgec.graph.channels import channel_groups
from edgec.graph.mask import masked_model
from edgec.model import copied, save
from edgec.passes.prune.allocate import options_of
from edgec.passes.prune.criteria import Evidence, scored
from edgec.passes.quantize.importance import RATES
from edgec.passes.quantize.placement import Placement, Point, Weight
from edgec.passes.quantize.rules import QuantizeRules
from edgec.passes.quantize.sensitivity import METHODS, Scan, scan
from edgec.targets import load_profile

TEXT = """(float[N,3,8,8] x) => (float[N,10] y)
<float[16,3,3,3] k1, float[16] b1, float[16,16,3,3] k2, float[16] b2, float[16,10] w, float[10] b>
{
  c1 = Conv<pads = [1,1,1,1]>(x, k1, b1)  r1 = Relu(c1)
  c2 = Conv<pads = [1,1,1,1]>(r1, k2, b2)  s = Add(c2, r1)  r2 = Relu(s)
  p = GlobalAveragePool(r2)  f = Flatten(p)  y = Gemm(f, w, b)
}"""
X = np.random.default_rng(0).standard_normal((40, 3, 8, 8)).astype(np.float32)
LABELS = np.random.default_rng(1).integers(0, 10, 40)


def network(text: str = TEXT) -> ir.Model:
    model = model_of(text)
    for node in model.graph:
        node.name = node.outputs[0].name
    return model


def rules() -> QuantizeRules:
    found = load_profile("cpu").quantize
    assert found is not None
    return found


RULES = rules()
PLACEMENT = Placement(
    (Point("x", (("c1", 0),)), Point("r1", (("c2", 0),)), Point("f", (("y", 0),))),
    (Weight("k1", (("c1", 1),), 0), Weight("k2", (("c2", 1),), 0), Weight("w", (("y", 1),), 1)),
    (),
    {},
    RULES,
)


def samples(model: ir.Model, x: np.ndarray = X, labels: np.ndarray | None = None) -> Data:
    arrays = {"x": x} if labels is None else {"x": x, "labels": labels}
    return load_data(arrays, input_types(model))


def array(model: ir.Model, name: str) -> np.ndarray:
    tensor = model.graph.initializers[name].const_value
    assert tensor is not None
    return np.asarray(tensor.numpy())


def rounded(model: ir.Model, weight: Weight, bits: int) -> ir.Model:
    """Its weight rounded, the plain way."""
    made = copied(model)
    w = array(model, weight.initializer)
    axes = tuple(a for a in range(w.ndim) if a != weight.axis)
    step = np.abs(w).max(axes, keepdims=True) / (2 ** (bits - 1) - 1)
    new = (np.rint(w / step) * step).astype(np.float32)
    made.graph.initializers[weight.initializer].const_value = ir.tensor(new)
    return made


def noise(a: np.ndarray, b: np.ndarray) -> float:
    return float(((a - b).astype(np.float64) ** 2).sum() / (a.astype(np.float64) ** 2).sum())


def found(result: Scan) -> dict[tuple[str, int], float]:
    return {(r.layer, r.bits): r.damage for r in result.rows}


def test_damage_is_that_of_the_rounded_model() -> None:
    model = network()
    result = scan(model, PLACEMENT, samples(model), bits=(8, 4), metric="error")
    (target,) = run(model, {"x": X})
    rows = found(result)
    assert len(rows) == 6
    for weight in PLACEMENT.weights:
        for bits in (8, 4):
            (outputs,) = run(rounded(model, weight, bits), {"x": X})
            expected = noise(target, outputs)
            assert rows[weight.readers[0][0], bits] == pytest.approx(expected, rel=0.02)
    damages = [r.damage for r in result.rows]
    assert damages == sorted(damages, reverse=True)
    assert (result.silent, result.resumed) == ({}, 0)


def test_divergence_and_points() -> None:
    model = network()
    (target,) = run(model, {"x": X})
    kl = found(scan(model, PLACEMENT, samples(model), bits=(4,), metric="kl"))
    top1 = found(scan(model, PLACEMENT, samples(model, labels=LABELS), bits=(4,), metric="top1"))
    for weight in PLACEMENT.weights:
        (outputs,) = run(rounded(model, weight, 4), {"x": X})
        logs = [y - np.log(np.exp(y).sum(1, keepdims=True)) for y in (target, outputs)]
        expected = float((np.exp(logs[0]) * (logs[0] - logs[1])).sum(1).mean())
        layer = weight.readers[0][0]
        assert kl[layer, 4] == pytest.approx(expected, rel=0.05, abs=1e-7)
        right = [(y.argmax(1) == LABELS).mean() for y in (target, outputs)]
        assert top1[layer, 4] == pytest.approx(right[0] - right[1], abs=1e-9)


def test_inputs_are_rounded_where_they_have_a_grid() -> None:
    model = network()
    grids = {"r1": Grid.of_range(Scheme(8, False, False), 0.0, 1.0)}
    rows = found(scan(model, PLACEMENT, samples(model), bits=(8,), grids=grids))
    plain = found(scan(model, PLACEMENT, samples(model), bits=(8,)))
    assert rows["c2", 8] > 10 * plain["c2", 8]
    assert rows["c1", 8] == plain["c1", 8]
    made = rounded(model, PLACEMENT.weights[1], 8)
    parts = [run(_cut(model, "r1"), {"x": X})[0]]
    (target,) = run(model, {"x": X})
    fed = ir.from_proto(ir.to_proto(made))
    _feed(fed, "r1", "c2")
    (outputs,) = run(fed, {"x": X, "clipped": grids["r1"].rounded(parts[0])})
    assert rows["c2", 8] == pytest.approx(noise(target, outputs), rel=0.02)


def _cut(model: ir.Model, name: str) -> ir.Model:
    made = copied(model)
    value = next(v for n in made.graph for v in n.outputs if v.name == name)
    value.type, value.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape([None] * 4)
    made.graph.outputs[:] = [value]
    return made


def _feed(model: ir.Model, value: str, reader: str) -> None:
    """Lets one node read a new input instead of a value."""
    new = ir.val("clipped", ir.DataType.FLOAT, [None, 16, 8, 8])
    model.graph.inputs.append(new)
    (node,) = [n for n in model.graph if n.name == reader]
    assert node.inputs[0] is not None
    assert node.inputs[0].name == value
    node.replace_input_with(0, new)


# --- orders of importance ------------------------------------------------------------------------


def weight_noise(model: ir.Model, weight: Weight, bits: int) -> float:
    return noise(
        array(model, weight.initializer),
        array(rounded(model, weight, bits), weight.initializer),
    )


def test_zd_counts_outliers() -> None:
    model = network()
    rows = found(scan(model, PLACEMENT, None, bits=(4,), method="zd"))
    for weight in PLACEMENT.weights:
        w = array(model, weight.initializer)
        share = float(((w - w.mean()) / w.std() > 1).mean())
        expected = (1 - share) * weight_noise(model, weight, 4)
        assert rows[weight.readers[0][0], 4] == pytest.approx(expected, rel=1e-3)


def test_lim_is_the_cosine_over_the_residual_block() -> None:
    model = network()
    result = scan(model, PLACEMENT, samples(model), bits=(4,), method="lim")
    (r1,), (s,) = (run(_cut(model, name), {"x": X}) for name in ("r1", "s"))
    dots = (r1 * s).sum(1) / np.sqrt((r1**2).sum(1) * (s**2).sum(1))
    expected = (1 - float(dots.mean())) * weight_noise(model, PLACEMENT.weights[1], 4)
    assert found(result).keys() == {("c2", 4)}
    assert found(result)["c2", 4] == pytest.approx(expected, rel=1e-3)
    assert result.silent.keys() == {"c1", "y"}
    assert "no residual block" in result.silent["c1"]


def test_prune_slope_is_that_of_masked_models() -> None:
    model = network()
    result = scan(model, PLACEMENT, samples(model), bits=(4,), method="prune-slope")
    groups = channel_groups(model)
    (group,) = groups.groups
    assert (group.width, set(result.silent)) == (16, {"y"})
    assert "graph output" in result.silent["y"]
    (target,) = run(model, {"x": X})
    scores, _ = scored("l2", Evidence(groups, np.random.default_rng(0)))
    (options,) = options_of(groups, scores, 1)
    slopes = []
    for rate in RATES:
        lost = round(rate * group.depth)
        alive = np.ones(groups.units, bool)
        alive[options.removed(lost)] = False
        (outputs,) = run(masked_model(groups, alive), {"x": X})
        slopes.append((lost / 16, noise(target, outputs)))
    slope = sum(r * d for r, d in slopes) / sum(r * r for r, _ in slopes)
    for weight in PLACEMENT.weights[:2]:
        expected = slope * weight_noise(model, weight, 4)
        assert found(result)[weight.readers[0][0], 4] == pytest.approx(expected, rel=0.02)


# --- going on ------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_nothing_is_computed_twice(method: str, tmp_path: Path) -> None:
    model = network()
    options: dict[str, Any] = {"method": method, "resume": str(tmp_path / "scan.jsonl")}
    first = scan(model, PLACEMENT, samples(model), **options)
    lines = (tmp_path / "scan.jsonl").read_text()
    second = scan(model, PLACEMENT, samples(model), **options)
    assert (tmp_path / "scan.jsonl").read_text() == lines
    assert second.resumed == len(lines.splitlines())
    assert second.rows == first.rows


def test_another_model_other_data_or_options_are_another_result(tmp_path: Path) -> None:
    path = str(tmp_path / "scan.jsonl")
    model = network()
    scan(model, PLACEMENT, samples(model), bits=(8,), resume=path)
    other = network()
    other.graph.initializers["b1"].const_value = ir.tensor(np.ones(16, np.float32))
    assert scan(other, PLACEMENT, samples(other), bits=(8,), resume=path).resumed == 0
    assert scan(model, PLACEMENT, samples(model, X[:20]), bits=(8,), resume=path).resumed == 0
    for options in ({"bits": (4,)}, {"metric": "kl"}, {"samples": 8}, {"fit": "slim"}):
        given: dict[str, Any] = {"bits": (8,), **options}
        assert scan(model, PLACEMENT, samples(model), resume=path, **given).resumed == 0
    assert scan(model, PLACEMENT, samples(model), bits=(8, 4), resume=path).resumed == 6


PROGRAM = """
import sys
from edgec.calibration.data import load_data
from edgec.feeds import input_types
from edgec.model import load
from edgec.passes.quantize.placement import Placement, Weight
from edgec.passes.quantize.sensitivity import scan
from edgec.targets import load_profile

model, data, path = sys.argv[1:]
net = load(model)
layers = tuple(Weight(n.inputs[1].name, ((n.name, 1),), 1) for n in net.graph)
rules = load_profile("cpu").quantize
data = load_data(data, input_types(net))
scan(net, Placement((), layers, (), {}, rules), data, resume=path)
"""


def test_a_killed_scan_goes_on(tmp_path: Path) -> None:
    """kill -9 after the first results; the second run computes the others alone."""
    depth, width = 24, 256
    lines = [f"h{i + 1} = MatMul(h{i}, w{i})" for i in range(depth)]
    weights = ", ".join(f"float[{width},{width}] w{i}" for i in range(depth))
    model = network(
        f"(float[N,{width}] h0) => (float[N,{width}] h{depth}) <{weights}> {{ {' '.join(lines)} }}"
    )
    save(model, tmp_path / "net.onnx")
    h0 = np.random.default_rng(0).standard_normal((4096, width)).astype(np.float32)
    np.savez(tmp_path / "data.npz", h0=h0)
    path = tmp_path / "scan.jsonl"
    files = [str(tmp_path / name) for name in ("net.onnx", "data.npz")]
    program = [sys.executable, "-c", PROGRAM, *files]
    root = Path(__file__).parents[3]
    started = subprocess.Popen([*program, str(path)], cwd=root)
    deadline = time.monotonic() + 120
    while not path.exists() or path.read_bytes().count(b"\n") < 3:
        assert started.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.002)
    os.kill(started.pid, signal.SIGKILL)
    assert started.wait() == -signal.SIGKILL
    before = path.read_text()
    known = before.count("\n")
    assert 3 <= known < 2 * depth
    whole = before[: before.rfind("\n") + 1]
    subprocess.run([*program, str(path)], cwd=root, check=True)
    after = path.read_text()
    assert after.startswith(whole)
    rows = [json.loads(line) for line in after.splitlines()]
    assert len(rows) == len({row["key"] for row in rows}) == 2 * depth
    assert {(r["layer"], r["bits"]) for r in rows} == {
        (f"h{i + 1}", bits) for i in range(depth) for bits in (8, 4)
    }
    subprocess.run(
        [*program, str(tmp_path / "straight.jsonl")], cwd=Path(__file__).parents[3], check=True
    )
    straight = [json.loads(s) for s in (tmp_path / "straight.jsonl").read_text().splitlines()]
    assert {r["key"]: r["value"] for r in rows} == {r["key"]: r["value"] for r in straight}


# --- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"bits": (5,)}, "5 is no width that ONNX stores"),
        ({"bits": ()}, "is empty"),
        ({"method": "outptu"}, "did you mean 'output'"),
        ({"fit": "best"}, "weight method 'best'"),
        ({"metric": "top1"}, "has no labels"),
        ({"metric": "no.module:f"}, "cannot be imported"),
    ],
)
def test_wrong_options(options: dict[str, Any], words: str) -> None:
    model = network()
    with pytest.raises(UsageError, match=words) as raised:
        scan(model, PLACEMENT, samples(model), **options)
    assert raised.value.remedy


def test_no_samples_no_layers_no_numbers() -> None:
    model = network()
    with pytest.raises(UsageError, match="needs samples"):
        scan(model, PLACEMENT, None)
    empty = Placement((), (), (), {"c1": "3 → 16 channels"}, RULES)
    with pytest.raises(UnsupportedError, match="3 → 16 channels"):
        scan(model, empty, samples(model))
    with pytest.raises(VerificationError, match="output 'y': is not finite"):
        scan(model, PLACEMENT, samples(model, X * np.float32(7e37)))


def test_kl_wants_classes() -> None:
    model = model_of("(float[N,4] x) => (a, b) <float[4,4] w> { a = MatMul(x, w) b = Relu(a) }")
    for node in model.graph:
        node.name = node.outputs[0].name
    placement = Placement((), (Weight("w", (("a", 1),), 1),), (), {}, RULES)
    with pytest.raises(UsageError, match=r"needs one output \[samples, classes\]"):
        scan(model, placement, samples(model, X[:, 0, 0, :4]), metric="kl")


def test_patterns_of_all_kinds_can_be_scanned() -> None:
    """Damages are finite and 8 bits do less than 4, whatever the network."""
    for name in ("residual_chain", "c2f", "densenet_concat_chain"):
        model = PATTERNS[name]()
        weights = []
        for node in model.graph:
            node.name = node.name or node.outputs[0].name
            if node.op_type == "Conv":
                assert node.inputs[1] is not None
                weights.append(Weight(node.inputs[1].name or "", ((node.name or "", 1),), 0))
        (value,) = model.graph.inputs
        assert value.shape is not None
        shape = [d if isinstance(d, int) else 4 for d in value.shape]
        x = np.random.default_rng(0).standard_normal((4, *shape[1:])).astype(np.float32)
        data = load_data({value.name or "": x}, input_types(model))
        rows = found(scan(model, Placement((), tuple(weights), (), {}, RULES), data))
        assert len(rows) == 2 * len(weights)
        for weight in weights:
            layer = weight.readers[0][0]
            assert 0 < rows[layer, 8] < rows[layer, 4] < math.inf
