"""A quantised network for tests, without the placement of a target: every layer's weight and input.

Weights come back from their integers; in front of each layer's input stand QuantizeLinear and
DequantizeLinear with the range that the calibration samples show.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from zoo import Array, feeds_of

from edgec.calibration.grid import Grid, Scheme
from edgec.calibration.moments import batches_of, runner
from edgec.calibration.ranges import observe
from edgec.model import copied
from edgec.passes.base import Data
from edgec.passes.quantize.bias import channels_read
from edgec.passes.quantize.weights import WEIGHT_METHODS, StoredWeight
from edgec.passes.repair.layers import Layer, layers_of, write

Feeds = Mapping[str, Array]


IMAGE = "(float[N,6,7,7] x) => (y)"
LAYERS = {
    "conv": IMAGE + " <float[8,6,3,3] w, float[8] b> { y = Conv<pads=[1,1,1,1]>(x, w, b) }",
    "no bias": IMAGE + " <float[8,6,3,3] w> { y = Conv<strides=[2,2]>(x, w) }",
    "groups": IMAGE + " <float[9,2,3,3] w> { y = Conv<group=3, pads=[1,1,1,1]>(x, w) }",
    "depthwise": IMAGE + " <float[6,1,3,3] w> { y = Conv<group=6, pads=[1,1,1,1]>(x, w) }",
    "transposed": IMAGE + " <float[6,4,2,2] w> { y = ConvTranspose<group=2, strides=[2,2]>(x, w) }",
    "gemm": "(float[N,6] x) => (y) <float[6,5] w, float[5] b> { y = Gemm<alpha=0.5>(x, w, b) }",
    "gemm by rows": "(float[N,6] x) => (y) <float[5,6] w> { y = Gemm<transB=1>(x, w) }",
    "matmul": "(float[N,3,6] x) => (y) <float[6,5] w, float[5] b>"
    " { m = MatMul(x, w)  y = Add(m, b) }",
}
"""Every kind of layer between `x` and `y`."""


class Samples:
    """Arrays as calibration data."""

    def __init__(self, **arrays: Array) -> None:
        self.arrays = arrays

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    def batches(self, batch_size: int) -> Any:
        for start in range(0, len(self), batch_size):
            yield {n: a[start : start + batch_size] for n, a in self.arrays.items()}


def samples(model: ir.Model, count: int = 20) -> Samples:
    """Of unlike channels, whose means are not zero."""
    (x,) = feeds_of(model, dims={"N": count}).values()
    axis = -1 if x.ndim < 4 else 1
    lift = np.moveaxis(np.linspace(-1, 2, x.shape[axis]).reshape(-1, *[1] * (x.ndim - 1)), 0, axis)
    return Samples(x=(x + lift).astype(np.float32))


def output_axis(layer: Layer) -> int:
    """The axis of the weight's output channels."""
    if layer.node.op_type == "Conv":
        return 0
    if layer.node.op_type == "ConvTranspose":
        return 1
    return 0 if layer.node.attributes.get_int("transB", 0) else 1


def stored(
    model: ir.Model, bits: int, *, method: str = "absmax", per_channel: bool = False
) -> dict[str, StoredWeight]:
    """Every layer's weight, rounded to the nearest integers."""
    found = {}
    for layer in layers_of(model):
        w = layer.weight()
        axis = output_axis(layer) if per_channel else None
        grid = WEIGHT_METHODS[method].fit(w, Scheme(bits), axis, None)
        found[weight_name(layer)] = StoredWeight.of(w, grid)
    return found


def weight_name(layer: Layer) -> str:
    """The initializer that holds the weight."""
    value = layer.node.inputs[1]
    assert value is not None
    return value.name or ""


def put(model: ir.Model, weights: Mapping[str, StoredWeight]) -> ir.Model:
    """A copy in which weights are what their integers stand for."""
    model = copied(model)
    for layer in layers_of(model):
        write(layer.node, 1, weights[weight_name(layer)].reals())
    return model


def quantise_inputs(model: ir.Model, data: Data) -> None:
    """uint8 with the least and greatest value of the samples, in front of every layer."""
    layers = layers_of(model)
    names = {layer.x for layer in layers}
    run = runner(model, [v.name or "" for v in model.graph.inputs], names)
    ends: dict[str, tuple[float, float]] = dict.fromkeys(names, (0.0, 0.0))
    for feeds in batches_of(model, data, 16):
        for name, array in run(feeds).items():
            low, high = ends[name]
            ends[name] = min(low, float(array.min())), max(high, float(array.max()))
    for layer in layers:
        grid = Grid.of_range(Scheme(8, signed=False, symmetric=False), *ends[layer.x])
        x = layer.node.inputs[0]
        assert x is not None
        name = f"{layer.out}.x"
        ends_of = {"scale": grid.scale.astype(np.float32), "zero": grid.zero.astype(np.uint8)}
        scale, zero = (
            ir.Value(name=f"{name}.{n}", const_value=ir.tensor(np.asarray(v)))
            for n, v in ends_of.items()
        )
        for value in (scale, zero):
            model.graph.register_initializer(value)
        q = ir.node("QuantizeLinear", [x, scale, zero], name=f"{name}.q")
        d = ir.node("DequantizeLinear", [q.outputs[0], scale, zero], name=f"{name}.d")
        model.graph.insert_before(layer.node, (q, d))
        layer.node.replace_input_with(0, d.outputs[0])


def snr(found: Sequence[Array], wanted: Sequence[Array]) -> float:
    """Of the outputs, in decibels."""
    noise = sum(
        float(((a.astype(np.float64) - b) ** 2).sum()) for a, b in zip(found, wanted, strict=True)
    )
    power = sum(float((b.astype(np.float64) ** 2).sum()) for b in wanted)
    return 10 * float(np.log10(power / max(noise, 1e-30)))


def read_means(model: ir.Model, data: Samples) -> dict[str, NDArray[np.float64]]:
    """What the layers of a model read, the mean of each channel."""
    axes = channels_read(model)
    seen = observe(model, list(axes), data, channels=axes)
    return {name: histogram.channels for name, histogram in seen.items()}
