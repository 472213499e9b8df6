"""Means of what a model computes, in little memory: they alone leave the session."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgec.calibration.moments import Batches, batches_of
from edgec.calibration.session import open_session, part_of
from edgec.errors import UsageError
from edgec.graph.initializers import add_initializer

Floats = NDArray[np.float64]
_AXES_ARE_INPUTS = 18  # of ReduceMean, from this operator set on
_AT_ONCE = 2  # samples; more take memory and gain no time


def means(
    model: ir.Model, over: Mapping[str, Sequence[int]], data: Batches, samples: int
) -> tuple[dict[str, Floats], int]:
    """Means of values over some of their axes.

    Args:
        model: Computes the values; not changed.
        over: Value → the axes to average over, the batch's among them.
        data: The samples.
        samples: At most so many are used, spread evenly.

    Returns:
        Value → float64, of the shape of its other axes; and the number of samples.

    Errors:
        UsageError: There are no samples.
    """
    part = part_of(model, [v.name or "" for v in model.graph.inputs], list(over))
    names = _reduce(part, over)
    session = open_session(part, lean=True)
    inputs = [value.name for value in session.get_inputs()]
    total: dict[str, Floats] = {}
    count = 0
    for feeds in batches_of(model, data, _AT_ONCE, samples):
        size = len(next(iter(feeds.values())))
        found = session.run(list(names.values()), {name: feeds[name] for name in inputs})
        for name, mean in zip(names, found, strict=True):
            total[name] = total.get(name, np.zeros(1)) + size * mean.astype(np.float64)
        count += size
    if not count:
        raise UsageError("calibration data", "holds no full batch", "give more samples")
    return {name: sums / count for name, sums in total.items()}, count


def _reduce(part: ir.Model, over: Mapping[str, Sequence[int]]) -> dict[str, str]:
    """Makes the means the only outputs: value → the name of its mean."""
    graph = part.graph
    values = {v.name: v for v in graph.inputs} | {v.name: v for n in graph for v in n.outputs}
    depth = {v.name: i for i, node in enumerate(graph) for v in node.outputs}
    graph.outputs.clear()
    # from the last to the first, so that each frees its value at once (see `watch`)
    for name in sorted(over, key=lambda name: depth.get(name, -1), reverse=True):
        inputs, attributes = [values[name]], {"keepdims": 0}
        axes: Any = list(over[name])
        if graph.opset_imports.get("", 1) < _AXES_ARE_INPUTS:
            attributes["axes"] = axes
        else:
            tensor = ir.tensor(np.asarray(axes, np.int64), name=f"edgec/{name}/axes")
            inputs.append(add_initializer(graph, tensor))
        node = ir.node("ReduceMean", inputs, attributes)
        node.outputs[0].name = f"edgec/{name}/mean"
        node.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
        graph.append(node)
        graph.outputs.append(node.outputs[0])
    return {name: f"edgec/{name}/mean" for name in over}
