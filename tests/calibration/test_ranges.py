"""Observation of real networks against plain numpy on all values, and what is refused."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
import pytest
from zoo import Array, feeds_of, model_of
from zoo.patterns import PATTERNS

from edgec.calibration import ranges
from edgec.calibration.grid import SMALLEST_SCALE, Grid, Scheme
from edgec.calibration.histogram import Histogram
from edgec.calibration.moments import batches_of, stream
from edgec.calibration.observers import OBSERVERS
from edgec.calibration.ranges import observe, ranges_of, remarks
from edgec.errors import EdgecError, UsageError

NET = """
(float[N,3,20,20] x) => (y)
<float[6,3,3,3] w1, float[6] b1, float[4,6,3,3] w2, float[4,5] w3, float[5] b3>
{
  h = Conv<pads = [1,1,1,1]>(x, w1, b1)
  r = Relu(h)
  k = Conv<strides = [2,2]>(r, w2)
  p = GlobalAveragePool(k)
  f = Flatten(p)
  y = Gemm(f, w3, b3)
}"""
NAMES = ["x", "h", "r", "k", "f", "y"]
UINT8 = Scheme(8, False, False)


@dataclass
class Samples:
    """Arrays in memory."""

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

    def __len__(self) -> int:
        return self.count

    def batches(self, batch_size: int) -> Iterator[dict[str, Array]]:
        rng = np.random.default_rng(0)
        for start in range(0, self.count, batch_size):
            shape = (min(batch_size, self.count - start), 3, 20, 20)
            yield {"x": rng.standard_normal(shape).astype(np.float32)}


def normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def everything(model: ir.Model, names: list[str], data: Samples) -> dict[str, Array]:
    (values,) = stream(model, names, data, len(data))
    return values


@pytest.mark.parametrize("opset", [9, 11, 13, 17, 18, 21, 24])
@pytest.mark.parametrize("batch_size", [None, 1, 7])
def test_ends_are_exact_and_bins_hold_all_values_of_small_tensors(
    opset: int, batch_size: int | None
) -> None:
    model, data = model_of(NET, opset=opset), Samples({"x": normal(20, 3, 20, 20)})
    found = observe(model, NAMES, data, batch_size=batch_size)
    assert list(found) == NAMES
    for name, values in everything(model, NAMES, data).items():
        seen, expected = found[name], Histogram.of(values)
        assert (seen.total, seen.samples) == (values.size, 20)
        assert seen.sampled == values.size  # none has more than are taken
        # a batch of another size may round its sums in another order
        for field in ("least", "greatest", "mean", "std", "moving"):
            a, b = getattr(seen, field), getattr(expected, field)
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6, err_msg=f"{name} {field}")
        assert abs(seen.counts - expected.counts).sum() < 0.01 * values.size


def test_large_tensors_are_sampled_evenly_and_their_ends_stay_exact(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ranges, "_VALUES", 1)  # take as few as it ever does
    model, data = model_of(NET), Samples({"x": normal(200, 3, 20, 20)})
    found = observe(model, ["x", "r", "k"], data, batch_size=3)
    for name, values in everything(model, ["x", "r", "k"], data).items():
        seen, flat = found[name], values.astype(np.float64)
        assert seen.total == values.size
        assert seen.least == pytest.approx(values.min(), rel=1e-5)
        assert seen.greatest == pytest.approx(values.max(), rel=1e-5)
        if name != "k":
            assert seen.sampled < 0.8 * values.size
        noise = flat.std() / np.sqrt(seen.sampled)
        assert seen.mean == pytest.approx(flat.mean(), abs=4 * noise)
        assert seen.std == pytest.approx(flat.std(), rel=0.02)
        for percent in (1, 50, 99):
            below = np.concatenate([[0], np.cumsum(seen.counts)]) / (seen.sampled - seen.zeros)
            quantile = np.percentile(flat[flat != 0], percent)
            assert np.interp(quantile, seen.edges, below) == pytest.approx(percent / 100, abs=0.01)
        assert seen.zeros / seen.sampled == pytest.approx((flat == 0).mean(), abs=0.01)


def test_every_place_of_a_large_tensor_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Channels are constants here, one to each: all of them must turn up."""
    monkeypatch.setattr(ranges, "_VALUES", 1)
    model = model_of(
        "(float[N,1,7,7] x) => (y) <float[500,1,1,1] w> { h = Conv(x, w)  y = Relu(h) }"
    )
    w = np.arange(1, 501, dtype=np.float32).reshape(500, 1, 1, 1)
    model.graph.initializers["w"].const_value = ir.tensor(w)
    found = observe(model, ["h"], Samples({"x": np.ones((64, 1, 7, 7), np.float32)}), batch_size=1)
    centres = np.flatnonzero(found["h"].counts)
    assert len(np.unique(((centres + found["h"].first) * found["h"].width).round())) == 500
    shares = found["h"].counts[found["h"].counts > 0] / found["h"].sampled
    np.testing.assert_allclose(shares, 1 / 500, rtol=0.5)


def test_the_model_is_left_as_it_was() -> None:
    model = model_of(NET)
    before = ir.to_proto(model).SerializeToString()
    observe(model, NAMES, Samples({"x": normal(5, 3, 20, 20)}))
    assert ir.to_proto(model).SerializeToString() == before


def test_what_is_found_does_not_depend_on_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    model, data = model_of(NET), Samples({"x": normal(50, 3, 20, 20)})
    found = []
    for cores in (1, 3):
        monkeypatch.setattr(ranges, "_cores", lambda cores=cores: cores)
        found.append(observe(model, NAMES, data, batch_size=4))
    for name in NAMES:
        np.testing.assert_array_equal(found[0][name].counts, found[1][name].counts)
        np.testing.assert_array_equal(found[0][name].moving, found[1][name].moving)


def test_memory_does_not_grow_with_the_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "_HELD_BYTES", 1 << 19)  # reached by the fewer samples too
    model = model_of(NET)

    def peak(samples: int) -> int:
        tracemalloc.start()
        observe(model, NAMES, Drawn(samples), batch_size=4)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(4)  # imports and caches
    assert peak(512) < 1.2 * peak(64)


def test_a_fixed_batch_a_scalar_and_a_tensor_without_a_batch_axis() -> None:
    model = model_of(
        "(float[4,6,8] x) => (y) <float[8,3] w>"
        "{ t = Transpose<perm = [1,0,2]>(x)  m = MatMul(t, w)"
        "  s = ReduceMax<keepdims = 0>(m)  y = Mul(m, s) }"
    )
    data = Samples({"x": normal(12, 6, 8)})
    found = observe(model, ["t", "m", "s", "y"], data)
    batches = list(stream(model, ["t", "m", "s", "y"], data, 4))
    for name in ("t", "m", "s", "y"):
        values = [np.atleast_1d(batch[name]) for batch in batches]
        assert found[name].total == sum(v.size for v in values)
        assert found[name].greatest == pytest.approx(max(v.max() for v in values), rel=1e-5)


def test_shapes_that_only_running_tells() -> None:
    model = model_of(
        "(float[N,8] x) => (y)"
        "{ kept = NonZero(x)  t = Transpose(kept)  g = GatherND(x, t)  y = Relu(g) }"
    )
    data = Samples({"x": np.abs(normal(6, 8)) + 1})
    found = observe(model, ["g", "y"], data)
    assert found["g"].greatest == pytest.approx(data.arrays["x"].max())


def test_halves_are_observed_too() -> None:
    model = model_of("(float16[N,5] x) => (y) { h = Sqrt(x)  y = Neg(h) }")
    data = Samples({"x": np.abs(normal(30, 5)).astype(np.float16)})
    found = observe(model, ["h", "y"], data)
    values = everything(model, ["h"], data)["h"].astype(np.float32)
    ends = (found["h"].least, found["h"].greatest)
    assert ends == pytest.approx((values.min(), values.max()), rel=1e-3)


@pytest.mark.parametrize("opset", [13, 20])
def test_means_of_channels_are_those_of_all_values(opset: int) -> None:
    model, data = model_of(NET, opset=opset), Samples({"x": normal(21, 3, 20, 20)})
    found = observe(model, NAMES, data, channels={"x": 1, "r": 1, "k": -3, "f": -1})
    values = everything(model, NAMES, data)
    for name in ("x", "r", "k"):
        mean = values[name].mean((0, 2, 3))
        np.testing.assert_allclose(found[name].channels, mean, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found["f"].channels, values["f"].mean(0), rtol=1e-4, atol=1e-6)
    assert found["h"].channels.size == 0


def test_only_some_samples_are_asked_for() -> None:
    x = np.arange(100, dtype=np.float32)[:, None]
    model = model_of("(float[N,1] x) => (y) { y = Relu(x) }")
    found = observe(model, ["x"], Samples({"x": x}), samples=20)
    assert (found["x"].samples, found["x"].greatest) == (20, 95)
    assert not observe(model, [], Samples({"x": x}))


@pytest.mark.parametrize("name", sorted(PATTERNS))
def test_every_pattern_of_the_zoo_is_observed(name: str) -> None:
    model = PATTERNS[name]()
    names = [
        v.name
        for node in model.graph
        for v in node.outputs
        if v.name and v.dtype is ir.DataType.FLOAT
    ]
    feeds = feeds_of(model)
    if not list(batches_of(model, _Once(feeds), 1)):  # axis 0 of its inputs is no batch axis
        with pytest.raises(UsageError, match="full batch"):
            observe(model, names, _Once(feeds))
        return
    found = observe(model, names, _Once(feeds))
    (values,) = stream(model, names, _Once(feeds), 1)
    for value, array in values.items():
        assert found[value].least == pytest.approx(array.min(), rel=1e-4, abs=1e-5)
        assert found[value].greatest == pytest.approx(array.max(), rel=1e-4, abs=1e-5)
        assert found[value].total == array.size


@dataclass
class _Once:
    feeds: Mapping[str, Array]

    def batches(self, batch_size: int) -> Iterator[Mapping[str, Array]]:
        yield self.feeds


# --- ranges ------------------------------------------------------------------------------------


def observed() -> dict[str, Histogram]:
    return observe(model_of(NET), NAMES, Samples({"x": normal(32, 3, 20, 20)}))


def test_grids_of_minmax_span_the_values() -> None:
    found = observed()
    for name, grid in ranges_of(found, "minmax", UINT8).items():
        expected = Grid.of_range(UINT8, found[name].least, found[name].greatest)
        assert (grid.scale, grid.zero) == (expected.scale, expected.zero)


def test_tied_tensors_share_a_grid_that_spans_all_of_them() -> None:
    found = observed()
    free = ranges_of(found, "mse", UINT8)
    tied = ranges_of(found, "mse", UINT8, [frozenset({"x", "r"})])
    assert (tied["x"].scale, tied["x"].zero) == (tied["r"].scale, tied["r"].zero)
    assert tied["h"].scale == free["h"].scale
    low, high = tied["x"].ends()
    step = tied["x"].scale
    for name in ("x", "r"):
        assert low <= free[name].ends()[0] + step
        assert high >= free[name].ends()[1] - step


def test_a_dead_tensor_gets_the_smallest_scale_and_a_remark() -> None:
    model = model_of(
        "(float[N,4] x) => (y) { a = Abs(x)  n = Neg(a)  dead = Relu(n)  y = Exp(dead) }"
    )
    found = observe(model, ["n", "dead", "y"], Samples({"x": normal(16, 4)}))
    for observer in OBSERVERS:
        for scheme in (UINT8, Scheme()):
            grids = ranges_of(found, observer, scheme)
            assert grids["dead"].scale == np.float32(SMALLEST_SCALE)
            assert grids["y"].rounded(np.ones(1, np.float32)) == pytest.approx(1, rel=0.01)
    assert remarks(found) == {
        "dead": "is always 0",
        "y": "is always 1",
    }


# --- what is refused ---------------------------------------------------------------------------


def message(error: pytest.ExceptionInfo[EdgecError]) -> str:
    return str(error.value)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("rr", "activation 'rr': is no tensor of the model\n  did you mean 'r'? name what"),
        ("w1", "activation 'w1': is a weight"),
    ],
)
def test_wrong_names_are_refused(name: str, text: str) -> None:
    with pytest.raises(UsageError) as error:
        observe(model_of(NET), ["h", name], Samples({"x": normal(4, 3, 20, 20)}))
    assert text in message(error)


def test_integers_are_refused() -> None:
    model = model_of("(int64[N] x) => (y) { y = Abs(x) }")
    with pytest.raises(UsageError, match="activation 'y': holds int64, which has no range"):
        observe(model, ["y"], Samples({"x": np.arange(4)}))


@pytest.mark.parametrize("row", [0, 13])
def test_nan_is_traced_to_the_node_that_makes_it(row: int) -> None:
    model = model_of(
        "(float[N,4] x) => (y) { a = Identity(x)  b = Sqrt(a)  c = Add(b, x)  y = Relu(c) }"
    )
    x = np.abs(normal(16, 4)) + 1
    x[row, 2] = -1
    with pytest.raises(UsageError) as error:
        observe(model, ["a", "c"], Samples({"x": x}))
    assert message(error).startswith("activation 'c': holds NaN: Sqrt")
    assert "makes it first, from finite inputs, as 'b'" in message(error)
    # Sqrt's own output may be left alone: a is finite
    assert observe(model, ["a"], Samples({"x": x}))["a"].least == -1


def test_an_infinity_that_comes_from_a_weight_is_traced_to_it() -> None:
    model = model_of("(float[N,3] x) => (y) <float[3] w = {1, 2, 3}> { a = Mul(x, w)  y = Neg(a) }")
    w = np.asarray([1, np.inf, 2], np.float32)
    model.graph.initializers["w"].const_value = ir.tensor(w)
    with pytest.raises(UsageError, match=r"'y': holds an infinity: Mul .* the weight 'w', as 'a'"):
        observe(model, ["y"], Samples({"x": np.ones((4, 3), np.float32)}))


def test_a_mean_that_overflows_is_no_infinity() -> None:
    model = model_of("(float[N,4] x) => (y) { y = Neg(x) }")
    x = np.full((8, 4), 3e38, np.float32)
    assert observe(model, ["y"], Samples({"x": x}))["y"].least == np.float32(-3e38)


def test_too_few_samples_are_refused_where_a_distribution_is_asked_for() -> None:
    found = observe(model_of(NET), NAMES, Samples({"x": normal(7, 3, 20, 20)}))
    for name, observer in OBSERVERS.items():
        if observer.samples == 1:
            assert ranges_of(found, name, UINT8)
            continue
        with pytest.raises(UsageError) as error:
            ranges_of(found, name, UINT8)
        assert message(error).startswith(
            f"observer '{name}': needs 8 samples, and has seen 7 of 'x'\n  give more samples"
        )


def test_a_batch_that_is_never_full_is_refused() -> None:
    model = model_of("(float[4,3] x) => (y) { y = Relu(x) }")
    with pytest.raises(UsageError, match="hold no full batch"):
        observe(model, ["y"], Samples({"x": normal(3, 3)}))


def test_an_observer_that_saw_nothing_says_so() -> None:
    with pytest.raises(UsageError, match="activation 'h': was never seen with data"):
        ranges_of({"h": Histogram.empty()}, "minmax", UINT8)


def test_values_that_are_not_finite_have_no_range() -> None:
    found = Histogram.of(np.asarray([[1, np.inf]], np.float32))
    with pytest.raises(UsageError, match="activation 'h': held 1 values that are not finite"):
        ranges_of({"h": found}, "minmax", UINT8)


def test_unknown_words_are_refused() -> None:
    found = observed()
    with pytest.raises(UsageError, match=r"observer 'ms': is unknown\n  did you mean 'mse'"):
        ranges_of(found, "ms", UINT8)
    with pytest.raises(UsageError, match="tied activation 'z': is unknown"):
        ranges_of(found, "mse", UINT8, [frozenset({"x", "z"})])
