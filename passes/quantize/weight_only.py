"""Weights of matrix products as integers of 4 or 8 bits; activations stay as they are.

    y = x · w,   w[k, n] ≈ scale[k // block, n] · (q[k, n] − zero[k // block, n])

Every column has a scale for each `block` rows of the summed axis; the last block may be shorter.
In the graph that is a DequantizeLinear with `block_size` (operator set 21) before the product.
ONNX Runtime turns the pair into its kernel MatMulNBits where the blocks run along axis 0 of a
weight that the product does not transpose, so that is how weights are stored. Writing MatMulNBits
into the file instead is no faster: 54 µs both for 1x768 · 768x3072 in 4 bits, 125 µs in float32
(ONNX Runtime 1.31.1, 1 thread, AVX-512 VNNI); and unfused, as with a transposed weight, 12 ms.
That kernel rounds activations to 8 bits in blocks, 46 dB, unless the session's
`session.qdq_matmulnbits_accuracy_level` is 1: 171 µs then, and with 8 bits 17 ms.

Tables that Gather reads are stored in 8 bits: rows and their scales are looked up, then multiplied,
so that only the rows in use become floats. Gather takes no 4 bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgec.calibration.grid import Grid, Scheme
from edgec.errors import UsageError
from edgec.graph.names import Names
from edgec.passes.base import Context, Pass
from edgec.passes.opset import RaiseOpset
from edgec.passes.quantize.weights import WEIGHT_METHODS

Array = NDArray[Any]

OPSET = 21
"""The first whose DequantizeLinear knows blocks and integers of 4 bits."""

_FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
_READS = {"MatMul": 1, "Gemm": 1, "Gather": 0}  # the input that is the weight


@dataclass(frozen=True)
class WeightOnly(Pass):
    """Stores the weights of MatMul and Gemm as integers.

    Args:
        bits: 4 or 8.
        block: How many weights along the summed axis share a scale, a power of two from 16 on;
            0: all of a column.
        symmetric: Signed integers around zero; else unsigned ones with a zero point for each block.
        method: How the scale of a block is found (`WEIGHT_METHODS`).
        tables: Whether tables that Gather reads are stored in 8 bits.
        smallest: Weights of fewer elements stay: they cost more than they save.
    """

    name: ClassVar[str] = "weight-only"
    bits: int = 4
    block: int = 32
    symmetric: bool = True
    method: str = "mse"
    tables: bool = False
    smallest: int = 4096

    def requires(self, model: ir.Model, context: Context) -> None:
        """Options that kernels exist for."""
        if self.bits not in (4, 8):
            raise UsageError(f"bits {self.bits}", "are not 4 or 8", "give 4 or 8")
        if self.block and (self.block < 16 or self.block & (self.block - 1)):
            raise UsageError(
                f"block {self.block}", "is no power of two from 16 on", "give 32, 64 or 128"
            )
        if self.method not in WEIGHT_METHODS:
            known = ", ".join(WEIGHT_METHODS)
            raise UsageError(f"method '{self.method}'", "is not known", f"give one of {known}")

    def run(self, model: ir.Model, context: Context) -> ir.Model:
        """Every weight once, with all its readers."""
        model = RaiseOpset(OPSET)(model, context)
        stored: dict[str, Any] = {}
        kept: dict[str, str] = {}
        writer = _Writer(model, self)
        for value in list(model.graph.initializers.values()):
            nodes = [n for n, i in value.uses() if _READS.get(n.op_type) == i and n.domain == ""]
            tensor = value.const_value
            if not nodes or tensor is None or tensor.dtype not in _FLOATS:
                continue
            reason = self._refusal(value, tensor, nodes)
            if reason is None:
                stored[value.name or ""] = writer.store(value, tensor, nodes)
            else:
                kept.update({n.name or n.outputs[0].name or "": reason for n in nodes})
        for node in model.graph:
            if node.op_type in ("MatMul", "Gemm") and (w := node.inputs[1]) is not None:
                producer = w.producer()
                if producer is not None and producer.op_type != "DequantizeLinear":
                    kept[node.name or node.outputs[0].name or ""] = f"'{w.name}' is computed"
        context.records[self.name] = {
            "bits": self.bits,
            "block": self.block,
            "stored": stored,
            "kept": kept,
            "bytes": {
                key: sum(entry["bytes"][key] for entry in stored.values())
                for key in ("before", "after")
            },
        }
        return model

    def _refusal(
        self, value: ir.Value, tensor: ir.TensorProtocol, nodes: Sequence[ir.Node]
    ) -> str | None:
        """Why a weight stays as it is, None if it can be stored."""
        name = f"'{value.name}'"
        if any(node.graph is not nodes[0].graph or node.graph is not value.graph for node in nodes):
            return f"{name} is read in a nested graph"
        if len(tensor.shape) != 2:
            return f"{name} is no matrix"
        if tensor.size < self.smallest:
            return f"{name} has {tensor.size} elements only"
        if len(nodes) < len(value.uses()) or value.is_graph_output():
            return f"{name} is read otherwise too"
        if len({_layout(node) for node in nodes}) > 1:
            return f"{name} is read in several ways"
        if nodes[0].op_type == "Gather":
            if not self.tables:
                return f"{name} is a table, and tables were not asked for"
            if any(node.attributes.get_int("axis", 0) for node in nodes):
                return f"{name} is not looked up by its rows"
        return None


def _layout(node: ir.Node) -> str:
    """How a node reads its weight: alike, nodes can share what is stored."""
    if node.op_type == "Gather":
        return "rows"
    return "transposed" if node.attributes.get_int("transB", 0) else "as it lies"


class _Writer:
    """Puts integers, scales and DequantizeLinear into a graph."""

    def __init__(self, model: ir.Model, options: WeightOnly) -> None:
        self.graph, self.options = model.graph, options
        self.names = Names(model.graph)

    def store(
        self, value: ir.Value, tensor: ir.TensorProtocol, nodes: Sequence[ir.Node]
    ) -> dict[str, Any]:
        """One weight; what is said of it: bits, SNR in dB, bytes before and after."""
        layout, weight = _layout(nodes[0]), tensor.numpy().astype(np.float32)
        rows = layout == "rows"
        bits = 8 if rows else self.options.bits
        columns = weight if rows or layout == "transposed" else weight.T  # what is summed, last
        word = f"int{bits}" if self.options.symmetric else f"uint{bits}"
        scheme = Scheme.parse(word, symmetric=self.options.symmetric)
        block = self.options.block or columns.shape[1]
        grid, q, loss = _fit(columns, block, scheme, self.options.method)
        parts = [(q, scheme.dtype), (grid.scale, tensor.dtype)]
        if not self.options.symmetric:
            parts.append((grid.zero, scheme.dtype))
        flat = block >= columns.shape[1]  # one scale a column: no block needs to be named
        made = [
            self._constant(f"{value.name}.{word}" + ("", ".scale", ".zero")[i], part, dtype)
            for i, (part, dtype) in enumerate(
                (array if rows else _turned(array, i > 0 and flat), dtype)
                for i, (array, dtype) in enumerate(parts)
            )
        ]
        for node in nodes:
            if rows:
                self._look_up(node, made, block)
            else:
                self._multiply(node, made, 0 if flat else block)
        del self.graph.initializers[value.name or ""]
        after = sum(v.const_value.nbytes for v in made if v.const_value is not None)
        return {"bits": bits, "snr": loss, "bytes": {"before": tensor.nbytes, "after": after}}

    def _multiply(self, node: ir.Node, made: Sequence[ir.Value], block: int) -> None:
        weight = self._dequantized(node, made, 0 if block else 1, block)
        if node.op_type == "Gemm":
            node.attributes.pop("transB", None)
        node.replace_input_with(1, weight)

    def _look_up(self, node: ir.Node, made: Sequence[ir.Value], block: int) -> None:
        """Gather → DequantizeLinear in place of a Gather of floats."""
        found = []
        for value in made:
            gather = ir.node("Gather", [value, node.inputs[1]], {"axis": 0})
            out = gather.outputs[0]
            out.name = gather.name = self.names.fresh(f"{value.name}.rows")
            out.type = ir.TensorType(value.dtype or ir.DataType.UNDEFINED)
            self.graph.insert_before(node, gather)
            found.append(out)
        rows = self._dequantized(node, found, -1, block)
        old = node.outputs[0]
        rows.shape = old.shape
        old.replace_all_uses_with(rows, replace_graph_outputs=True)
        name = old.name
        self.graph.remove(node, safe=True)
        rows.name = name

    def _dequantized(
        self, node: ir.Node, read: Sequence[ir.Value], axis: int, block: int
    ) -> ir.Value:
        attributes = {"axis": axis} | ({"block_size": block} if block else {})
        made = ir.node("DequantizeLinear", list(read), attributes)
        value = made.outputs[0]
        value.name = made.name = self.names.fresh(f"{read[0].name}.real")
        value.type = ir.TensorType(read[1].dtype or ir.DataType.FLOAT)
        value.shape = read[0].shape
        self.graph.insert_before(node, made)
        return value

    def _constant(self, like: str, array: Array, dtype: ir.DataType) -> ir.Value:
        name = self.names.fresh(like)
        data = np.array(array, dtype.numpy(), order="C")
        tensor = ir.Tensor(data, dtype=dtype, name=name)
        value = ir.Value(
            name=name, shape=tensor.shape, type=ir.TensorType(dtype), const_value=tensor
        )
        self.graph.register_initializer(value)
        return value


def _turned(array: Array, flat: bool) -> Array:
    """[columns, summed] → [summed, columns]; one scale a column: [columns]."""
    return array[:, 0] if flat else array.T


def _fit(columns: Array, block: int, scheme: Scheme, method: str) -> tuple[Grid, Array, float]:
    """Grid and integers of every block.

    Args:
        columns: float32[n, k], k being the summed axis.
        block: Elements along k that share a scale.
        scheme: The integers.
        method: How a grid is found.

    Returns: a grid with scales and zeros [n, ⌈k/block⌉]; the integers [n, k]; the SNR in dB.
    """
    n, k = columns.shape
    blocks = -(-k // block)
    padded = np.zeros((n, blocks * block), np.float32)  # zeros cost nothing on any grid
    padded[:, :k] = columns
    rows = padded.reshape(n * blocks, block)
    grid = WEIGHT_METHODS[method].fit(rows, scheme, 0, None)
    q = grid.integers(rows)
    real = grid.reals(q).reshape(n, -1)[:, :k]
    noise = float(((columns - real).astype(np.float64) ** 2).sum())
    signal = float((columns.astype(np.float64) ** 2).sum())
    snr = float("inf") if noise == 0 else 10 * float(np.log10(signal / noise)) if signal else 0.0
    shaped = Grid(scheme, grid.scale.reshape(n, blocks), grid.zero.reshape(n, blocks))
    return shaped, q.reshape(n, -1)[:, :k], snr
