"""Q/DQ changes numbers by the steps of its grids and nothing else, whatever the network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from quantizing import CPU, TENSORRT, grids_of, optimised, quantised, weights_of, with_bits
from zoo import Array, feeds_of, model_of, run
from zoo.random_graphs import random_model

from edgec.calibration.grid import Grid, Scheme
from edgec.errors import UsageError
from edgec.model_opset import raise_opset
from edgec.passes.quantize.insert import insert
from edgec.passes.quantize.place import place
from edgec.passes.quantize.rules import QuantizeRules
from edgec.passes.quantize.weights import StoredWeight
from edgec.preparing import prepared


def wide(rules: QuantizeRules) -> QuantizeRules:
    """Without thresholds: nearly everything is quantised."""
    return replace(
        rules,
        min_channels=1,
        min_rows=1,
        two_activations=True,
        channel_multiple=1,
        depthwise=True,
        grouped_kernel=1,
        square_kernels=False,
        keep_last=False,
    )


RULES: Mapping[str, QuantizeRules] = {"cpu": wide(CPU), "tensorrt": wide(TENSORRT)}


def decibels(real: list[Array], rounded: list[Array]) -> float:
    """Signal to noise of the worst output."""
    noise = [np.square(a - b).sum() for a, b in zip(real, rounded, strict=True)]
    signal = [np.square(a).sum() for a in real]
    ratios = [max(s, 1e-30) / max(n, 1e-30) for s, n in zip(signal, noise, strict=True)]
    return float(10 * np.log10(min(ratios)))


def check_steps(seed: int, rules: QuantizeRules, path: Path) -> None:
    """A step has 1/256 of the size with 16 bits: 48 decibels less noise, and none but noise."""
    model = prepared(random_model(seed))
    feeds = feeds_of(model)
    real = run(model, feeds)
    coarse, placement = quantised(model, rules, feeds)
    # int32 has no room for biases on the grid of two factors of 16 bits.
    fine = replace(with_bits(rules, 16), bias=False, rounds_floats=False)
    newer = raise_opset(model, 21)
    few, many = run(coarse, feeds), run(quantised(newer, fine, feeds)[0], feeds)
    assert placement.points or decibels(real, few) > 120
    assert decibels(real, few) > 12
    assert decibels(real, many) > 60
    _, fused = optimised(coarse, str(path / "optimised.onnx"))
    # Kernels round in other places: at most half as much noise as the steps make, or a step of 1%.
    assert decibels(few, fused) > min(decibels(real, few) + 3, 40)


@pytest.mark.parametrize("rules", RULES.values(), ids=RULES)
@pytest.mark.parametrize("seed", range(20))
def test_noise_goes_with_the_step(seed: int, rules: QuantizeRules, tmp_path: Path) -> None:
    check_steps(seed, rules, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("rules", RULES.values(), ids=RULES)
@pytest.mark.parametrize("seed", range(20, 200))
def test_noise_goes_with_the_step_slow(seed: int, rules: QuantizeRules, tmp_path: Path) -> None:
    check_steps(seed, rules, tmp_path)


BLOCK = """(float[1,8,4,4] x) => (y) <float[8,8,1,1] w, float[8] b, float[8,8,1,1] v> {
  a = Conv(x, w, b)
  r = Relu(a)
  y = Conv(r, v) }"""


def ready(text: str = BLOCK) -> tuple[ir.Model, dict[str, Grid], dict[str, StoredWeight]]:
    model = model_of(text)
    placement = place(model, CPU)
    return model, grids_of(model, placement, feeds_of(model)), weights_of(model, placement)


def test_data_on_the_grid_come_back_exactly() -> None:
    """Integers with step 1 everywhere: nothing is rounded, so nothing changes."""
    text = "(float[1,8] x) => (y) <float[8,8] w, float[8] b> { y = Gemm(x, w, b) }"
    model = model_of(text)
    rng = np.random.default_rng(0)
    for name, shape in (("w", (8, 8)), ("b", (8,))):
        whole = rng.integers(-9, 9, shape).astype(np.float32)
        model.graph.initializers[name].const_value = ir.tensor(whole, name=name)
    feeds = {"x": rng.integers(-100, 100, (1, 8)).astype(np.float32)}
    expected = run(model, feeds)
    x = Grid.of_range(CPU.activations, -128, 127)
    w = Grid(CPU.weights, np.ones(8, np.float32), np.zeros(8, np.int64), 1)
    tensor = model.graph.initializers["w"].const_value
    assert tensor is not None
    placement = place(model, CPU)
    insert(model, placement, {"x": x}, {"w": StoredWeight.of(tensor.numpy(), w)})
    np.testing.assert_array_equal(run(model, feeds)[0], expected[0])


def test_weights_are_stored_in_their_bytes() -> None:
    model, grids, weights = ready()
    insert(model, place(model, CPU), grids, weights)
    kinds = {n: v.dtype for n, v in model.graph.initializers.items() if v.const_value is not None}
    assert {n for n, kind in kinds.items() if kind == ir.DataType.INT8} == {
        "w.q", "w.zero", "v.q", "v.zero",
    }  # fmt: skip
    assert kinds["b.q"] == ir.DataType.INT32
    assert not {"w", "b", "v"} & set(kinds)


def test_inputs_and_outputs_keep_their_names() -> None:
    model, grids, weights = ready()
    insert(model, place(model, CPU), grids, weights)
    assert [v.name for v in (*model.graph.inputs, *model.graph.outputs)] == ["x", "y"]


def test_a_bias_that_is_large_for_its_channel_keeps_its_value() -> None:
    """On the grid of a channel of tiny weights it would not fit into int32."""
    model = model_of(BLOCK)
    tensor = model.graph.initializers["w"].const_value
    assert tensor is not None
    tiny = tensor.numpy().copy()
    tiny[2] *= 1e-12
    tiny[5] = 0
    model.graph.initializers["w"].const_value = ir.tensor(tiny, name="w")
    feeds = feeds_of(model)
    result, _ = quantised(model, CPU, feeds)
    assert decibels(run(model, feeds), run(result, feeds)) > 30


def test_four_bits() -> None:
    rules = replace(CPU, weights=Scheme(4), bias=False, rounds_floats=False)
    model = raise_opset(model_of(BLOCK), 21)
    feeds = feeds_of(model)
    result, _ = quantised(model, rules, feeds)
    assert result.graph.initializers["w.q"].dtype == ir.DataType.INT4
    assert decibels(run(model, feeds), run(result, feeds)) > 10


def test_names_that_are_taken() -> None:
    model = model_of(BLOCK)
    next(n for n in model.graph if n.op_type == "Relu").outputs[0].name = "x.q"
    feeds = feeds_of(model)
    result, _ = quantised(model, CPU, feeds)
    assert decibels(run(model, feeds), run(result, feeds)) > 20


@pytest.mark.parametrize("missing", ["x", "w"])
def test_what_has_no_grid_is_refused(missing: str) -> None:
    model, grids, weights = ready()
    grids.pop(missing, None)
    weights.pop(missing, None)
    with pytest.raises(UsageError, match=f"'{missing}': has no grid"):
        insert(model, place(model, CPU), grids, weights)
