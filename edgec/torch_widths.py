"""Which attributes of torch's own layers say how wide they are, and what they are after a cut.

One entry per layer class: a function from the layer's new shapes to its new attributes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from edgec.errors import UnsupportedError
from edgec.plan import Slice

if TYPE_CHECKING:
    from torch import Tensor, nn

Attributes = dict[str, Any]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Layer:
    """A layer whose tensors were cut.

    Attributes:
        name: Its name in the module.
        module: The layer, as it was.
        shapes: Its own parameters and buffers → new shape.
        slices: Of those that were cut → slices.
    """

    name: str
    module: nn.Module
    shapes: Mapping[str, Shape]
    slices: Mapping[str, tuple[Slice, ...]]

    def groups(self, tensor: str, axis: int, groups: int) -> int:
        """How many of `groups` equal blocks of an axis keep anything."""
        for one in self.slices.get(tensor, ()):
            if one.axis == axis:
                kept = np.unique([index for block in one.blocks() for index in block])
                return len(np.unique(kept // (one.size // groups)))
        return groups

    def refuse(self, fact: str) -> UnsupportedError:
        """The error for sizes that the layer cannot have."""
        kind = type(self.module).__name__
        return UnsupportedError(
            self.name, f"nn.{kind} {fact}", "write it as separate layers, or keep those channels"
        )


def widths_of(
    module: nn.Module, shapes: Mapping[int, Shape], slices: Mapping[int, tuple[Slice, ...]]
) -> Iterator[tuple[nn.Module, Attributes]]:
    """The new attributes of every submodule whose tensors were cut.

    Args:
        module: The module, as it was.
        shapes: id of a tensor that was cut → new shape.
        slices: id of a tensor that was cut → its slices.

    Raises:
        UnsupportedError: A layer cannot have such sizes.
    """
    table = _table()
    for name, part in module.named_modules():
        own: dict[str, Tensor] = {
            **dict(part.named_parameters(recurse=False, remove_duplicate=False)),
            **dict(part.named_buffers(recurse=False, remove_duplicate=False)),
        }
        if not any(id(tensor) in shapes for tensor in own.values()):
            continue
        layer = Layer(
            name,
            part,
            {key: shapes.get(id(t), tuple(t.shape)) for key, t in own.items()},
            {key: slices[id(t)] for key, t in own.items() if id(t) in slices},
        )
        for kind, attributes in table:
            if isinstance(part, kind):
                yield part, attributes(layer)
                break


def _table() -> list[tuple[Any, Callable[[Layer], Attributes]]]:
    from torch import nn
    from torch.nn.modules import batchnorm, conv, instancenorm

    return [
        (conv._ConvTransposeNd, _conv_transposed),
        (conv._ConvNd, _conv),
        (nn.Linear, partial(_sizes, "weight", ("out_features", "in_features"))),
        (nn.Bilinear, partial(_sizes, "weight", ("out_features", "in1_features", "in2_features"))),
        (nn.Embedding, partial(_sizes, "weight", ("num_embeddings", "embedding_dim"))),
        (nn.EmbeddingBag, partial(_sizes, "weight", ("num_embeddings", "embedding_dim"))),
        (instancenorm._InstanceNorm, _by_channel),
        (batchnorm._BatchNorm, _by_channel),
        (nn.GroupNorm, _group_norm),
        (nn.LayerNorm, lambda layer: {"normalized_shape": layer.shapes["weight"]}),
        (nn.RMSNorm, lambda layer: {"normalized_shape": layer.shapes["weight"]}),
        (nn.PReLU, partial(_sizes, "weight", ("num_parameters",))),
        (nn.RNNBase, _recurrent),
        (nn.RNNCellBase, _cell),
        (nn.MultiheadAttention, _attention),
    ]


def _sizes(tensor: str, names: tuple[str, ...], layer: Layer) -> Attributes:
    return dict(zip(names, layer.shapes[tensor], strict=True))


def _conv(layer: Layer) -> Attributes:
    """weight [out, in / groups, …]; whole groups may go, or as many channels of each."""
    out, per_group = layer.shapes["weight"][:2]
    groups = layer.groups("weight", 0, layer.module.groups)  # type: ignore[arg-type]
    return {"out_channels": out, "in_channels": per_group * groups, "groups": groups}


def _conv_transposed(layer: Layer) -> Attributes:
    """weight [in, out / groups, …]."""
    into, per_group = layer.shapes["weight"][:2]
    groups = layer.groups("weight", 0, layer.module.groups)  # type: ignore[arg-type]
    return {"in_channels": into, "out_channels": per_group * groups, "groups": groups}


def _by_channel(layer: Layer) -> Attributes:
    (shape, *_) = (layer.shapes[n] for n in ("weight", "running_mean") if n in layer.shapes)
    return {"num_features": shape[0]}


def _group_norm(layer: Layer) -> Attributes:
    groups = layer.groups("weight", 0, layer.module.num_groups)  # type: ignore[arg-type]
    return {"num_channels": layer.shapes["weight"][0], "num_groups": groups}


def _recurrent(layer: Layer) -> Attributes:
    """weight_ih [gates·h, in], weight_hh [gates·h, h or proj]; all layers are equally wide."""
    module: Any = layer.module
    old_rows = module.weight_ih_l0.shape[0]
    gates = old_rows // module.hidden_size
    rows, size = layer.shapes["weight_ih_l0"]
    hidden, made = rows // gates, layer.shapes["weight_hh_l0"][1]
    directions = 2 if module.bidirectional else 1
    for name, shape in layer.shapes.items():
        if name.startswith("weight_hh"):
            expected = (gates * hidden, made)
        elif name.startswith("weight_ih"):
            first = name.startswith("weight_ih_l0")
            expected = (gates * hidden, size if first else directions * made)
        else:
            continue
        if shape != expected:
            raise layer.refuse("has one width for all layers and directions; these differ")
    return {"input_size": size, "hidden_size": hidden} | (
        {"proj_size": made} if module.proj_size else {}
    )


def _cell(layer: Layer) -> Attributes:
    return {
        "input_size": layer.shapes["weight_ih"][1],
        "hidden_size": layer.shapes["weight_hh"][1],
    }


def _attention(layer: Layer) -> Attributes:
    raise layer.refuse("divides its width into heads, and scales by it, so it cannot be cut")
