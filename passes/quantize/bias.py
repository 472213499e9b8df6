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

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgec.calibration.moments import Batches, batches_of, runner
from edgec.errors import UsageError
from edgec.graph.channels import channel_groups
from edgec.graph.cut import CutResult
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
    before: ir.Model, quantised: ir.Model, data: Batches, *, samples: int = 64, batch_size: int = 16
) -> BiasRecord:
    """Corrects the biases of `quantised` in place, on the inputs that `before` has.

    Args:
        before: The float network.
        quantised: The same with weights that come back from integers; values are named alike.
        data: Samples.
        samples: At most so many are used.
        batch_size: Samples run at a time, where the model leaves it open.
    """
    wanted = {layer.out: layer for layer in layers_of(before)}
    pairs = [(wanted[new.out], new) for new in layers_of(quantised) if new.out in wanted]
    places = {new.out: intercept_of(new) for _, new in pairs}
    left = {new.name: "has no place for a bias" for _, new in pairs if places[new.out] is None}
    pairs = [(old, new) for old, new in pairs if places[new.out] is not None]
    probe, outputs = _probe(before, pairs)
    run = runner(probe, [v.name or "" for v in before.graph.inputs], outputs.values())
    total: dict[str, Floats] = {}
    count = 0
    for feeds in batches_of(before, data, batch_size, samples):
        size = len(next(iter(feeds.values())))
        found = run(feeds)
        for out, name in outputs.items():
            total[out] = total.get(out, 0.0) + size * found[name].astype(np.float64).ravel()
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

    Its activations may pass QuantizeLinear and DequantizeLinear. Arguments: `correct_locally`.
    """
    groups = channel_groups(quantised)
    whole = CutResult(quantised, groups, np.ones(groups.units, bool), ())
    record = sequential_repair(before, whole, data, samples=samples, batch_size=batch_size)
    left = {layer.layer: layer.reason for layer in record.layers if layer.method == "none"}
    return BiasRecord("sequential", record.samples, len(record.layers) - len(left), left)


def _probe(before: ir.Model, pairs: list[tuple[Layer, Layer]]) -> tuple[ir.Model, dict[str, str]]:
    """A copy of `before` that computes the mean of (Ŵ − W) E[x] beside every product.

    Returns:
        The copy, and the output name of each product → the name of that mean, float[channels].
    """
    probe = before.clone()
    nodes = {node.outputs[0].name: node for node in probe.graph}
    means: dict[ir.Value, ir.Value] = {}
    outputs = {}
    for old, new in pairs:
        node = nodes[old.out]
        x = node.inputs[0]
        assert x is not None
        if x not in means:
            means[x] = _mean(probe, x, 0, f"{x.name}.mean", keepdims=1)
        delta = (new.weight().astype(np.float64) - old.weight()).astype(old.weight().dtype)
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
    inputs, attributes = [x], {"keepdims": keepdims}
    if probe.opset_imports.get("", 1) < 18:
        attributes |= {"axes": [axis]}  # type: ignore[dict-item]
    else:
        inputs.append(_constant(probe, f"{name}.axis", np.asarray([axis], np.int64)))
    node = ir.node("ReduceMean", inputs, attributes)
    node.outputs[0].name = name
    probe.graph.append(node)
    return node.outputs[0]


def _constant(probe: ir.Model, name: str, array: NDArray[np.generic]) -> ir.Value:
    value = ir.val(name, const_value=ir.tensor(array, name=name))
    probe.graph.register_initializer(value)
    return value
