"""Rounding against moments: less error in what a layer gives, on the grid that was asked for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest
from fakequant import LAYERS, Samples, put, read_means, samples, snr, stored, weight_name
from zoo import Array, model_of, run

from edgec.errors import UsageError
from edgec.model import copied
from edgec.passes.quantize.bias import correct_locally
from edgec.passes.quantize.rounding import ROUNDINGS, Task, adaround, feedback, round_weights
from edgec.passes.repair.layers import layers_of

MINDFUL = [name for name in ROUNDINGS if name != "nearest"]
DEPENDENT = [name for name in LAYERS if name not in ("transposed", "depthwise")]


def related(model: ir.Model, count: int) -> Samples:
    """Samples whose channels hang together."""
    x = samples(model, count).arrays["x"]
    axis = -1 if x.ndim < 4 else 1
    mix = np.random.default_rng(0).standard_normal((3, 6)).astype(np.float32)
    found = np.moveaxis(x, axis, -1)
    found = found[..., :3] @ mix + 0.1 * found
    return Samples(x=np.moveaxis(found, -1, axis))


def task(bits: int, *, groups: int = 1, outputs: int = 16, features: int = 48) -> Task:
    """Inputs that hang together."""
    rng = np.random.default_rng(0)
    causes = rng.standard_normal((groups, 400, features // 3))
    x = causes @ rng.standard_normal((groups, features // 3, features))
    x += 0.3 * rng.standard_normal(x.shape)
    w = rng.standard_normal((groups, outputs, features))
    high = np.full((groups, outputs, 1), 2.0 ** (bits - 1) - 1)
    return Task(w, np.abs(w).max(2, keepdims=True) / high, -high, high, x.swapaxes(1, 2) @ x)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("method", [feedback, adaround])
def test_the_error_is_at_most_two_thirds(method: Callable[[Task], Array], bits: int) -> None:
    for given in (task(bits), task(bits, groups=5, outputs=3, features=9)):
        q = method(given)
        assert (q == np.rint(q)).all()
        assert ((given.low <= q) & (q <= given.high)).all()
        assert given.error(q).sum() < given.error(given.nearest()).sum() * 2 / 3


def test_feedback_over_independent_inputs_is_the_nearest() -> None:
    given = task(4)
    alone = Task(given.weight, given.scale, given.low, given.high, 7 * np.eye(48)[None])
    np.testing.assert_array_equal(feedback(alone), alone.nearest())


def test_feedback_over_inputs_that_never_vary() -> None:
    given = task(4)
    dead = Task(given.weight, given.scale, given.low, given.high, np.zeros((1, 48, 48)))
    np.testing.assert_array_equal(feedback(dead), dead.nearest())


def test_adaround_goes_up_or_down() -> None:
    given = task(4)
    assert np.abs(adaround(given) - given.weight / given.scale).max() <= 1.0


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("method", MINDFUL)
@pytest.mark.parametrize("name", DEPENDENT)
def test_a_layer_gives_less_error(name: str, method: str, per_channel: bool) -> None:
    """Or no more, once biases are corrected; the grid is that which was given, but for seq-mse."""
    model = model_of(LAYERS[name])
    data = related(model, 64)
    plain = stored(model, 4, per_channel=per_channel)
    grids = {n: w.grid for n, w in plain.items()}
    chosen, record = round_weights(model, grids, data, method=method)
    assert (record.samples, list(record.gain), record.left) == (64, [layers_of(model)[0].name], {})
    (grid,), (weight,) = grids.values(), chosen.values()
    assert method == "seq-mse" or weight.grid == grid
    scheme = grid.scheme
    assert ((scheme.low <= weight.integers) & (weight.integers <= scheme.high)).all()
    wanted, found = run(model, data.arrays), []
    for weights in (plain, chosen):
        corrected = copied(model)
        correct_locally(corrected, weights, read_means(corrected, data))
        found.append(snr(run(put(corrected, weights), data.arrays), wanted))
    assert found[1] > found[0] + (0.5 if method == "feedback" else -1e-3)


def test_what_is_left_to_the_nearest_is_told() -> None:
    for text, why in (
        (LAYERS["transposed"], "is a transposed convolution"),
        (
            "(float[N,6] x) => (y) <float[6,6] w> { a = MatMul(x, w)  y = MatMul(a, w) }",
            "shares its weight",
        ),
    ):
        model = model_of(text)
        plain = stored(model, 4)
        grids = {n: w.grid for n, w in plain.items()}
        found, record = round_weights(model, grids, samples(model))
        assert all(why in reason for reason in record.left.values())
        assert len(record.left) == len(layers_of(model))
        for name, weight in found.items():
            np.testing.assert_array_equal(weight.integers, plain[name].integers)


def test_without_samples() -> None:
    model = model_of(LAYERS["gemm"])
    grids = {weight_name(x): stored(model, 4)[weight_name(x)].grid for x in layers_of(model)}
    with pytest.raises(UsageError, match="no full batch"):
        round_weights(model, grids, samples(model, 0))
