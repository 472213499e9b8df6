"""Architectures of today as users bring them: exported from `transformers` with random weights.

One row says which class is built, with which settings, for which inputs. Nothing about a row
reaches edgec but the ONNX graph. Sizes are small; structure is that of the published networks.
Batch and sequence stay symbolic where the exporter manages it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial

import onnx
import onnx_ir as ir

from edgec.model_inputs import fix_input_shapes
from zoo import _architectures_dense as dense
from zoo import _architectures_other as other
from zoo import _architectures_text as text
from zoo import _architectures_vision as vision
from zoo._architecture import SIZES, Architecture

ZOO: dict[str, Architecture] = {
    row.name: row for row in (*vision.ROWS, *dense.ROWS, *text.ROWS, *other.ROWS)
}


@cache
def _proto(name: str) -> onnx.ModelProto:
    return ZOO[name].proto()


def export(name: str) -> ir.Model:
    """A fresh model of the architecture `name`, told its sequence lengths; the batch is open."""
    model = ir.from_proto(_proto(name))
    sizes = {**SIZES, "batch": 1}
    shapes = {
        name: tuple(sizes[d] if isinstance(d, str) else d for d in found.shape)
        for name, found in ZOO[name].inputs.items()
    }
    taken = {value.name for value in model.graph.inputs}  # the exporter drops inputs without use
    fix_input_shapes(model, {name: shape for name, shape in shapes.items() if name in taken})
    return model


ARCHITECTURES: dict[str, Callable[[], ir.Model]] = {name: partial(export, name) for name in ZOO}
