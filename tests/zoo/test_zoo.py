"""The test networks themselves: valid, runnable, alive, and a function of their seed."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo import check, feeds_of, model_of, run
from zoo.exports import EXPORTS
from zoo.light import NAMES, light, light_raw_path
from zoo.patterns import PATTERNS
from zoo.random_graphs import MAX_NODES, MIN_NODES, random_model, random_text


def assert_alive(model: ir.Model) -> list[np.ndarray]:
    """Every output is finite and moves with the input by 0.1 % of its spread or more."""
    n = len(model.graph.outputs)
    outputs = run(model, feeds_of(model, 0), feeds_of(model, 1))
    assert len(outputs) == 2 * n
    here = outputs[:n]
    for a, b in zip(here, outputs[n:], strict=True):
        assert np.isfinite(a).all()
        assert np.abs(a - b).max() > 1e-3 * a.std() > 0
    return here


def assert_valid(model: ir.Model) -> None:
    """onnx.checker accepts it, with full shape inference."""
    check(model)


def weights_of(model: ir.Model) -> dict[str, bytes]:
    return {
        name: value.const_value.tobytes()
        for name, value in model.graph.initializers.items()
        if value.const_value is not None
    }


@pytest.mark.parametrize("name", PATTERNS)
def test_pattern(name: str) -> None:
    model = PATTERNS[name]()
    assert_valid(model)
    assert_alive(model)
    assert weights_of(model) == weights_of(PATTERNS[name]())


@pytest.mark.parametrize("name", EXPORTS)
def test_export(name: str) -> None:
    model = EXPORTS[name]()
    assert_valid(model)
    assert_alive(model)
    assert model is not EXPORTS[name]()


def test_exports_keep_their_batch_norms() -> None:
    for name in ("resnet18", "yolo", "cnn_dynamic_batch"):
        assert any(node.op_type == "BatchNormalization" for node in EXPORTS[name]().graph)


def test_dynamic_batch() -> None:
    model = EXPORTS["cnn_dynamic_batch"]()
    for batch in (1, 5):
        (y,) = run(model, feeds_of(model, dims={"batch": batch}))
        assert y.shape == (batch, 10)


def test_light_names_are_the_files_of_the_wheel() -> None:
    files = light_raw_path(NAMES[0]).parent.glob("light_*.onnx")
    assert sorted(f.stem.removeprefix("light_") for f in files) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_light(name: str) -> None:
    model = light(name)
    assert_valid(model)
    assert [v.name for v in model.graph.inputs if v.is_initializer()] == []
    assert not [n for n in model.graph if n.op_type == "ConstantOfShape"]
    (y,) = assert_alive(model)
    assert y.size == 1000
    if model.graph[-1].op_type == "Softmax":
        assert 1 / 1000 < y.max() < 0.99


def test_light_keeps_the_graph() -> None:
    raw = onnx.load(light_raw_path("densenet121")).graph.node
    model = light("densenet121")
    kept = [n.op_type for n in raw if n.op_type != "ConstantOfShape"]
    assert [n.op_type for n in model.graph] == kept
    assert model.opset_imports == {"": 9}


def test_light_seeds() -> None:
    first = weights_of(light("squeezenet"))
    assert first == weights_of(light("squeezenet"))
    other = weights_of(light("squeezenet", seed=1))
    assert first.keys() == other.keys()
    assert all(first[name] != other[name] for name in first)


@pytest.mark.parametrize("seed", range(24))
def test_random_model(seed: int) -> None:
    model = random_model(seed)
    assert MIN_NODES <= len(model.graph) <= MAX_NODES
    assert_valid(model)
    assert_alive(model)
    assert random_text(seed) == random_text(seed)
    assert weights_of(model) == weights_of(random_model(seed))


@pytest.mark.slow
@settings(max_examples=500, deadline=None)
@given(st.integers(0, 2**20))
def test_every_seed_runs(seed: int) -> None:
    model = random_model(seed)
    assert_valid(model)
    outputs = run(model, feeds_of(model))
    assert [y.shape for y in outputs] == [tuple(v.shape or ()) for v in model.graph.outputs]
    assert all(np.isfinite(y).all() for y in outputs)


def test_random_models_differ() -> None:
    assert len({random_text(seed) for seed in range(50)}) == 50


WEIGHTS = """
(float[1,3,4,4] x) => (y)
<float[8,3,3,3] w, float[8] s, float[8] b, float[8] m, float[8] v, int64[2] flat = {1, -1}>
{
  h = Conv(x, w)
  n = BatchNormalization(h, s, b, m, v)
  y = Reshape(n, flat)
}"""


def test_model_of_draws_weights_by_their_use() -> None:
    model = model_of(WEIGHTS, seed=3)
    values = {
        k: v.const_value.numpy() for k, v in model.graph.initializers.items() if v.const_value
    }
    assert values["flat"].tolist() == [1, -1]
    assert [v.name for v in model.graph.inputs] == ["x"]
    assert model.graph.outputs[0].shape == ir.Shape([1, 32])
    assert abs(values["w"].std() - np.sqrt(2 / 27)) < 0.05
    for name in "sv":
        assert values[name].min() >= 0.5
        assert values[name].max() <= 1.5
    for name in "bm":
        assert 0 < np.abs(values[name]).max() < 0.5
    assert weights_of(model) != weights_of(model_of(WEIGHTS, seed=4))


def test_model_of_refuses_what_it_cannot_draw() -> None:
    with pytest.raises(ValueError, match="'i': only float weights are drawn"):
        model_of("(float[2] x) => (y) <int64[2] i> { y = Gather(x, i) }")
    with pytest.raises(ValueError, match="'w': its shape must be numbers"):
        model_of("(float[2] x) => (y) <float[N] w> { y = Add(x, w) }")


def test_ids_stay_within_the_table() -> None:
    model = PATTERNS["tied_embedding"]()
    for seed in range(5):
        ids = feeds_of(model, seed)["ids"]
        assert ids.dtype == np.int64
        assert 0 <= ids.min() <= ids.max() < 11
