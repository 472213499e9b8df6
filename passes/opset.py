"""Raises the operator set of a model that is older than what a pass writes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx
import onnx.version_converter
import onnx_ir as ir

from edgec.errors import UnsupportedError
from edgec.passes.base import Context, Pass
from edgec.passes.fold import Fold

_LARGE = 1 << 16  # bytes from which on a weight is kept out of the conversion


@dataclass(frozen=True)
class RaiseOpset(Pass):
    """Converts a model to operator set `least`, if it has an older one.

    Args:
        least: The operator set that is wanted.
    """

    name: ClassVar[str] = "raise-opset"
    least: int

    def run(self, model: ir.Model, context: Context) -> ir.Model:
        """ONNX's own converter; names of nodes and values stay."""
        found = model.graph.opset_imports.get("", self.least)
        if found >= self.least:
            return model
        if any(node.graph is not model.graph for node in model.graph.all_nodes()):
            self._refuse(found, "it has nested graphs")
        light, weights = _without_weights(model)
        try:
            proto = onnx.version_converter.convert_version(ir.to_proto(light), self.least)
        except RuntimeError as error:
            self._refuse(found, str(error).strip().splitlines()[0])
        raised = ir.from_proto(proto)
        for value in list(raised.graph.inputs):
            if value.name in weights:
                raised.graph.inputs.remove(value)
                value.const_value = weights[value.name]
                raised.graph.register_initializer(value)
        sets = [onnx.helper.make_opsetid(*entry) for entry in raised.opset_imports.items()]
        young = onnx.helper.find_min_ir_version_for(sets, ignore_unknown=True)
        raised.ir_version = max(model.ir_version, young)  # the converter leaves it
        raised.meta.update(model.meta)
        context.records[self.name] = {"from": found, "to": self.least}
        return Fold()(raised, context)  # the converter writes what it adds as Constant nodes

    def _refuse(self, found: int, why: str) -> None:
        raise UnsupportedError(
            f"operator set {found}",
            f"cannot be raised to {self.least}: {why}",
            f"export the model with operator set {self.least} or newer",
        )


def _without_weights(model: ir.Model) -> tuple[ir.Model, dict[str, ir.TensorProtocol]]:
    """A copy whose large weights are inputs, and these weights."""
    light = model.clone()
    weights: dict[str, ir.TensorProtocol] = {}
    for name, value in list(light.graph.initializers.items()):
        tensor = value.const_value
        if tensor is not None and tensor.nbytes > _LARGE and not value.is_graph_output():
            weights[name] = tensor
            del light.graph.initializers[name]
            value.dtype, value.shape = tensor.dtype, ir.Shape(tensor.shape.numpy())
            value.const_value = None
            light.graph.inputs.append(value)
    return light, weights
