"""Bias correction: the mean error that quantised weights make is taken out of the biases.

    b ← b − (E[Ŵ x] − E[W x])            (Nagel et al. 2019)

per output channel. Two ways to the means:
    local        x as the original has it. Products are linear, so E[Ŵ x] − E[W x] = (Ŵ − W) E[x].
                 E[x] is taken per channel, the same at all positions; where a kernel reaches over
                 the border, a tap counts for the share of positions at which it lies inside.
    sequential   x as the quantised network has it, product by product in the order of the graph,
                 so that later biases also take out the mean error that earlier products, rounded
                 activations and what is not linear leave. A product that is the last to reach a sum
                 makes the sum right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgec.calibration.moments import Batches, channel_axis
from edgec.calibration.patches import coverage
from edgec.graph.channels import channel_groups
from edgec.graph.cut import CutResult
from edgec.graph.facts import facts_of
from edgec.model_inputs import input_shapes
from edgec.passes.quantize.weights import StoredWeight
from edgec.passes.repair import bias as sequential_repair
from edgec.passes.repair.layers import Layer, intercept_of, layers_of

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class BiasRecord:
    """What a correction did.

    Attributes:
        method: `local` or `sequential`.
        corrected: Products whose bias was changed.
        left: Product → why its bias was not.
    """

    method: str
    corrected: int
    left: dict[str, str]


def correct_locally(
    model: ir.Model, weights: Mapping[str, StoredWeight], inputs: Mapping[str, Floats]
) -> BiasRecord:
    """Corrects the biases of a float network for weights that will be stored, in place.

    Args:
        model: The network. Only its biases change, and layers without one may get one.
        weights: Name of an initializer → what will be stored for it.
        inputs: Value that a layer reads → float64[channels], the mean of each (`channels_read`).
    """
    layers = [layer for layer in layers_of(model) if _weight_name(layer) in weights]
    facts = facts_of(model, input_shapes(model))
    shapes = {value.name: fact.shape for value, fact in facts.items() if fact.shape is not None}
    left = {}
    for layer in layers:
        place, stored = intercept_of(layer), weights[_weight_name(layer)]
        if place is None:
            left[layer.name] = "has no place for a bias"
        elif layer.x not in shapes or layer.out not in shapes:
            left[layer.name] = "the shapes around it are unknown"
        elif layer.x not in inputs or not inputs[layer.x].size:
            left[layer.name] = "the means of its input are unknown"
        else:
            x, out = shapes[layer.x], shapes[layer.out]
            place(-_mean_error(layer, stored, inputs[layer.x], x, out))
    return BiasRecord("local", len(layers) - len(left), left)


def channels_read(model: ir.Model) -> dict[str, int]:
    """Value that a layer reads → the axis of its channels."""
    return {layer.x: channel_axis(layer.node) for layer in layers_of(model)}


def _mean_error(
    layer: Layer, stored: StoredWeight, mean: Floats, shape: Sequence[int], out: Sequence[int]
) -> Floats:
    """(Ŵ − W) E[x] of every output channel, the mean over its positions.

    Args:
        layer: The product.
        stored: Its Ŵ.
        mean: float64[input channels], E[x].
        shape, out: Of its input and output; borders depend on them.
    """
    groups, size, features = layer.matrix_shape()
    delta = stored.reals().astype(np.float64) - layer.weight()
    if layer.node.op_type not in ("Conv", "ConvTranspose"):
        matrix = delta if delta.shape == (size, features) else delta.T
        return np.asarray(layer.scale * (matrix @ mean))
    taps = coverage(layer.node, delta.shape[2:], shape[2:], out[2:])
    per_channel = (delta * taps).sum(tuple(range(2, delta.ndim)))
    if layer.node.op_type == "Conv":  # [outputs, inputs of a group]
        rows = per_channel.reshape(groups, size, -1)
        return np.asarray(np.einsum("goi,gi->go", rows, mean.reshape(groups, -1)).ravel())
    group = layer.node.attributes.get_int("group", 1)  # [(group, inputs), outputs]
    rows = per_channel.reshape(group, -1, per_channel.shape[1])
    return np.asarray(np.einsum("gio,gi->go", rows, mean.reshape(group, -1)).ravel())


def correct_in_sequence(
    before: ir.Model, quantised: ir.Model, data: Batches, *, samples: int = 64, batch_size: int = 16
) -> BiasRecord:
    """Corrects the biases of `quantised` in place, on the inputs that it has itself.

    Args:
        before: The float network.
        quantised: The same with weights that come back from integers, as initializers; activations
            may pass QuantizeLinear and DequantizeLinear. Values are named alike.
        data: Samples.
        samples: At most so many are used.
        batch_size: Samples run at a time, where the model leaves it open.
    """
    groups = channel_groups(quantised)
    whole = CutResult(quantised, groups, np.ones(groups.units, bool), ())
    record = sequential_repair(before, whole, data, samples=samples, batch_size=batch_size)
    left = {layer.layer: layer.reason for layer in record.layers if layer.method == "none"}
    return BiasRecord("sequential", len(record.layers) - len(left), left)


def _weight_name(layer: Layer) -> str:
    value = layer.node.inputs[1]
    return "" if value is None else value.name or ""
