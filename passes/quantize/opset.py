"""A younger operator set, where a type or an attribute needs one."""

from __future__ import annotations

import onnx
import onnx.version_converter
import onnx_ir as ir

from edgec.errors import UnsupportedError

_SMALL = 4096  # elements: no operator has more axes, pads or sizes than these


def raise_opset(model: ir.Model, version: int) -> ir.Model:
    """The model in operator set `version` at least: itself, or a converted copy with its weights.

    Raises:
        UnsupportedError: ONNX's converter cannot bring it there.
    """
    if model.opset_imports.get("", 1) >= version:
        return model
    frame = model.clone()
    weights = {n: v for n, v in frame.graph.initializers.items() if _is_large(v)}
    for name, value in weights.items():  # inputs for a while, so that none is copied
        del frame.graph.initializers[name]
        frame.graph.inputs.append(_declared(value))
        value.replace_all_uses_with(frame.graph.inputs[-1], replace_graph_outputs=True)
    try:
        proto = onnx.version_converter.convert_version(ir.to_proto(frame), version)
    except Exception as error:  # C++ that raises whatever an adapter meets
        raise UnsupportedError(
            model.graph.name or "model",
            f"cannot be brought to operator set {version}: {str(error)[:200]}",
            f"export it with operator set {version}",
        ) from error
    raised: ir.Model = ir.from_proto(proto)
    for value in [v for v in raised.graph.inputs if v.name in weights]:
        raised.graph.inputs.remove(value)
        value.const_value = weights[value.name or ""].const_value
        raised.graph.register_initializer(value)
    sets = [onnx.helper.make_opsetid(domain, n) for domain, n in raised.opset_imports.items()]
    least = onnx.helper.find_min_ir_version_for(sets, ignore_unknown=True)
    raised.ir_version = max(model.ir_version, least)
    raised.meta.update(model.meta)
    return raised


def _is_large(value: ir.Value) -> bool:
    tensor = value.const_value
    return tensor is not None and tensor.size > _SMALL and not value.is_graph_input()


def _declared(value: ir.Value) -> ir.Value:
    """The same name, type and shape without a constant."""
    assert value.const_value is not None
    return ir.Value(
        name=value.name,
        type=ir.TensorType(value.const_value.dtype),
        shape=ir.Shape(value.const_value.shape.numpy()),
    )
