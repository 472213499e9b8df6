"""Weights at the door: where they may lie, whether they fit their shape, whether they are finite.

External data become read-only views of one memory map per file: nothing is copied, and a model
of a thousand external tensors holds one file open, not a thousand.
"""

from __future__ import annotations

import math
import mmap
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir import serde

from edgec.errors import UnsupportedError, UsageError

MAX_BYTES = 16 << 30
_MAPS = "edgec.maps"  # key of a model's meta: the files that its weights are views of
_CHUNK = 1 << 20  # elements looked at together: 4 MB of float32
_SPOOLED, _SPOOLED_MODEL = 1 << 16, 8 << 20  # bytes of weights from which on they are spooled
_ALIGNED = 64
_RELEASE_BYTES = 1 << 28  # read of the maps before their pages are given back
_TYPED_FIELDS = (
    "float_data",
    "int32_data",
    "int64_data",
    "double_data",
    "uint64_data",
    "string_data",
)
# Where a weight is multiplied, an infinity is an error. Elsewhere it has its uses: attention
# masks, bounds of Clip, the empty Max.
_MULTIPLIERS = {
    "": frozenset(
        {"BatchNormalization", "Conv", "ConvTranspose", "DeformConv", "DequantizeLinear", "Einsum"}
        | {"GRU", "Gemm", "GroupNormalization", "InstanceNormalization", "LSTM"}
        | {"LayerNormalization", "MatMul", "PRelu", "RMSNormalization", "RNN"}
        | {"SimplifiedLayerNormalization"}
    ),
    "com.microsoft": frozenset(
        {"EmbedLayerNormalization", "FusedConv", "FusedGemm", "FusedMatMul"}
        | {"SkipLayerNormalization", "SkipSimplifiedLayerNormalization"}
    ),
}
_ATTENTION = ("com.microsoft", "Attention", 1)  # its weight; its mask may be infinite


def check_weights(model: ir.Model, folder: Path | None, subject: str) -> None:
    """Map external data into the model, then check every tensor of it.

    Args:
        model: Its external tensors are replaced by mapped ones.
        folder: Where relative external data lie and must stay; None: each tensor's own base_dir.
        subject: Whom to name in an error.

    Raises:
        UsageError: External data missing, outside the folder or too short; a tensor whose data do
            not fit its shape; a NaN; an infinity that a layer multiplies by.
        UnsupportedError: More than 16 GiB of weights.
    """
    maps = _Maps(folder, subject)
    _replace(model, lambda t: maps.tensor(t) if isinstance(t, ir.ExternalTensor) else t)
    declared = list(_sized(model, subject))
    total = sum(tensor.nbytes for _, tensor in declared)
    if total > MAX_BYTES:
        raise UnsupportedError(
            subject,
            f"holds {total / 2**30:.1f} GiB of weights, more than {MAX_BYTES >> 30} GiB",
            "split the model",
        )
    model.meta[_MAPS] = (*model.meta.get(_MAPS, ()), maps)
    read = 0
    for value, tensor in declared:
        multiplied = value is not None and any(_multiplies(*use) for use in value.uses())
        for part in _finite_parts(tensor, multiplied, subject):
            read += part.nbytes
            if read > _RELEASE_BYTES:
                release_pages(model)
                read = 0
    if folder is not None:  # nobody else has the protobuf: without its tensors it is gone
        del declared
        _replace(model, _own)
    release_pages(model)


def _multiplies(node: ir.Node, i: int) -> bool:
    """Whether the node multiplies by its input `i`, so that an infinity spoils the result."""
    domain = "" if node.domain == "ai.onnx" else node.domain
    known = node.op_type in _MULTIPLIERS.get(domain, ())
    return known or (domain, node.op_type, i) == _ATTENTION


def release_pages(model: ir.Model) -> None:
    """Give back the memory that reading mapped weights has filled; they stay usable.

    Does nothing for weights that are not mapped: those of models from one file, or from memory.
    """
    for maps in model.meta.get(_MAPS, ()):
        maps.release_pages()


def spool_weights(model: ir.Model) -> None:
    """Moves the weights of a model to a file without a name, from which they are mapped.

    They stay as they are, but the memory that reading them fills can be given back. Small weights,
    those that are mapped already, and those of a small model stay where they are.
    """
    large = [
        (value, value.const_value)
        for value in _initializers(model)
        if value.const_value is not None
        and value.const_value.dtype != ir.DataType.STRING
        and value.const_value.dtype.bitwidth >= 8
        and value.const_value.nbytes >= _SPOOLED
        and not _is_mapped(value.const_value)
    ]
    if sum(tensor.nbytes for _, tensor in large) < _SPOOLED_MODEL:
        return
    with tempfile.TemporaryFile() as file:
        places = []
        for _, tensor in large:
            file.write(b"\0" * (-file.tell() % _ALIGNED))
            places.append(file.tell())
            file.write(tensor.tobytes())
        file.flush()
        spool = _Spool(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    for (value, tensor), start in zip(large, places, strict=True):
        raw = np.frombuffer(spool.mapped, np.uint8, count=tensor.nbytes, offset=start)
        array = raw.view(tensor.dtype.numpy()).reshape(tensor.shape.numpy())
        value.const_value = ir.Tensor(
            array, dtype=tensor.dtype, name=tensor.name, doc_string=tensor.doc_string,
            metadata_props=dict(tensor.metadata_props),
        )  # fmt: skip
    model.meta[_MAPS] = (*model.meta.get(_MAPS, ()), spool)
    release_pages(model)


@dataclass(frozen=True)
class _Spool:
    """A mapped file that has no name any more: it goes with the last view of it."""

    mapped: mmap.mmap

    def release_pages(self) -> None:
        """Gives back the memory that reading has filled."""
        if hasattr(self.mapped, "madvise"):  # not on Windows
            self.mapped.madvise(mmap.MADV_DONTNEED)


def _is_mapped(tensor: ir.TensorProtocol) -> bool:
    """Whether it is a view of a mapped file."""
    if not isinstance(tensor, ir.Tensor):
        return False
    root: object = tensor.numpy()
    while isinstance(root, np.ndarray | memoryview):
        root = root.base if isinstance(root, np.ndarray) else root.obj
    return isinstance(root, mmap.mmap)


def forget_weights(model: ir.Model) -> None:
    """Drop the values of all weights; names, types and shapes stay."""
    for value in _initializers(model):
        if value.shape is None and value.const_value is not None:
            value.shape = ir.Shape(value.const_value.shape.numpy())
        value.const_value = None


def _initializers(model: ir.Model) -> Iterator[ir.Value]:
    for graph in model.graphs():
        yield from graph.initializers.values()


def _replace(model: ir.Model, change: Callable[[ir.TensorProtocol], ir.TensorProtocol]) -> None:
    """Put `change(tensor)` in the place of every initializer's and every attribute's tensor."""
    for weight in _initializers(model):
        if weight.const_value is not None:
            weight.const_value = change(weight.const_value)
    for node in model.graph.all_nodes():
        for attribute in [a for a in node.attributes.values() if _tensors(a)]:
            changed = [change(tensor) for tensor in _tensors(attribute)]
            node.attributes[attribute.name] = (
                ir.AttrTensor(attribute.name, changed[0])
                if attribute.type == ir.AttributeType.TENSOR
                else ir.AttrTensors(attribute.name, changed)
            )


def _own(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
    """A tensor of a protobuf as an array, which then is read without being copied each time."""
    if not isinstance(tensor, serde.TensorProtoTensor) or tensor.dtype.bitwidth < 8:
        return tensor
    return ir.Tensor(
        tensor.numpy(),
        dtype=tensor.dtype,
        name=tensor.name,
        doc_string=tensor.doc_string,
        metadata_props=dict(tensor.metadata_props),
    )


def _sized(model: ir.Model, subject: str) -> Iterator[tuple[ir.Value | None, ir.TensorProtocol]]:
    """Every tensor with the value it gives; its shape and type checked against its data's size."""
    for value in _initializers(model):
        if value.const_value is None:
            raise UsageError(subject, f"the weight '{value.name}' has no data", "export it again")
        _check_size(value.const_value, subject)
        yield value, value.const_value
    for node in model.graph.all_nodes():
        for attribute in node.attributes.values():
            for tensor in _tensors(attribute):
                _check_size(tensor, subject)
                yield (node.outputs[0] if len(node.outputs) == 1 else None), tensor


def _tensors(attribute: ir.Attr) -> tuple[ir.TensorProtocol, ...]:
    if attribute.type == ir.AttributeType.TENSOR:
        return (attribute.value,)
    if attribute.type == ir.AttributeType.TENSORS:
        return tuple(attribute.value)
    return ()


def _check_size(tensor: ir.TensorProtocol, subject: str) -> None:
    """Compare what a protobuf tensor declares with what it holds, before numpy allocates it."""
    if isinstance(tensor, serde.TensorProtoTensor):
        proto = tensor.raw
        dtype, size = tensor.dtype, math.prod(proto.dims)
        if proto.HasField("raw_data"):
            fits = len(proto.raw_data) == math.ceil(size * dtype.bitwidth / 8)
        else:
            held = sum(len(getattr(proto, field)) for field in _TYPED_FIELDS)
            per_byte = max(1, 8 // dtype.bitwidth)
            # The bound comes first: numpy must not be asked for what the file cannot hold.
            fits = size <= held * per_byte and (held == 0 or _reads(tensor))
    elif isinstance(tensor, ir.StringTensor):
        fits = len(tensor.string_data()) == math.prod(tensor.shape.numpy())
    else:
        fits = True  # an array of numpy's: its shape is its data's
    if not fits:
        _misfit(tensor, subject)


def _reads(tensor: serde.TensorProtoTensor) -> bool:
    try:
        return bool(tensor.numpy().shape == tuple(tensor.raw.dims))
    except (ValueError, TypeError, AssertionError, OverflowError):
        return False  # onnx_ir asserts that the typed field suits the element type


def _misfit(tensor: ir.TensorProtocol, subject: str) -> None:
    fact = f"the tensor '{tensor.name}' does not hold the {tensor.size} elements of its shape"
    raise UsageError(subject, fact, "export the model again")


def _finite_parts(
    tensor: ir.TensorProtocol, multiplied: bool, subject: str
) -> Iterator[NDArray[Any]]:
    """The tensor part by part, each checked when it is asked for."""
    dtype = tensor.dtype
    if not (dtype.is_floating_point() or dtype.name.startswith("COMPLEX")) or dtype.bitwidth < 8:
        return
    flat = tensor.numpy().reshape(-1)
    for start in range(0, flat.size, _CHUNK):
        part = flat[start : start + _CHUNK]
        if not np.isfinite(part).all():
            if np.isnan(part).any():
                _not_finite(tensor, "NaN", subject)
            if multiplied:
                _not_finite(tensor, "an infinity", subject)
        yield part


def _not_finite(tensor: ir.TensorProtocol, what: str, subject: str) -> None:
    raise UsageError(
        subject, f"the weight '{tensor.name}' holds {what}", "the training diverged: train it again"
    )


class _Maps:
    """The external files of one model, each mapped once."""

    def __init__(self, folder: Path | None, subject: str) -> None:
        self._folder = folder
        self._subject = subject
        self._open: dict[Path, mmap.mmap] = {}
        self._known: dict[tuple[str, str], tuple[Path, int]] = {}

    def tensor(self, external: ir.ExternalTensor) -> ir.TensorProtocol:
        """The same tensor as a view of the mapped file.

        Raises:
            UsageError: The file may not be read, does not exist, or is too short.
        """
        dtype, shape = external.dtype, tuple(external.shape.numpy())
        if dtype in (ir.DataType.STRING, ir.DataType.UNDEFINED):
            self._refuse(external, f"is a {dtype.name} tensor, which cannot be external")
        path, end = self._file(external)
        offset, nbytes = external.offset or 0, external.nbytes
        if external.length not in (None, 0, nbytes):
            self._refuse(external, f"needs {nbytes} bytes, and names {external.length}")
        if offset < 0 or offset + nbytes > end:
            self._refuse(
                external, f"needs bytes {offset}–{offset + nbytes} of '{external.location}' ({end})"
            )
        if nbytes == 0:
            return ir.Tensor(np.empty(shape, dtype.numpy()), dtype=dtype, name=external.name)
        raw = np.frombuffer(self._map(path), np.uint8, count=nbytes, offset=offset)
        if dtype.bitwidth < 8:
            # Unpacking copies anyway, and the protobuf reader knows every packed format.
            proto = onnx.TensorProto(
                name=external.name, dims=shape, data_type=dtype.value, raw_data=raw.tobytes()
            )
            return serde.TensorProtoTensor(proto)
        array = raw.view(np.dtype(dtype.numpy()).newbyteorder("<")).reshape(shape)
        return ir.Tensor(array, dtype=dtype, name=external.name, doc_string=external.doc_string)

    def release_pages(self) -> None:
        """As the function above."""
        for mapped in self._open.values():
            if hasattr(mapped, "madvise"):  # not on Windows
                mapped.madvise(mmap.MADV_DONTNEED)

    def _map(self, path: Path) -> mmap.mmap:
        if path not in self._open:
            with path.open("rb") as file:
                self._open[path] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return self._open[path]

    def _file(self, external: ir.ExternalTensor) -> tuple[Path, int]:
        """The file that holds `external` and its bytes, looked for once."""
        key = (os.fspath(external.base_dir or ""), os.fspath(external.location))
        if key not in self._known:
            path = self._path(external)
            self._known[key] = path, path.stat().st_size
        return self._known[key]

    def _path(self, external: ir.ExternalTensor) -> Path:
        """The file that holds `external`, symbolic links resolved, inside the model's folder."""
        location = os.fspath(external.location)
        if not location or "\0" in location:
            self._refuse(external, "names no file for its external data")
        folder = (self._folder or Path(external.base_dir or ".")).resolve()
        try:
            path = (folder / location).resolve()
        except (OSError, RuntimeError):  # a ring of links, a name too long
            path = folder
        if os.path.isabs(location) or not path.is_relative_to(folder):
            raise UsageError(
                self._subject,
                f"the weight '{external.name}' lies outside the model's folder: '{location}'",
                "put the data beside the model and name it by its relative path",
            )
        if not path.is_file():
            raise UsageError(
                self._subject,
                f"the external data '{location}' of the weight '{external.name}' is missing",
                "copy the data file beside the model",
            )
        return path

    def _refuse(self, external: ir.ExternalTensor, fact: str) -> None:
        raise UsageError(
            self._subject, f"the weight '{external.name}' {fact}", "export the model again"
        )
