"""Activation statistics against plain numpy on all samples at once, and their bounded memory."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
import pytest
from zoo import Array, model_of, run

from edgec.calibration.moments import (
    Batches,
    Moments,
    batches_of,
    consumer_moments,
    position_spread,
    runner,
    stream,
)
from edgec.calibration.patches import Window, patch_spread
from edgec.errors import UsageError

NET = """
(float[N,3,8,8] x) => (y)
<float[6,3,3,3] w1, float[6] b1, float[4,6,3,3] w2, float[4,5] w3, float[5] b3>
{
  h = Conv<pads = [1,1,1,1]>(x, w1, b1)
  r = Relu(h)
  k = Conv<strides = [2,2]>(r, w2)
  p = GlobalAveragePool(k)
  f = Flatten(p)
  y = Gemm(f, w3, b3)
}"""


@dataclass
class Samples:
    """Arrays in memory, or drawn one batch at a time."""

    arrays: Mapping[str, Array]

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    def batches(self, batch_size: int) -> Iterator[dict[str, Array]]:
        for start in range(0, len(self), batch_size):
            yield {n: a[start : start + batch_size] for n, a in self.arrays.items()}


@dataclass
class Drawn:
    """`count` samples that exist one batch at a time."""

    count: int
    shape: tuple[int, ...]

    def batches(self, batch_size: int) -> Iterator[dict[str, Array]]:
        rng = np.random.default_rng(0)
        for start in range(0, self.count, batch_size):
            size = min(batch_size, self.count - start)
            yield {"x": rng.standard_normal((size, *self.shape)).astype(np.float32)}


def normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("batch_size", [1, 7, 50])
def test_moments_do_not_depend_on_the_batches(batch_size: int) -> None:
    model, x = model_of(NET), normal(50, 3, 8, 8)
    found, _ = consumer_moments(model, Samples({"x": x}), batch_size)
    everything = next(stream(model, ["x", "r", "f"], Samples({"x": x}), 50))
    assert set(found) == {("h", 1), ("k", 1), ("y", 1)}
    for name, source in {"h": "x", "k": "r", "y": "f"}.items():
        rows = np.moveaxis(everything[source], 1, -1).reshape(-1, everything[source].shape[1])
        rows = rows.astype(np.float64)
        assert found[name, 1].count == len(rows)
        np.testing.assert_allclose(found[name, 1].mean, rows.mean(0), rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(found[name, 1].var, rows.var(0), rtol=1e-5)


@pytest.mark.parametrize("outputs", ["h", "h, last", ", last"])
def test_a_recurrent_layer_reads_its_input_and_its_own_output(outputs: str) -> None:
    result = "last" if "last" in outputs else "h"
    model = model_of(
        "(float[5,2,3] x) => (y) <float[2,12,3] w, float[2,12,4] r>"
        f'{{ {outputs} = GRU<hidden_size=4, direction="bidirectional">(x, w, r)'
        f"  y = Relu({result}) }}"
    )
    x = normal(5, 2, 3)
    found, _ = consumer_moments(model, Samples({"x": x}))
    name = outputs.split(",")[0] or "last"
    assert set(found) == {(name, 1), (name, 2)}
    np.testing.assert_allclose(found[name, 1].mean, x.mean((0, 1)), rtol=1e-5, atol=1e-7)
    (state,) = stream(model, [name], Samples({"x": x}))
    over = (0, 2) if name == "h" else (1,)
    np.testing.assert_allclose(found[name, 2].mean, state[name].mean(over).ravel(), rtol=1e-5)
    assert len(found[name, 2].var) == 8


def test_merging_keeps_a_small_variance_on_a_large_mean() -> None:
    values = 1e6 + normal(1000, 1).astype(np.float64)
    merged = Moments.of(values[:1], 1)
    for row in values[1:]:
        merged = merged.merged(Moments.of(row[None], 1))
    np.testing.assert_allclose(merged.var, values.var(0), rtol=1e-6)


def test_memory_does_not_grow_with_the_samples() -> None:
    model = model_of(NET)

    def peak(samples: int) -> int:
        tracemalloc.start()
        consumer_moments(model, Drawn(samples, (3, 8, 8)), 16)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(16)  # imports and caches
    assert peak(512) < 1.1 * peak(32)


def test_only_the_part_that_is_asked_for_runs() -> None:
    model = model_of("(float[2,3] x, float[2,3] never) => (y) { a = Relu(x)  y = Add(a, never) }")
    run_part = runner(model, ["x"], ["a", "x"])
    x = normal(2, 3)
    found = run_part({"x": x})
    np.testing.assert_array_equal(found["a"], np.maximum(x, 0))
    np.testing.assert_array_equal(found["x"], x)


def test_an_unknown_value_is_named() -> None:
    with pytest.raises(UsageError, match="nowhere"):
        runner(model_of(NET), ["x"], ["nowhere"])


def test_a_fixed_batch_is_kept_and_a_partial_one_left_out() -> None:
    model = model_of("(float[4,3] x) => (y) { y = Relu(x) }")
    sizes = [len(f["x"]) for f in batches_of(model, Samples({"x": normal(10, 3)}), 16)]
    assert sizes == [4, 4]


def test_samples_are_taken_evenly_from_all() -> None:
    model = model_of("(float[N,1] x) => (y) { y = Relu(x) }")
    x = np.arange(100, dtype=np.float32)[:, None]
    taken = np.concatenate([f["x"] for f in batches_of(model, Samples({"x": x}), 7, samples=20)])
    np.testing.assert_array_equal(taken[:, 0], np.arange(0, 100, 5))
    every = [f["x"] for f in batches_of(model, Samples({"x": x}), 7, samples=1000)]
    np.testing.assert_array_equal(np.concatenate(every), x)


class _Endless:
    def batches(self, batch_size: int) -> Iterator[dict[str, Array]]:
        while True:
            yield {"x": np.ones((batch_size, 1), np.float32)}


def test_data_without_a_length_are_read_from_the_beginning() -> None:
    model = model_of("(float[N,1] x) => (y) { y = Relu(x) }")
    data: Batches = _Endless()
    assert [len(f["x"]) for f in batches_of(model, data, 8, samples=20)] == [8, 8, 4]


@pytest.mark.parametrize(
    "attributes",
    [
        "pads = [1,1,1,1]",
        "strides = [2,3], pads = [0,1,2,1]",
        "dilations = [2,1], pads = [2,0,1,1]",
        'auto_pad = "SAME_UPPER", strides = [2,2]',
        'auto_pad = "SAME_LOWER", strides = [2,3]',
        'auto_pad = "VALID", dilations = [1,2]',
    ],
)
@pytest.mark.parametrize("group", [1, 2])
def test_patches_times_weight_is_the_convolution(attributes: str, group: int) -> None:
    model = model_of(
        f"(float[2,4,9,7] x) => (y) <float[6,{4 // group},3,2] w>"
        f"{{ y = Conv<group = {group}, {attributes}>(x, w) }}"
    )
    x = normal(2, 4, 9, 7)
    (y,) = run(model, {"x": x})
    node = model.graph[0]
    weight = model.graph.initializers["w"].const_value
    assert weight is not None
    window = Window.of(node, (3, 2), x.shape[2:])
    places = np.tile(np.arange(y[0, 0].size), (2, 1))
    rows = window.rows(x, places).reshape(len(places.ravel()), group, -1)
    matrix = weight.numpy().reshape(group, 6 // group, -1)
    found = np.einsum("rgf,gof->rgo", rows, matrix).reshape(2, y[0, 0].size, 6)
    np.testing.assert_allclose(found.transpose(0, 2, 1).reshape(y.shape), y, rtol=1e-4, atol=1e-5)


def test_position_spread_is_the_deviation_of_outputs_and_patches() -> None:
    model, x = model_of(NET), normal(20, 3, 8, 8)
    found = position_spread(model, Samples({"x": x}), 20)
    values = next(stream(model, ["h", "r", "k", "f"], Samples({"x": x}), 20))
    out = values["k"].astype(np.float64).std(0).reshape(4, -1)
    np.testing.assert_allclose(found["k"].out, out, rtol=1e-6)
    node = next(n for n in model.graph if n.outputs[0].name == "k")
    patches = Window.of(node, (3, 3), (8, 8)).patches(values["r"].astype(np.float64))
    patch = patches.std((0, 1, 4, 5)).reshape(1, -1)
    np.testing.assert_allclose(found["k"].patch, patch, rtol=1e-6)
    assert found["y"].patch == pytest.approx(values["f"].std(), rel=1e-5)


def test_patch_spread_keeps_groups_apart() -> None:
    x = np.concatenate([normal(5, 2, 6, 6), 10 * normal(5, 2, 6, 6, seed=1)], 1)
    node = ir.node("Conv", [], {"group": 2}, num_outputs=1)
    window = Window.of(node, (3, 3), (6, 6))
    found = patch_spread(x, window, 2)
    for group in range(2):
        alone = patch_spread(x[:, 2 * group : 2 * group + 2], window, 1)
        np.testing.assert_allclose(found[group], alone[0])
