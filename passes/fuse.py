"""Folds BatchNormalization into the convolution or Gemm before it.

    y = γ · (W·x + b − μ) / √(σ² + ε) + β    ⟶    y = (s·W)·x + s·(b − μ) + β,   s = γ / √(σ² + ε)

s scales the output channels of W: axis 0 of Conv, axis 1 within each group of ConvTranspose, the
N axis of Gemm. A product that something else reads too, or a weight that is shared, is left alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgec.graph.initializers import add_initializer
from edgec.passes.base import Context, Pass

_PRODUCTS = ("Conv", "ConvTranspose", "Gemm")


@dataclass(frozen=True)
class FuseBatchNorm(Pass):
    """Folds BatchNormalization into the product that feeds it; records what could not be."""

    name: ClassVar[str] = "fuse-batchnorm"

    def run(self, model: ir.Model, context: Context) -> ir.Model:
        """Visits every BatchNormalization once."""
        kept: dict[str, str] = {}
        fused = 0
        for node in list(model.graph):
            if node.op_type != "BatchNormalization":
                continue
            reason = _refusal(node)
            if reason is None:
                _fuse(model, node)
                fused += 1
            else:
                kept[node.name or node.outputs[0].name or ""] = reason
        for name, value in list(model.graph.initializers.items()):
            if not value.uses() and not value.is_graph_output():
                del model.graph.initializers[name]
        context.records[self.name] = {"fused": fused, "kept": kept}
        return model


def _refusal(node: ir.Node) -> str | None:
    """Why a BatchNormalization stays, None if it can be folded."""
    x = node.inputs[0]
    product = None if x is None else x.producer()
    if x is None or product is None or product.op_type not in _PRODUCTS:
        return "no convolution or Gemm feeds it"
    if len(x.uses()) > 1 or x.is_graph_output():
        return f"'{x.name}' is read elsewhere too"
    if any(v is None or v.const_value is None for v in node.inputs[1:]):
        return "its parameters are computed"
    weight = product.inputs[1]
    if weight is None or weight.const_value is None:
        return "the weight before it is computed"
    bias = product.inputs[2] if len(product.inputs) > 2 else None
    if bias is not None and (bias.const_value is None or len(bias.const_value.shape) != 1):
        return "the bias before it is not one value per channel"
    if node.attributes.get_int("training_mode", 0) or len(node.outputs) > 1:
        return "it is in training mode"
    if product.op_type == "Gemm" and product.attributes.get_float("beta", 1.0) != 1.0:
        return "the Gemm before it scales its bias"
    return None


def _array(value: ir.Value | None) -> NDArray[Any]:
    assert value is not None
    assert value.const_value is not None
    return value.const_value.numpy()


def _fuse(model: ir.Model, node: ir.Node) -> None:
    assert node.inputs[0] is not None
    product = node.inputs[0].producer()
    assert product is not None
    gamma, beta, mean, var = (_array(v).astype(np.float64) for v in node.inputs[1:5])
    scale = gamma / np.sqrt(var + node.attributes.get_float("epsilon", 1e-5))
    weight = _array(product.inputs[1])
    has_bias = len(product.inputs) > 2 and product.inputs[2] is not None
    bias = _array(product.inputs[2]).astype(np.float64) if has_bias else 0.0
    new_weight = _scaled(product, weight.astype(np.float64), scale).astype(weight.dtype)
    new_bias = (scale * (bias - mean) + beta).astype(weight.dtype)
    product.replace_input_with(1, _initializer(model, product.inputs[1], new_weight))
    if len(product.inputs) < 3:
        product.resize_inputs(3)
    name = product.inputs[2] if has_bias else node.inputs[2]
    product.replace_input_with(2, _initializer(model, name, new_bias))
    out, x = node.outputs[0], node.inputs[0]
    name_of_output = out.name
    out.replace_all_uses_with(x, replace_graph_outputs=True)
    model.graph.remove(node, safe=True)
    x.name = name_of_output


def _scaled(product: ir.Node, weight: NDArray[Any], scale: NDArray[Any]) -> NDArray[Any]:
    shape = [1] * weight.ndim
    if product.op_type == "ConvTranspose":  # W[(g,i), o, k…]: each group has its own o
        group = product.attributes.get_int("group", 1)
        rows = weight.reshape(group, -1, *weight.shape[1:])
        rows = rows * scale.reshape(group, 1, -1, *shape[2:])
        return np.asarray(rows.reshape(weight.shape))
    transposed = product.op_type == "Conv" or product.attributes.get_int("transB", 0) == 1
    shape[0 if transposed else 1] = -1
    return np.asarray(weight * scale.reshape(shape))


def _initializer(model: ir.Model, like: ir.Value | None, data: NDArray[Any]) -> ir.Value:
    name = base = f"{like.name if like is not None else 'w'}.fused"
    number = 0
    while name in model.graph.initializers:
        number += 1
        name = f"{base}{number}"
    tensor = ir.Tensor(np.asarray(data, order="C"), name=name)
    return add_initializer(model.graph, tensor)
