"""Bias correction: the mean of every output is again what it was."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from fakequant import IMAGE, LAYERS, Samples, put, read_means, samples, snr, stored
from laws.test_exports import exported
from zoo import Array, model_of, run

from edgec.passes.base import Context
from edgec.passes.fuse import FuseBatchNorm
from edgec.passes.quantize.bias import correct_in_sequence, correct_locally
from edgec.preparing import prepared

EXACT = {"transposed", "gemm", "gemm by rows", "matmul"}


def means(model: ir.Model, data: Samples) -> Array:
    """Of every output channel, float64[channels]."""
    (y,) = run(model, data.arrays)
    axis = 1 if y.ndim == 4 else y.ndim - 1
    return np.asarray(y.mean(tuple(a for a in range(y.ndim) if a != axis), dtype=np.float64))


@pytest.mark.parametrize("opset", [13, 20])
@pytest.mark.parametrize("name", LAYERS)
def test_the_mean_of_a_layer_is_right_again(name: str, opset: int) -> None:
    model = model_of(LAYERS[name], opset=opset, ir_version=8)
    data, weights = samples(model), stored(model, 4)
    wanted = means(model, data)
    assert np.abs(means(put(model, weights), data) - wanted).max() > 1e-2
    record = correct_locally(model, weights, read_means(model, data))
    assert (record.corrected, record.left) == (1, {})
    # What a channel is on average it need not be where a kernel of 3 x 3 starts and ends.
    atol = 1e-5 if name in EXACT else 0.02 * np.abs(wanted).max()
    np.testing.assert_allclose(means(put(model, weights), data), wanted, atol=atol)


def test_borders_are_exact_where_a_channel_is_the_same_everywhere() -> None:
    for text in (LAYERS[name] for name in ("conv", "no bias", "groups", "depthwise")):
        model = model_of(text)
        data, weights = samples(model), stored(model, 4)
        name = next(iter(data.arrays))
        flat = data.arrays[name].mean((2, 3), keepdims=True)
        data.arrays[name] = np.broadcast_to(flat, data.arrays[name].shape).copy()
        wanted = means(model, data)
        correct_locally(model, weights, read_means(model, data))
        np.testing.assert_allclose(means(put(model, weights), data), wanted, atol=1e-5)


def test_in_sequence_later_layers_see_what_earlier_ones_gave() -> None:
    text = (
        IMAGE + " <float[8,6,3,3] v, float[5,8,3,3] w>"
        "{ a = Conv(x, v)  r = Relu(a)  y = Conv(r, w) }"
    )
    model = model_of(text)
    data, weights = samples(model), stored(model, 4)
    wanted = means(model, data)
    fake = put(model, weights)
    record = correct_in_sequence(model, fake, data)
    assert record.corrected == 2
    sequential = np.abs(means(fake, data) - wanted).max()
    correct_locally(model, weights, read_means(model, data))
    local = np.abs(means(put(model, weights), data) - wanted).max()
    assert sequential < 1e-5 < local


def test_what_has_no_place_is_left() -> None:
    text = "(float[N,6] x) => (y) <float[6,5] w> { m = MatMul(x, w)  y = Relu(m) }"
    model = model_of(text)
    record = correct_locally(model, stored(model, 4), read_means(model, samples(model)))
    assert record.corrected == 0
    assert list(record.left.values()) == ["has no place for a bias"]


def test_what_was_not_observed_is_left() -> None:
    model = model_of(LAYERS["conv"])
    record = correct_locally(model, stored(model, 4), {})
    assert list(record.left.values()) == ["the means of its input are unknown"]


@pytest.mark.parametrize(("name", "gain"), [("resnet18", 3.0), ("regnet_y", 3.0), ("unet", 0.5)])
def test_outputs_come_closer(name: str, gain: float) -> None:
    """Decibels that the correction wins at 8 bits, on other samples than it saw."""
    model = FuseBatchNorm()(prepared(exported(name)), Context())
    rng = np.random.default_rng(0)
    data = Samples(x=rng.standard_normal((16, 3, 64, 64)).astype(np.float32))
    feeds = {model.graph.inputs[0].name or "": rng.standard_normal((2, 3, 64, 64)).astype("f4")}
    data.arrays = {model.graph.inputs[0].name or "": data.arrays["x"]}
    wanted, weights = run(model, feeds), stored(model, 8)
    before = snr(run(put(model, weights), feeds), wanted)
    correct_locally(model, weights, read_means(model, data))
    assert snr(run(put(model, weights), feeds), wanted) > before + gain
