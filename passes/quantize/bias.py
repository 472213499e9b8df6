"""Bias correction: the mean error that quantised weights make is taken out of the biases.

    b ← b − (E[Ŵ x] − E[W x])            (Nagel et al. 2019)

per output channel. Two ways to the means:
    local        x as the original has it. Products are linear, so E[Ŵ x] − E[W x] = (Ŵ − W) E[x]:
                 one pass of the original over the samples, each product applied to a mean input.
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

from edgec.calibration.moments import Batches, batches_of, runner
from edgec.errors import UsageError
from edgec.graph.channels import channel_groups
from edgec.graph.cut import CutResult
from edgec.graph.initializers import add_initializer
from edgec.model import copied
from edgec.passes.quantize.weights import StoredWeight
from edgec.passes.repair import bias as sequential_repair
from edgec.passes.repair.layers import Layer, intercept_of, layers_of

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class BiasRecord:
    """What a correction did.

    Attributes:
        method: `local` or `sequential`.
        samples: Samples that were run.
        corrected: Products whose bias was changed.
        left: Product → why its bias was not.
    """

    method: str
    samples: int
    corrected: int
    left: dict[str, str]


def correct_locally(
    model: ir.Model, weights: Mapping[str, StoredWeight], data: Batches, *, samples: int = 64,
    batch_size: int = 16,
) -> BiasRecord:  # fmt: skip
    """Corrects the biases of a float network for weights that will be stored, in place.

    Args:
        model: The network. Only its biases change, and layers without one may get one.
        weights: Name of an initializer → what will be stored for it.
        data: Samples.
        samples: At most so many are used.
        batch_size: Samples run at a time, where the model leaves it open.
    """
    layers = [layer for layer in layers_of(model) if _weight_name(layer) in weights]
    places = {layer.out: intercept_of(layer) for layer in layers}
    left = {x.name: "has no place for a bias" for x in layers if places[x.out] is None}
    probe, outputs = _probe(model, [x for x in layers if places[x.out] is not None], weights)
    run = runner(probe, [v.name or "" for v in model.graph.inputs], outputs.values())
    total = {out: np.zeros(0) for out in outputs}
    count = 0
    for feeds in batches_of(model, data, batch_size, samples):
        size = len(next(iter(feeds.values())))
        found = run(feeds)
        for out, name in outputs.items():
            error = size * found[name].astype(np.float64).ravel()
            total[out] = total[out] + error if count else error
        count += size
    if not count:
        raise UsageError("calibration data", "holds no full batch", "give more samples")
    for out, error in total.items():
        place = places[out]
        assert place is not None
        place(-error / count)
    return BiasRecord("local", count, len(total), left)


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
    return BiasRecord("sequential", record.samples, len(record.layers) - len(left), left)


def _probe(
    model: ir.Model, layers: Sequence[Layer], weights: Mapping[str, StoredWeight]
) -> tuple[ir.Model, dict[str, str]]:
    """A copy of a model that computes the mean of (Ŵ − W) E[x] beside every product.

    Returns:
        The copy, and the output name of each product → the name of that mean, float[channels].
    """
    probe = copied(model)
    nodes = {node.outputs[0].name: node for node in probe.graph if node.outputs}
    means: dict[ir.Value, ir.Value] = {}
    outputs = {}
    for old in layers:
        node = nodes[old.out]
        x = node.inputs[0]
        assert x is not None
        if x not in means:
            means[x] = _mean(probe, x, 0, f"{x.name}.mean", keepdims=1)
        reals = weights[_weight_name(old)].reals()
        delta = (reals - old.weight().astype(np.float64)).astype(old.weight().dtype)
        inputs = [means[x], _constant(probe, f"{old.out}.delta", delta)]
        error = ir.node(node.op_type, inputs, node.attributes)
        first = node.op_type in ("Conv", "ConvTranspose")
        groups, size, _ = old.matrix_shape()
        size *= groups
        shape = np.asarray([size, -1] if first else [-1, size], np.int64)
        flat = ir.node("Reshape", [error.outputs[0], _constant(probe, f"{old.out}.flat", shape)])
        probe.graph.extend([error, flat])
        name = f"{old.out}.error"
        _mean(probe, flat.outputs[0], 1 if first else 0, name, keepdims=0)
        outputs[old.out] = name
    return probe, outputs


def _mean(probe: ir.Model, x: ir.Value, axis: int, name: str, *, keepdims: int) -> ir.Value:
    """The mean over one axis; what the axis is given by changed with opset 18."""
    inputs: list[ir.Value] = [x]
    attributes: dict[str, int | list[int]] = {"keepdims": keepdims}
    if probe.opset_imports.get("", 1) < 18:
        attributes["axes"] = [axis]
    else:
        inputs.append(_constant(probe, f"{name}.axis", np.asarray([axis], np.int64)))
    node = ir.node("ReduceMean", inputs, attributes)
    node.outputs[0].name = name
    probe.graph.append(node)
    return node.outputs[0]


def _weight_name(layer: Layer) -> str:
    value = layer.node.inputs[1]
    return "" if value is None else value.name or ""


def _constant(probe: ir.Model, name: str, array: NDArray[np.generic]) -> ir.Value:
    return add_initializer(probe.graph, ir.tensor(array, name=name))
