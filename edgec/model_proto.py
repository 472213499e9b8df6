"""What a protobuf must be before onnx_ir reads it.

onnx_ir drops sparse weights and repeated names without a word, and hands on text that is not
UTF-8 and attributes without a type; here each of these is an error that names its place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

import onnx
from google.protobuf.descriptor import FieldDescriptor  # type: ignore[import-untyped]
from google.protobuf.message import Message  # type: ignore[import-untyped]

from edgec.errors import UnsupportedError, UsageError

MAX_NODES = 200_000
_AGAIN = "export the model again"
_ELEMENT_TYPES = frozenset(onnx.TensorProto.DataType.values()) - {onnx.TensorProto.UNDEFINED}
# The attribute types whose value, when absent, is no zero but nothing at all.
_MESSAGE_FIELDS = {
    onnx.AttributeProto.TENSOR: "t",
    onnx.AttributeProto.GRAPH: "g",
    onnx.AttributeProto.TYPE_PROTO: "tp",
}
_GRAPHS = (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)


def check_proto(proto: onnx.ModelProto, subject: str) -> None:
    """Refuse what would not survive onnx_ir, without reading a weight.

    Raises:
        UsageError: No graph, IR version or operator set; text that is not UTF-8; a name made
            twice; an attribute or tensor without a sensible type.
        UnsupportedError: A sparse weight; a function of graphs; more than 200,000 nodes.
    """
    if not proto.HasField("graph"):
        raise UsageError(subject, "holds no ONNX graph", "give a model that ONNX itself can open")
    if proto.ir_version < 1:
        raise UsageError(subject, "names no IR version, so it is no ONNX model", _AGAIN)
    if proto.ir_version > onnx.IR_VERSION:
        raise UnsupportedError(
            subject,
            f"is of IR version {proto.ir_version}, the onnx package knows {onnx.IR_VERSION}",
            "export it with an older version, or upgrade the packages onnx and onnxruntime",
        )
    if not proto.opset_import:
        raise UsageError(subject, "names no operator set, so it is no ONNX model", _AGAIN)
    nodes = 0
    for message, in_function in _messages(proto, subject):
        if isinstance(message, onnx.NodeProto):
            nodes += 1
            limit_nodes(nodes, subject)
        elif isinstance(message, onnx.GraphProto):
            _check_names(message, subject)
        elif isinstance(message, onnx.AttributeProto):
            _check_attribute(message, in_function, subject)
        elif isinstance(message, onnx.TensorProto):
            _check_tensor(message, subject)


def limit_nodes(count: int, subject: str) -> None:
    """Refuse more nodes than edgec takes."""
    if count > MAX_NODES:
        raise UnsupportedError(subject, f"has more than {MAX_NODES:,} nodes", "split the model")


def once(names: Iterable[str | None], kind: str, subject: str) -> None:
    """Refuse a name that comes twice."""
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise UsageError(subject, f"the {kind} '{twice[0]}' is defined more than once", _AGAIN)


def _messages(proto: onnx.ModelProto, subject: str) -> Iterator[tuple[Message, bool]]:
    """Every message with whether it is part of a function; tensors are not entered."""
    pending: list[tuple[Message, bool]] = [(proto, False)]
    while pending:
        message, in_function = pending.pop()
        yield message, in_function
        if isinstance(message, onnx.TensorProto):
            fields = [(message.DESCRIPTOR.fields_by_name["name"], message.name)]
        else:
            fields = message.ListFields()
        in_function = in_function or isinstance(message, onnx.FunctionProto)
        for field, value in fields:
            if field.type == FieldDescriptor.TYPE_MESSAGE:
                items = [value] if isinstance(value, Message) else value
                pending.extend((item, in_function) for item in items)
            elif field.type == FieldDescriptor.TYPE_STRING:
                items = [value] if isinstance(value, str | bytes) else value
                # protobuf reads text as str, and what is not UTF-8 as bytes
                broken = [item for item in items if isinstance(item, bytes)]
                if broken:
                    fact = f"a '{field.name}' in it is not UTF-8: {broken[0]!r:.40}"
                    raise UsageError(subject, fact, _AGAIN)


def _check_names(graph: onnx.GraphProto, subject: str) -> None:
    if graph.sparse_initializer:
        name = graph.sparse_initializer[0].values.name
        raise UnsupportedError(subject, f"the weight '{name}' is sparse", "store it dense")
    weights = [tensor.name for tensor in graph.initializer]
    inputs = [value.name for value in graph.input]
    listed = set(inputs)
    made = [name for node in graph.node for name in node.output if name]
    once(weights, "weight", subject)
    once([*inputs, *(name for name in weights if name not in listed), *made], "value", subject)
    once([value.name for value in graph.output], "graph output", subject)


def _check_attribute(attribute: onnx.AttributeProto, in_function: bool, subject: str) -> None:
    if attribute.ref_attr_name and not in_function:
        fact = "refers to an attribute of a function, and stands in none"
        raise UsageError(subject, f"the attribute '{attribute.name}' {fact}", _AGAIN)
    if attribute.ref_attr_name and attribute.type in _GRAPHS:
        fact = f"a function takes the graph '{attribute.ref_attr_name}' as an attribute"
        raise UnsupportedError(subject, fact, "inline the function before")
    if attribute.type == onnx.AttributeProto.UNDEFINED:
        raise UsageError(subject, f"the attribute '{attribute.name}' has no type", _AGAIN)
    field = _MESSAGE_FIELDS.get(attribute.type)
    if (
        field is not None
        and not attribute.ref_attr_name
        and not getattr(attribute, field).ByteSize()
    ):
        raise UsageError(subject, f"the attribute '{attribute.name}' has no value", _AGAIN)


def _check_tensor(tensor: onnx.TensorProto, subject: str) -> None:
    if tensor.data_type not in _ELEMENT_TYPES:
        fact = f"the tensor '{tensor.name}' has the unknown element type {tensor.data_type}"
        raise UsageError(subject, fact, _AGAIN)
    if any(dim < 0 for dim in tensor.dims):
        raise UsageError(subject, f"the tensor '{tensor.name}' has a negative size", _AGAIN)
    for entry in tensor.external_data:
        whole = entry.value.isascii() and entry.value.isdecimal()
        if entry.key in ("offset", "length") and not whole:
            fact = f"the external data of '{tensor.name}' have the {entry.key} '{entry.value}'"
            raise UsageError(subject, fact, _AGAIN)
