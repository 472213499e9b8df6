"""Equalisation: no scale changes what a network computes, and ranges become alike."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from fakequant import Samples
from laws.test_exports import exported
from zoo import Array, feeds_of, model_of, run
from zoo.exports import EXPORTS
from zoo.light import light
from zoo.patterns import PATTERNS

from edgec.graph.channels import channel_groups
from edgec.passes.base import Context
from edgec.passes.fuse import FuseBatchNorm
from edgec.passes.quantize.equalize import Equalise
from edgec.passes.quantize.scaling import scaling_of
from edgec.preparing import prepared

SIZES = {"batch": 2, "time": 5, "N": 2}
# export: layers, those of them that read channels which can be scaled
SCALED = {
    "resnet18": (21, 20), "mobilenet_v3": (34, 18), "regnet_y": (31, 30), "unet": (13, 12),
    "mobilenet_v2": (53, 17), "efficientnet_b0": (52, 10), "convnext": (20, 0),
}  # fmt: skip


def fused(model: ir.Model) -> ir.Model:
    return FuseBatchNorm()(prepared(model), Context())


def same(found: list[Array], wanted: list[Array], tolerance: float = 5e-5) -> None:
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a, b, atol=tolerance * max(np.abs(b).max(initial=0), 1e-6))


def weight(model: ir.Model, name: str) -> Array:
    tensor = model.graph.initializers[name].const_value
    assert tensor is not None
    return tensor.numpy()


def scaled_alike(model: ir.Model) -> int:
    """Holds a model to the law: any factors leave its outputs. How many factors there are."""
    feeds = feeds_of(model, dims=SIZES)
    before = run(model, feeds)
    scaling = scaling_of(channel_groups(model))
    factor = np.exp(np.random.default_rng(0).uniform(-1, 1, scaling.count))
    factor[0] = 1.0
    scaling.apply(factor)
    same(run(model, feeds), before)
    return scaling.count - 1


@pytest.mark.parametrize("name", EXPORTS)
def test_any_scales_leave_an_export(name: str) -> None:
    model = fused(exported(name))
    if name in SCALED:
        products = scaling_of(channel_groups(model)).products
        assert (len(products), sum(not p.why for p in products)) == SCALED[name]
    scaled_alike(model)


@pytest.mark.parametrize("name", ["squeezenet", "shufflenet", "inception_v2", "densenet121"])
def test_any_scales_leave_an_old_network(name: str) -> None:
    """Batch norms behind concatenations, constants that are unsqueezed, shuffled channels."""
    assert scaled_alike(fused(light(name))) > 1000


@pytest.mark.parametrize("name", PATTERNS)
def test_any_scales_leave_a_pattern(name: str) -> None:
    scaled_alike(prepared(PATTERNS[name]()))


PAIR = (
    "(float[N,3,6,6] x) => (y) <float[8,3,3,3] v, float[8] b, float[4,8,3,3] w>"
    "{ a = Conv<pads=[1,1,1,1]>(x, v, b)  r = Relu(a)  y = Conv(r, w) }"
)
TRIPLE = (
    "(float[N,3,6,6] x) => (y) <float[8,3,1,1] u, float[8,1,3,3] v, float[4,8,1,1] w>"
    "{ a = Conv(x, u)  r = Relu(a)  c = Conv<group=8>(r, v)  s = Relu(c)  y = Conv(s, w) }"
)
SIX = ", float l = {0.0}, float h = {6.0}>"


def scatter(model: ir.Model, *names: str) -> None:
    """Scales the first axis of weights apart."""
    for seed, name in enumerate(names):
        w = weight(model, name)
        factor = np.exp(np.random.default_rng(seed).uniform(-2, 2, len(w)))
        scaled = (w * factor.reshape(-1, *[1] * (w.ndim - 1))).astype(np.float32)
        model.graph.initializers[name].const_value = ir.tensor(scaled, name=name)


def ranges(model: ir.Model, name: str, axis: int) -> Array:
    """log |W| of the channels along an axis, less its mean."""
    w = np.abs(weight(model, name))
    found = np.log(w.max(tuple(a for a in range(w.ndim) if a != axis)))
    return np.asarray(found - found.mean())


def test_two_layers_get_equal_ranges() -> None:
    """r₁ = r₂ = √(r₁ r₂), but for one factor on all channels, which no grid notices."""
    model = model_of(PAIR)
    scatter(model, "v")
    feeds = feeds_of(model)
    before = run(model, feeds)
    wanted = (ranges(model, "v", 0) + ranges(model, "w", 1)) / 2
    context = Context()
    found = Equalise()(model, context)
    np.testing.assert_allclose(ranges(found, "v", 0), wanted, atol=0.03)
    np.testing.assert_allclose(ranges(found, "w", 1), wanted, atol=0.03)
    same(run(found, feeds), before)
    assert context.records["equalise"]["ranges of activations"] == "not known"


def test_around_a_depthwise_layer_three_ranges_are_equal() -> None:
    model = model_of(TRIPLE)
    scatter(model, "u", "v")
    sides = [("u", 0), ("v", 0), ("w", 1)]
    wanted = np.mean([ranges(model, *side) for side in sides], axis=0)
    found = Equalise()(model, Context())
    for side in sides:
        np.testing.assert_allclose(ranges(found, *side), wanted, atol=0.05)


def test_a_branch_and_its_sum_share_their_scales() -> None:
    text = (
        "(float[2,3,6,6] x) => (y)"
        "<float[8,3,1,1] u, float[8,8,1,1] v, float[8] c, float[4,8,1,1] w>"
        "{ a = Conv(x, u)  r = Relu(a)  d = Conv(r, v, c)  s = Add(d, r)  t = Relu(s)"
        "  y = Conv(t, w) }"
    )
    model = model_of(text)
    scaling = scaling_of(channel_groups(model))
    (u, v, w) = scaling.products
    assert scaling.count == 9
    for other in (v.reads, v.makes, w.reads):
        np.testing.assert_array_equal(other, u.makes)
    scaled_alike(model)


# What stands between two layers of 8 channels → how many of its channels can be scaled.
BETWEEN = {
    "t = Sigmoid(a)": 0,
    "t = LeakyRelu(a)": 8,
    "t = PRelu(a, slope)": 8,
    "t = Sub(a, slope)": 8,
    "t = Add(a, one)": 0,
    "t = Mul(a, one)": 8,
    "t = Div(a, slope)": 8,
    "t = Div(slope, a)": 8,  # the constant is scaled, `a` is not
    "t = Div(one, a)": 0,
    "t = Max(a, zero)": 8,
    "t = Max(a, slope)": 8,
    "t = Mul(a, a)": 0,
    "t = Clip(a, zero)": 8,
    "t = Clip(a, zero, one)": 0,
    "t = Pad(a, ends)": 8,
    "t = Pad(a, ends, one)": 0,
    'm = Pad<mode="reflect">(a, ends)  t = Relu(m)': 8,
    "m = ReduceMax(a, channels)  t = Add(a, m)": 0,
    "m = ReduceMean(a, places)  t = Sub(a, m)": 8,
    "m = ReduceMean(a, places)  g = Sigmoid(m)  t = Mul(g, a)": 0,
    "m = ReduceMean(a, places)  c = Conv(m, square)  g = Sigmoid(c)  t = Mul(g, a)": 8,
    "c = Conv(a, square)  t = Mul(a, c)": 8,
    "c = Conv(a, single)  t = Add(a, c)": 0,
    "r = Relu(a)  m = Neg(a)  t = Add(r, m)": 8,
    "s = Shape(a)  m = Reshape(a, rows)  r = Relu(m)  t = Reshape(r, s)": 8,
    "p, q = Split<axis=1, num_outputs=2>(a)  r = Relu(p)  t = Concat<axis=1>(q, r)": 8,
    "p, q = Split<axis=1, num_outputs=2>(a)  r = Sigmoid(p)  t = Concat<axis=1>(q, r)": 4,
}


@pytest.mark.parametrize("text", BETWEEN)
def test_what_scales_pass(text: str) -> None:
    model = model_of(
        "(float[2,3,6,6] x) => (y) <float[8,3,1,1] u, float[8] b, float[8,8,1,1] square,"
        " float[1,8,1,1] single, float[4,8,1,1] w, float[8,1,1] slope,"
        " float one = {1.0}, float zero = {0.0}, int64[8] ends = {0,0,1,1,0,0,1,1},"
        " int64[1] channels = {1}, int64[2] places = {2,3}, int64[3] rows = {2,8,36}>"
        f"{{ a = Conv(x, u, b)  {text}  y = Conv(t, w) }}"
    )
    scaled_alike(model)
    last = scaling_of(channel_groups(model)).products[-1]
    assert np.unique(last.reads[last.reads > 0]).size == BETWEEN[text]


def test_a_clip_is_opened_only_if_it_never_clips() -> None:
    text = PAIR.replace("w>", "w" + SIX).replace("Relu(a)", "Clip(a, l, h)")
    image = np.random.default_rng(0).standard_normal((20, 3, 6, 6)).astype(np.float32)
    for gain, opened in ((0.1, ["Clip"]), (50.0, [])):
        for data in (Samples(x=image * np.float32(gain)), None):
            model = model_of(text)
            context = Context(data=data)
            found = Equalise()(model, context)
            record = context.records["equalise"]
            ops = [node.op_type for node in found.graph]
            if data is not None and opened:
                assert ops == ["Conv", "Relu", "Conv"]
                assert len(record["clips opened"]) == 1
                same(run(found, data.arrays), run(model_of(text), data.arrays))
            else:
                assert ops == ["Conv", "Clip", "Conv"]
                assert record["classes"] == 0
                assert any("does not scale" in why for why in record["not scaled"].values())


@pytest.mark.parametrize("per_channel", [False, True])
def test_activations_count_where_they_are_seen(per_channel: bool) -> None:
    """A channel whose bias makes it large is not scaled up, however small its weights are."""
    model = model_of(PAIR)
    small = weight(model, "v").copy()
    small[0] *= 0.01
    large = weight(model, "b").copy()
    large[0] = 5.0
    for name, array in (("v", small), ("b", large)):
        model.graph.initializers[name].const_value = ir.tensor(array, name=name)
    image = np.random.default_rng(0).standard_normal((16, 3, 6, 6)).astype(np.float32)
    biases = [
        weight(Equalise(per_channel=per_channel)(model.clone(), Context(data=data)), "b")
        for data in (None, Samples(x=image))
    ]
    blind, seeing = (np.abs(b[0]) / np.abs(b).max() for b in biases)
    assert blind == 1.0
    assert np.abs(biases[1][0]) < np.abs(biases[0][0])
    assert seeing <= blind


def test_what_cannot_be_scaled_says_why() -> None:
    text = PAIR.replace("Relu(a)", "Sigmoid(a)")
    context = Context()
    Equalise()(model_of(text), context)
    first, second = context.records["equalise"]["not scaled"].values()
    assert first == "its channels cannot be told apart"
    assert "Sigmoid" in second
