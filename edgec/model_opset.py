"""A younger operator set, by ONNX's own converter."""

from __future__ import annotations

import onnx
import onnx.version_converter
import onnx_ir as ir

from edgec.errors import UnsupportedError

_LARGE = 1 << 16  # bytes from which on a weight is kept out of the conversion


def raise_opset(model: ir.Model, least: int) -> ir.Model:
    """The model in operator set `least`: itself, or a converted copy with the same weights.

    Names of nodes and values stay; what the converter adds are Constant nodes.

    Raises:
        UnsupportedError: the converter cannot bring it there.
    """
    found = model.graph.opset_imports.get("", least)
    if found >= least:
        return model
    light, weights = _without_weights(model)
    try:
        proto = onnx.version_converter.convert_version(ir.to_proto(light), least)
    except Exception as error:  # C++ that raises whatever an adapter meets
        raise UnsupportedError(
            f"operator set {found}",
            f"cannot be raised to {least}: {str(error).strip()[:200]}",
            f"export the model with operator set {least} or newer",
        ) from error
    raised: ir.Model = ir.from_proto(proto)
    for value in list(raised.graph.inputs):
        if value.name in weights:
            raised.graph.inputs.remove(value)
            value.const_value = weights[value.name]
            raised.graph.register_initializer(value)
    sets = [onnx.helper.make_opsetid(*entry) for entry in raised.opset_imports.items()]
    young = onnx.helper.find_min_ir_version_for(sets, ignore_unknown=True)
    raised.ir_version = max(model.ir_version or 0, young)  # the converter leaves it
    raised.meta.update(model.meta)
    return raised


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
