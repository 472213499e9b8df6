"""Laws of the repairs: what is right stays, what can be recovered is, nothing gets worse."""

from __future__ import annotations

import statistics
import tracemalloc
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from zoo import Array, feeds_of, model_of, run
from zoo.patterns import PATTERNS

import edgec
from edgec.errors import UsageError
from edgec.graph.channels import ChannelGroups, channel_groups
from edgec.graph.cut import CutResult, remove_channels
from edgec.model import load
from edgec.passes.repair import REPAIRS, RepairRecord, bias, least_squares, recalibrate, repair

WITH_DATA = [name for name in REPAIRS if name != "none"]


@dataclass
class Drawn:
    """Random samples that exist one batch at a time."""

    model: ir.Model
    count: int

    def batches(self, batch_size: int) -> Iterator[Mapping[str, Array]]:
        done, number = 0, 0
        while done < self.count:
            size = min(batch_size, self.count - done)
            yield feeds_of(self.model, number, {"N": size})
            done, number = done + size, number + 1


def set_weights(model: ir.Model, **arrays: Array) -> ir.Model:
    """Gives initializers new values."""
    for name, array in arrays.items():
        value = model.graph.initializers[name]
        value.const_value = ir.Tensor(array.astype(np.float32), name=name)
    return model


def weights(model: ir.Model) -> dict[str, Array]:
    return {n: v.const_value.numpy() for n, v in model.graph.initializers.items()}  # type: ignore[union-attr]


def units_of(groups: ChannelGroups, name: str, channels: Sequence[int]) -> Array:
    """The units of channels of a value."""
    value = next(v for n in groups.model.graph for v in n.outputs if v.name == name)
    (factor,) = groups.trace.labels[value]
    return groups.unit_of[factor.ids.ravel()[list(channels)]]


def some_units(groups: ChannelGroups, share: float, seed: int = 0) -> Array:
    """Random units: the same number of every row of every group."""
    rng = np.random.default_rng(seed)
    found: list[int] = []
    for group in groups:
        count = min(int(share * group.depth), group.depth - 1)
        for row in np.unique(group.cells):
            found += rng.permutation(group.units[group.cells == row])[:count].tolist()
    return np.array(sorted(found), np.int64)


def distance(one: ir.Model, other: ir.Model, seed: int = 1000, size: int = 8) -> float:
    """Largest difference of outputs on fresh inputs, relative to their size."""
    feeds = feeds_of(one, seed, {"N": size})
    pairs = zip(run(one, feeds), run(other, feeds), strict=True)
    return max(float(np.abs(a - b).max() / np.abs(a).max()) for a, b in pairs)


def cut_and_repair(
    model: ir.Model, method: str, removed: Array, samples: int = 64
) -> tuple[CutResult, RepairRecord]:
    cut = remove_channels(channel_groups(model), removed)
    return cut, repair(method, model, cut, Drawn(model, samples))


NET = """
(float[N,3,8,8] x) => (y)
<float[12,3,3,3] w1, float[12] s1, float[12] t1, float[12] m1, float[12] v1,
 float[12,12,3,3] w2, float[12] s2, float[12] t2, float[12] m2, float[12] v2,
 float[16,12,3,3] w3, float[16] b3, float[16,1,3,3] w4, float[16] b4, float[5,16] w5, float[5] b5>
{
  h1 = Conv<pads = [1,1,1,1]>(x, w1)
  n1 = BatchNormalization(h1, s1, t1, m1, v1)
  r1 = Relu(n1)
  h2 = Conv<pads = [1,1,1,1]>(r1, w2)
  n2 = BatchNormalization(h2, s2, t2, m2, v2)
  a = Add(n2, r1)
  r2 = Relu(a)
  h3 = Conv<strides = [2,2]>(r2, w3, b3)
  r3 = Relu(h3)
  h4 = Conv<group = 16, pads = [1,1,1,1]>(r3, w4, b4)
  p = GlobalAveragePool(h4)
  f = Flatten(p)
  y = Gemm<transB = 1>(f, w5, b5)
}"""


@pytest.mark.parametrize("method", WITH_DATA)
def test_an_uncut_network_stays(method: str) -> None:
    model = model_of(NET)
    cut, _ = cut_and_repair(model, method, np.zeros(0, np.int64))
    assert distance(model, cut.model) < 1e-5


@pytest.mark.parametrize("pads", [0, 1])
@pytest.mark.parametrize("consumer", ["float[6,8,3,3] w2", "float[6,8,1,1] w2, float[6] b2"])
def test_a_channel_that_depends_linearly_on_others_is_recovered(pads: int, consumer: str) -> None:
    bias_input = ", b2" if "b2" in consumer else ""
    model = model_of(
        f"(float[N,3,8,8] x) => (y) <float[8,3,3,3] w1, {consumer}>"
        f"{{ h = Conv(x, w1)  y = Conv<pads = [{pads},{pads},{pads},{pads}]>(h, w2{bias_input}) }}"
    )
    w1 = weights(model)["w1"].copy()
    w1[3], w1[6] = 0.5 * w1[0] - w1[1], w1[2] + w1[7]
    set_weights(model, w1=w1)
    removed = units_of(channel_groups(model), "h", [3, 6])
    without = remove_channels(channel_groups(model), removed).model
    cut, record = cut_and_repair(model, "least-squares", removed)
    assert distance(model, without) > 0.1
    assert distance(model, cut.model) < 1e-5
    assert [layer.method for layer in record.layers] == ["none", "least squares"]


def test_a_feature_that_depends_linearly_on_others_is_recovered_in_matrix_products() -> None:
    model = model_of(
        "(float[N,5,6] x) => (y) <float[6,8] w1, float[8,8] w2, float[8] b2, float[8,4] w3>"
        "{ h = MatMul(x, w1)  k = MatMul(h, w2)  l = Add(k, b2)  y = MatMul(l, w3) }"
    )
    w1 = weights(model)["w1"].copy()
    w1[:, 5] = w1[:, 0] - 2 * w1[:, 4]
    set_weights(model, w1=w1)
    removed = units_of(channel_groups(model), "h", [5])
    cut, _ = cut_and_repair(model, "least-squares", removed)
    assert distance(model, cut.model) < 1e-5


@pytest.mark.parametrize("method", ["bias", "least-squares", "auto"])
def test_a_constant_channel_is_recovered(method: str) -> None:
    model = model_of(
        "(float[N,3,8,8] x) => (y) <float[8,3,3,3] w1, float[8] b1, float[6,8,3,3] w2>"
        "{ h = Conv(x, w1, b1)  r = Relu(h)  y = Conv(r, w2) }"
    )
    w1, b1 = weights(model)["w1"].copy(), weights(model)["b1"].copy()
    w1[2], b1[2] = 0, 1.5
    set_weights(model, w1=w1, b1=b1)
    removed = units_of(channel_groups(model), "r", [2])
    without = remove_channels(channel_groups(model), removed).model
    cut, _ = cut_and_repair(model, method, removed)
    assert distance(model, without) > 0.1
    assert distance(model, cut.model) < 1e-5


def test_padding_leaves_the_mean_right_and_the_border_wrong() -> None:
    model = model_of(
        "(float[N,3,8,8] x) => (y) <float[4,3,1,1] w1, float[4] b1, float[2,4,3,3] w2>"
        "{ h = Conv(x, w1, b1)  y = Conv<pads = [1,1,1,1]>(h, w2) }"
    )
    set_weights(model, w1=0 * weights(model)["w1"], b1=np.arange(1.0, 5.0))
    cut, record = cut_and_repair(model, "bias", units_of(channel_groups(model), "h", [1]))
    feeds = feeds_of(model, 0, {"N": 2})
    wrong = run(model, feeds)[0] - run(cut.model, feeds)[0]
    np.testing.assert_allclose(wrong.mean((0, 2, 3)), 0, atol=1e-5)
    assert np.abs(wrong[:, :, 0]).max() > 0.01
    last = record.layers[-1]
    assert last.before is not None
    assert last.after is not None
    assert 0 < last.after < last.before


def test_statistics_match_after_recalibration() -> None:
    model = model_of(NET)
    cut = remove_channels(channel_groups(model), some_units(channel_groups(model), 0.5))
    before = distance(model, cut.model)
    recalibrate(model, cut, Drawn(model, 256))
    assert distance(model, cut.model) < before
    feeds = feeds_of(model, 0, {"N": 256})
    for name in ("n1", "n2"):
        original, present = (
            run(ir.Model(_until(m, name), ir_version=10), feeds)[0] for m in (model, cut.model)
        )
        alive = cut.alive[units_of(cut.groups, name, range(original.shape[1]))]
        np.testing.assert_allclose(
            present.mean((0, 2, 3)), original[:, alive].mean((0, 2, 3)), atol=0.15
        )
        np.testing.assert_allclose(
            present.std((0, 2, 3)), original[:, alive].std((0, 2, 3)), rtol=0.1
        )


def _until(model: ir.Model, name: str) -> ir.Graph:
    return ir.convenience.extract(model.graph, [v.name or "" for v in model.graph.inputs], [name])


def test_the_last_layer_before_a_sum_makes_the_sum_right() -> None:
    """The shortcut loses what nothing in it can recover; the deeper branch sees the input."""
    model = model_of(
        "(float[N,6,4,4] x) => (y)"
        "<float[8,6,1,1] w1, float[6,8,1,1] w2, float[6,6,1,1] w3, float[6,6,1,1] w4,"
        " float[6,6,1,1] w5, float[6] s, float[6] t, float[6] m, float[6] v, float[4,6,1,1] w6>"
        "{ h = Conv(x, w1)  a = Conv(h, w2)  b = Conv(x, w3)  c = Conv(b, w4)  d = Conv(c, w5)"
        "  n = BatchNormalization(d, s, t, m, v)  z = Add(n, a)  r = Relu(z)  y = Conv(r, w6) }"
    )
    removed = units_of(channel_groups(model), "h", [0, 1, 2, 3])
    errors = {}
    for sums in (False, True):
        cut = remove_channels(channel_groups(model), removed)
        least_squares(model, cut, Drawn(model, 64), sums=sums)
        errors[sums] = distance(model, cut.model)
    assert errors[False] > 0.05
    assert errors[True] < 1e-4


# Samples go along the first axis of every input; of others there are none (edgec refuses them).
SAMPLED = [
    name
    for name, make in PATTERNS.items()
    if len({value.shape[0] for value in make().graph.inputs if value.shape}) < 2
]


@pytest.mark.parametrize("name", SAMPLED)
def test_no_pattern_gets_worse(name: str) -> None:
    model = PATTERNS[name]()
    groups = channel_groups(model)
    removed = some_units(groups, 0.4)
    for method in ("bias", "least-squares", "recalibrate"):
        cut = remove_channels(groups, removed)
        record = repair(method, model, cut, Drawn(model, 16))
        for layer in record.layers:
            if layer.before is not None and layer.after is not None:
                assert layer.after <= layer.before
            assert layer.method != "none" or layer.reason
        for y, y0 in zip(run(cut.model, feeds_of(model)), run(model, feeds_of(model)), strict=True):
            assert y.shape == y0.shape
            assert np.isfinite(y).all() or not np.isfinite(y0).all()


def test_auto_never_makes_the_outputs_worse() -> None:
    for seed in range(3):
        model = model_of(NET, seed)
        _, record = cut_and_repair(model, "auto", some_units(channel_groups(model), 0.5, seed))
        assert record.before is not None
        assert record.after is not None
        assert record.after < record.before


def test_the_same_seed_gives_the_same_weights() -> None:
    model = model_of(NET.replace("8,8] x", "20,20] x"))  # more positions than are drawn
    removed = some_units(channel_groups(model), 0.5)
    one, other, different = (weights(_repaired(model, removed, seed).model) for seed in (3, 3, 4))
    assert all(np.array_equal(one[name], other[name]) for name in one)
    assert any(not np.array_equal(one[name], different[name]) for name in one)


def _repaired(model: ir.Model, removed: Array, seed: int) -> CutResult:
    cut = remove_channels(channel_groups(model), removed)
    least_squares(model, cut, Drawn(model, 32), seed=seed)
    return cut


def test_memory_does_not_grow_with_the_samples() -> None:
    model = model_of(NET.replace("8,8] x", "20,20] x"))
    removed = some_units(channel_groups(model), 0.5)

    def peak(samples: int) -> int:
        cut = remove_channels(channel_groups(model), removed)
        tracemalloc.start()
        least_squares(model, cut, Drawn(model, samples), batch_size=8)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(8)  # imports and caches
    assert peak(384) < 1.1 * peak(192)


def test_the_original_is_not_changed() -> None:
    model = model_of(NET)
    before = {name: array.copy() for name, array in weights(model).items()}
    cut_and_repair(model, "auto", some_units(channel_groups(model), 0.5))
    assert all(np.array_equal(array, before[name]) for name, array in weights(model).items())


DIGITS = Path(__file__).parents[2] / "examples" / "digits"


def test_a_trained_network_keeps_its_accuracy_at_two_fifths_of_the_work() -> None:
    model = load(DIGITS / "digits.onnx")
    test = np.load(DIGITS / "test.npz")
    groups = channel_groups(model)
    removed = some_units(groups, 0.37)  # about 0.4 of the multiply-adds are left
    cut = remove_channels(groups, removed)

    def accuracy(network: ir.Model) -> float:
        (logits,) = run(network, {"image": test["image"]})
        return float((logits.argmax(1) == test["labels"]).mean())

    assert accuracy(cut.model) < 0.5
    record = repair("auto", model, cut, Images())
    assert accuracy(cut.model) > accuracy(model) - 0.02
    assert record.samples == 250


class Images:
    """The calibration images of the example."""

    def batches(self, batch_size: int) -> Iterator[Mapping[str, Array]]:
        images = np.load(DIGITS / "calibration.npz")["image"]
        for start in range(0, len(images), batch_size):
            yield {"image": images[start : start + batch_size]}


# --- without data ------------------------------------------------------------------------------

NORMED = """
(float[N,3,8,8] x) => (y)
<float[8,3,3,3] w1, float[8] s, float[8] t, float[8] m, float[8] v, float[6,8,3,3] w2>
{
  h = Conv(x, w1)
  n = BatchNormalization(h, s, t, m, v)
  r = Relu(n)
  y = Conv(r, w2)
}"""


def test_without_data_a_dead_channel_is_recovered() -> None:
    model = model_of(NORMED)
    s, t = weights(model)["s"].copy(), weights(model)["t"].copy()
    s[2], t[2] = 0.0, 1.5
    set_weights(model, s=s, t=t)
    cut = remove_channels(channel_groups(model), units_of(channel_groups(model), "r", [2]))
    lost = distance(model, cut.model)
    record = repair("bias", model, cut, None)
    assert lost > 0.1
    assert distance(model, cut.model) < 1e-5
    assert "N(β, γ²)" in record.notes[0]


def test_without_data_the_mean_of_a_rectified_normal_is_added() -> None:
    model = model_of(NORMED)
    cut = remove_channels(channel_groups(model), units_of(channel_groups(model), "r", [1, 4]))
    repair("auto", model, cut, None)
    added = weights(cut.model)["y.bias"]
    normal = statistics.NormalDist()
    expected = np.zeros(6)
    for channel in (1, 4):
        beta, gamma = weights(model)["t"][channel], abs(weights(model)["s"][channel])
        mean = beta * normal.cdf(beta / gamma) + gamma * normal.pdf(beta / gamma)
        expected += weights(model)["w2"][:, channel].sum((1, 2)) * mean
    np.testing.assert_allclose(added, expected, rtol=1e-3, atol=1e-4)


def test_without_data_an_unknown_mean_is_said_to_be_unknown() -> None:
    model = model_of(
        "(float[N,3,8,8] x) => (y) <float[8,3,3,3] w1, float[6,8,3,3] w2>"
        "{ h = Conv(x, w1)  r = Relu(h)  y = Conv(r, w2) }"
    )
    cut = remove_channels(channel_groups(model), units_of(channel_groups(model), "r", [1]))
    record = repair("bias", model, cut, None)
    assert [(r.method, r.reason) for r in record.layers] == [
        ("none", "the mean of its input is not known without data")
    ]


def test_what_needs_samples_says_so() -> None:
    model = model_of(NORMED)
    cut = remove_channels(channel_groups(model), np.zeros(0, np.int64))
    with pytest.raises(UsageError, match="needs samples"):
        repair("least-squares", model, cut, None)
    with pytest.raises(UsageError, match="is unknown"):
        repair("glue", model, cut, None)
    with pytest.raises(UsageError, match="no full batch"):
        bias(model, cut, Drawn(model, 0))


def test_a_budget_on_parameters_leaves_room_for_biases() -> None:
    """A repair gives biases to layers that have none; the budget holds for what comes out."""
    text = """(float[4,2,6,6] x) => (y)
    <float[24,2,1,1] w1, float[16,24,1,1] w2, float[3,16,1,1] w3>
    { a = Conv(x, w1)  b = Relu(a)  c = Conv(b, w2)  d = Relu(c)  y = Conv(d, w3) }"""
    samples = np.random.default_rng(0).standard_normal((32, 2, 6, 6)).astype(np.float32)
    report = edgec.build(model_of(text), params=0.5, data={"x": samples}, round_to=1, measure=None)
    (budget,) = report.budgets
    assert budget.achieved == report.costs.after.params <= 0.5 * report.costs.before.params
    assert report.repair.method != "none"
