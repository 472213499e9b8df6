"""A model as the bytes of one protobuf, piece by piece: its weights are never copied all at once.

A message is its fields one after the other, in any order, and a field that holds a message or
bytes is a tag, a length and the content:

    ModelProto  = … · graph: GraphProto
    GraphProto  = … · initializer: TensorProto · initializer: TensorProto · …
    TensorProto = … · raw_data: bytes

So all but the data of the large weights is serialised as usual, the lengths follow from the sizes
of the tensors, and the data of a weight are read when its turn comes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from google.protobuf.message import Message  # type: ignore[import-untyped]
from onnx_ir import serde

_LARGE_BYTES = 1 << 16
_LENGTH_DELIMITED = 2  # the wire type of messages and bytes


@dataclass(frozen=True)
class _Weight:
    """An initializer: the field's bytes up to the data, and the tensor that has the data."""

    head: bytes
    tensor: ir.TensorProtocol | None = None

    @property
    def size(self) -> int:
        return len(self.head) + (0 if self.tensor is None else self.tensor.nbytes)


def pieces(model: ir.Model) -> Iterator[bytes]:
    """The bytes of `model` as an onnx.ModelProto. The same model gives the same bytes."""
    large = {
        name: value.const_value
        for name, value in model.graph.initializers.items()
        if value.const_value is not None and _is_large(value.const_value)
    }
    if not large:
        yield _bytes(serde.serialize_model(model))
        return
    frame = model.clone()
    for name, tensor in large.items():
        frame.graph.initializers[name].const_value = ir.Tensor(
            np.empty(0, tensor.dtype.numpy()),
            dtype=tensor.dtype,
            name=name,
            doc_string=tensor.doc_string,
            metadata_props=dict(tensor.metadata_props),
        )
    proto = serde.serialize_model(frame)
    graph = proto.graph
    weights = [_weight(graph, head, large.get(head.name)) for head in graph.initializer]
    graph.ClearField("initializer")
    rest = _bytes(graph)
    proto.ClearField("graph")

    yield _bytes(proto)
    yield _opening(proto, "graph", len(rest) + sum(weight.size for weight in weights))
    yield rest
    for weight in weights:
        yield weight.head
        if weight.tensor is not None:
            yield weight.tensor.tobytes()


def _is_large(tensor: ir.TensorProtocol) -> bool:
    strings = tensor.dtype == ir.DataType.STRING  # these are no raw data
    return not strings and tensor.nbytes >= _LARGE_BYTES


def _weight(graph: Message, proto: Message, tensor: ir.TensorProtocol | None) -> _Weight:
    if tensor is None:
        content = _bytes(proto)
        return _Weight(_opening(graph, "initializer", len(content)) + content)
    proto.ClearField("raw_data")
    proto.dims[:] = tensor.shape.numpy()
    content = _bytes(proto) + _opening(proto, "raw_data", tensor.nbytes)
    return _Weight(_opening(graph, "initializer", len(content) + tensor.nbytes) + content, tensor)


def _bytes(proto: Message) -> bytes:
    content: bytes = proto.SerializeToString(deterministic=True)
    return content


def _opening(proto: Message, field: str, length: int) -> bytes:
    """Tag and length of a field of `proto` that holds `length` bytes."""
    number = proto.DESCRIPTOR.fields_by_name[field].number
    return _varint(number << 3 | _LENGTH_DELIMITED) + _varint(length)


def _varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first; the high bit says that more follow."""
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)
