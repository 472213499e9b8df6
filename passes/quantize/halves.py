"""Float32 graphs in 16 bits: weights, activations, and casts where the two types meet.

What must stay in float32 is an island, with a reason (`islands`). Nodes that multiply by weights
go to 16 bits; all others take the side on which the fewest tensors are cast (`borders`), so that
an island grows over cheap neighbours instead of casting forth and back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import onnx_ir as ir

from edgec.calibration.ranges import observe
from edgec.errors import UsageError
from edgec.graph.facts import Facts, facts_of
from edgec.graph.names import Names
from edgec.model_inputs import input_shapes
from edgec.ops.view import Fact
from edgec.passes.base import Context, Data, Pass
from edgec.passes.quantize.borders import half_side
from edgec.passes.quantize.islands import FORMATS, Format, Ranges, Slots, islands, slots

# These are why one goes to 16 bits at all.
_PRODUCTS = {
    "Attention", "Conv", "ConvTranspose", "DeformConv", "Einsum", "GRU", "Gemm", "LSTM", "MatMul",
    "RNN",
}  # fmt: skip
_LARGE = 1024  # elements from which on a constant is to be stored in 16 bits
_GROWN = "lies between islands: less is cast so"


@dataclass(frozen=True)
class Halve(Pass):
    """Goes to float16 or bfloat16 wherever nothing speaks against it.

    Args:
        format: `float16` or `bfloat16`.
        ranges: Value → its least and greatest number over calibration samples; None: those of the
            context are observed. Without samples nothing is known of activations: operators that
            may overflow stay in float32.
        keep_inputs: Whether the graph's inputs and outputs stay float32.
        lacking: Operator → why the target has no kernel of the format for it.
    """

    name: ClassVar[str] = "halve"
    format: str = "float16"
    ranges: Ranges | None = None
    keep_inputs: bool = True
    lacking: Mapping[str, str] = field(default_factory=dict)

    def requires(self, model: ir.Model, context: Context) -> None:
        """A known format."""
        if self.format not in FORMATS:
            raise UsageError(
                f"format '{self.format}'", "is not known", f"give {' or '.join(FORMATS)}"
            )

    def run(self, model: ir.Model, context: Context) -> ir.Model:
        """Decides for every node, then changes types and casts. In place."""
        to = FORMATS[self.format]
        facts = facts_of(model, input_shapes(model))
        ranges = self.ranges if self.ranges is not None else _observed(model, facts, context.data)
        why = islands(model, facts, to, ranges, self.lacking)
        typed = _Typed(model, facts, to, why, self.keep_inputs)
        before = _bytes(model)
        casts = typed.apply()
        full = {
            n: why.get(n, _GROWN) for n in model.graph if n in typed.taken and n not in typed.half
        }
        context.records[self.name] = {
            "format": self.format,
            "ranges": len(ranges),
            "nodes": len(typed.half),
            "casts": casts,
            "bytes": {"before": before, "after": _bytes(model)},
            "islands": {_name(node): reason for node, reason in full.items()},
        }
        return model


def _observed(model: ir.Model, facts: Facts, data: Data | None) -> Ranges:
    """The ends of every float that the main graph reads or makes."""
    if data is None:
        return {}
    values = [*model.graph.inputs, *(v for n in model.graph for v in n.outputs if v.name)]
    names = [v.name or "" for v in values if v in facts and facts[v].dtype == ir.DataType.FLOAT]
    return {name: (h.least, h.greatest) for name, h in observe(model, names, data).items()}


class _Typed:
    """The side of every node, and the graph changed accordingly.

    Attributes:
        taken: Node → its inputs and outputs that take its type; of islands, all floats.
        half: The nodes that go to 16 bits.
    """

    def __init__(
        self,
        model: ir.Model,
        facts: Facts,
        to: Format,
        why: Mapping[ir.Node, str],
        keep_inputs: bool,
    ) -> None:
        self.model, self.facts, self.to, self.keep_inputs = model, facts, to, keep_inputs
        self.taken: dict[ir.Node, Slots] = {}
        for node in model.graph:
            found = slots(node, facts, to.dtype)
            if isinstance(found, str):
                found = (self._floats(node.inputs), self._floats(node.outputs))
            if found != ((), ()):
                self.taken[node] = found
        self.values = [
            v
            for v in (*model.graph.inputs, *(v for n in model.graph for v in n.outputs))
            if self._is_float(v)
        ]
        self.half = self._sides(why)
        self.names = Names(model.graph)

    def apply(self) -> int:
        """Changes the graph; how many casts it has got."""
        for node in self.half:
            self._retype(node)
        for value in list(self.model.graph.initializers.values()):
            if self._is_float(value):
                self._store(value)
        return sum(self._cast(value) for value in self.values)

    # --- sides

    def _sides(self, why: Mapping[ir.Node, str]) -> set[ir.Node]:
        order = list(self.taken)
        number = {node: i for i, node in enumerate(order)}
        full, outside = len(order), len(order) + 1  # what is always float32; the graph's borders
        tensors = []
        for value in self.values:
            producer = value.producer()
            if producer is None:
                start = outside
            else:
                makes = producer in number and value.index() in self.taken[producer][1]
                start = number[producer] if makes else full
            readers = [
                number[node] if node in number and i in self.taken[node][0] else full
                for node, i in value.uses()
                if not self._reads_any(node)
            ]
            readers += [outside] if value.is_graph_output() else []
            tensors.append((start, readers))
        heavy = [number[n] for n in order if n not in why and self._heavy(n)]
        fixed = [full, *(number[n] for n in order if n in why)]
        (fixed if self.keep_inputs else heavy).append(outside)
        side = half_side(len(order) + 2, heavy, fixed, tensors)
        return {node for node in order if number[node] in side}

    def _heavy(self, node: ir.Node) -> bool:
        if node.op_type in _PRODUCTS:
            return True
        read = [node.inputs[i] for i in self.taken[node][0]]
        tensors = [None if v is None else v.const_value for v in read]
        return any(t is not None and t.size >= _LARGE for t in tensors)

    def _reads_any(self, node: ir.Node) -> bool:
        """Whether a node of the graph reads floats of whatever type."""
        return node.op_type == "Cast" and node.graph is self.model.graph

    def _reads_half(self, node: ir.Node, i: int) -> bool:
        return node in self.half and i in self.taken[node][0]

    def _is_float(self, value: ir.Value | None) -> bool:
        return value is not None and self.facts.get(value, Fact()).dtype == ir.DataType.FLOAT

    def _floats(self, values: Any) -> tuple[int, ...]:
        return tuple(i for i, v in enumerate(values) if self._is_float(v))

    # --- the graph

    def _retype(self, node: ir.Node) -> None:
        """Attributes that name a type, and the types of the outputs."""
        if node.op_type == "Cast":
            node.attributes["to"] = ir.AttrInt64("to", self.to.dtype.value)
        elif node.op_type in ("Constant", "ConstantOfShape"):
            array = self.to.rounded(node.attributes["value"].as_tensor().numpy())
            node.attributes["value"] = ir.AttrTensor("value", ir.Tensor(array))
        elif node.op_type == "Attention" and "softmax_precision" not in node.attributes:
            node.attributes["softmax_precision"] = ir.AttrInt64(
                "softmax_precision", ir.DataType.FLOAT.value
            )
        for i in self.taken[node][1]:
            node.outputs[i].type = ir.TensorType(self.to.dtype)

    def _store(self, value: ir.Value) -> None:
        """A constant in the type of its readers; twice, if they differ."""
        graph, tensor = self.model.graph, value.const_value
        uses = [(node, i) for node, i in value.uses() if self._reads_half(node, i)]
        if not uses or tensor is None:
            return
        array = self.to.rounded(tensor.numpy())
        if len(uses) == len(value.uses()) and not value.is_graph_output():
            value.const_value = ir.Tensor(array, name=value.name)
            value.type = ir.TensorType(self.to.dtype)
            return
        name = self.names.fresh(f"{value.name}.{self.to.word}")
        copy = ir.Value(name=name, const_value=ir.Tensor(array, name=name))
        copy.type, copy.shape = ir.TensorType(self.to.dtype), ir.Shape(array.shape)
        graph.register_initializer(copy)
        for node, i in uses:
            node.replace_input_with(i, copy)

    def _cast(self, value: ir.Value) -> bool:
        """Casts a tensor for those who read it on the other side; whether there are any."""
        producer, output = value.producer(), value.is_graph_output()
        if producer is None:
            made = not self.keep_inputs
            value.type = ir.TensorType(self.to.dtype) if made else value.type
        else:
            made = producer in self.half and value.index() in self.taken[producer][1]
        others = [
            (node, i)
            for node, i in value.uses()
            if self._reads_half(node, i) != made and not self._reads_any(node)
        ]
        leaves = output and made == self.keep_inputs
        if not others and not leaves:
            return False
        dtype = ir.DataType.FLOAT if made else self.to.dtype
        node = ir.node("Cast", [value], {"to": dtype.value})
        cast = node.outputs[0]
        cast.type, cast.shape = ir.TensorType(dtype), value.shape
        cast.name = self.names.fresh(f"{value.name}.{dtype.name.lower()}")
        node.name = f"{cast.name}.cast"
        for reader, i in others:
            reader.replace_input_with(i, cast)
        if producer is None:
            self.model.graph.insert_before(self.model.graph[0], node)
        else:
            self.model.graph.insert_after(producer, node)
        if leaves:  # the graph's output keeps its name
            outputs = self.model.graph.outputs
            outputs[:] = [cast if v is value else v for v in outputs]
            value.name, cast.name = cast.name, value.name
        return True


def _name(node: ir.Node) -> str:
    return node.name or next((v.name for v in node.outputs if v.name), node.op_type)


def _bytes(model: ir.Model) -> int:
    tensors = [v.const_value for v in model.graph.initializers.values()]
    return sum(t.nbytes for t in tensors if t is not None)
