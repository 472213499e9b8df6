"""Inputs made up from BatchNormalization statistics: what they recover, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from zoo import model_of

import edgec
from edgec.calibration.data import load_data
from edgec.calibration.grid import Scheme
from edgec.calibration.moments import Moments, batches_of, channel_moments
from edgec.calibration.ranges import observe, ranges_of
from edgec.calibration.synthetic import Noise, Synthetic, synthetic
from edgec.errors import UsageError

DIGITS = Path(__file__).parents[2] / "examples" / "digits"
NET = """
(float[N,3,16,16] x) => (y)
<float[24,3,3,3] w1, float[24] g1, float[24] b1, float[24] m1, float[24] v1,
 float[16,24,3,3] w2, float[16] g2, float[16] b2, float[16] m2, float[16] v2>
{
  h = Conv<pads = [1,1,1,1]>(x, w1)
  n = BatchNormalization(h, g1, b1, m1, v1)
  r = Relu(n)
  k = Conv(r, w2)
  o = BatchNormalization(k, g2, b2, m2, v2)
  y = GlobalAveragePool(o)
}"""
TRUE = Noise((3, 16, 16), "<f4", (0.5, -2.0, 1.0), (0.0, 1.0, -1.0), slope=1.5, shared=0.3)


def of_noise(noise: Noise, count: int, seed: int) -> Synthetic:
    return Synthetic({"x": noise}, count, seed, 0, 0.0, 0.0)


def remembering(model: ir.Model, data: Synthetic) -> ir.Model:
    """The model with the statistics that its BatchNormalizations have on the data."""
    for node in model.graph:
        if node.op_type == "BatchNormalization":
            name = node.inputs[0].name or ""  # type: ignore[union-attr]
            found: Moments = channel_moments(model, [(name, 1)], data)[name, 1]
            for value, array in zip(node.inputs[3:], (found.mean, found.var), strict=True):
                assert value is not None
                value.const_value = ir.tensor(array.astype(np.float32), name=value.name)
    return model


def test_noise_is_what_it_says() -> None:
    noise = Noise((3, 32, 32), "<f4", (1.0, 2.0, 3.0), (0.0, 1.0, -1.0), slope=1.0, shared=0.4)
    x = np.concatenate([feeds["x"] for feeds in of_noise(noise, 2000, 0).batches(100)])
    assert x.dtype == np.float32
    np.testing.assert_allclose(x.mean((0, 2, 3)), [1, 2, 3], atol=0.1)
    np.testing.assert_allclose(x.std((0, 2, 3)), np.exp([0, 1, -1]), rtol=0.03)
    assert np.corrcoef(x[:, 0].ravel(), x[:, 1].ravel())[0, 1] == pytest.approx(0.4, abs=0.05)
    spectrum = np.square(np.abs(np.fft.fft2(x[:, 0] - 1))).mean(0)
    assert spectrum[0, 2] / spectrum[0, 8] == pytest.approx(4**2, rel=0.2)


def test_mean_deviation_and_colour_are_recovered() -> None:
    model = remembering(model_of(NET), of_noise(TRUE, 200, seed=99))
    found = synthetic(model, 64)
    noise = found.noises["x"]
    off = (np.asarray(noise.mean) - TRUE.mean) / np.exp(TRUE.log_std)
    assert np.abs(off).max() < 0.4
    np.testing.assert_allclose(noise.log_std, TRUE.log_std, atol=0.4)
    assert noise.slope == pytest.approx(TRUE.slope, abs=0.6)
    assert found.layers == 2
    assert found.fit < 0.02 < 0.2 < found.plain


def test_ranges_of_digits_are_much_nearer_than_those_of_plain_noise() -> None:
    model = edgec.load(DIGITS / "digits.onnx")
    (value,) = model.graph.inputs
    name = value.name or ""
    real = load_data(DIGITS / "calibration.npz", {name: (np.dtype("f"), (None, 1, 8, 8))})
    made = synthetic(model, 64)
    plain = replace(
        made, noises={name: Noise((1, 8, 8), "<f4", (0.0,), (0.0,), slope=0.0, shared=0.0)}
    )
    names = [n.outputs[0].name or "" for n in model.graph if n.op_type in ("Relu", "Add")]
    grids = [
        ranges_of(observe(model, names, data), "mse", Scheme(8, False, False))
        for data in (real, made, plain)
    ]
    scales = np.log2([[float(found[n].scale) for n in names] for found in grids])
    off = np.sqrt(np.square(scales[1:] - scales[0]).mean(1))
    assert off[0] < 0.4
    assert off[1] > 3 * off[0]


def test_samples_do_not_depend_on_batches_and_can_be_drawn_again() -> None:
    data = of_noise(TRUE, 10, seed=1)
    whole = np.concatenate([f["x"] for f in data.batches(10)])
    parts = [f["x"] for f in data.batches(4)]
    assert [len(part) for part in parts] == [4, 4, 2]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert len(np.unique(whole.reshape(10, -1), axis=0)) == 10


def test_the_record_says_that_nobody_measured_them() -> None:
    model = remembering(model_of(NET), of_noise(TRUE, 50, seed=99))
    said = synthetic(model, 32).describe()
    assert json.loads(json.dumps(said)) == said
    assert (said["kind"], said["samples"], said["layers"]) == ("synthetic", 32, 2)
    assert said["notes"][0].startswith("no samples were given: coloured noise was fitted to 2 ")
    again = synthetic(model, 32)
    assert again.describe() == said
    assert synthetic(model, 32, seed=5).describe()["sha256"] != said["sha256"]


def test_a_model_may_fix_its_batch() -> None:
    model = remembering(model_of(NET), of_noise(TRUE, 50, seed=99))
    model.graph.inputs[0].shape = ir.Shape([4, 3, 16, 16])
    data = synthetic(model, 10)
    assert [len(feeds["x"]) for feeds in batches_of(model, data, 16)] == [4, 4]


def test_features_and_many_channels_share_their_numbers() -> None:
    model = model_of(
        "(float[N,40] x) => (y) <float[40,8] w, float[8] g, float[8] b, float[8] m, float[8] v>"
        "{ h = MatMul(x, w)  y = BatchNormalization(h, g, b, m, v) }"
    )
    noise = synthetic(model, 8).noises["x"]
    assert (len(noise.mean), len(noise.log_std), noise.shape) == (1, 1, (40,))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "(float[N,3] x) => (y) { y = Relu(x) }",
            "--calib synthetic: the network has no BatchNormalization to fit inputs to\n"
            "  give samples with --data",
        ),
        (
            "(int64[N,3] x) => (y) <float[3] g, float[3] b, float[3] m, float[3] v>"
            "{ f = Cast<to = 1>(x)  y = BatchNormalization(f, g, b, m, v) }",
            "input 'x': is not of floats",
        ),
        (
            "(float[N,3,W] x) => (y) <float[3] g, float[3] b, float[3] m, float[3] v>"
            "{ y = BatchNormalization(x, g, b, m, v) }",
            "input 'x': leaves its size open",
        ),
    ],
)
def test_what_noise_cannot_stand_for_is_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        synthetic(model_of(text))
    assert str(error.value).startswith(message)
