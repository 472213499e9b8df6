"""What a row of the architecture zoo says, and how it becomes a torch network and an ONNX file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import onnx

from zoo.exporting import cached, exported

if TYPE_CHECKING:
    import torch

Settings = Mapping[str, Any]

SIZES = {"batch": 2, "sequence": 10, "target": 6}
"""What a symbolic dim is when a network is traced and analysed."""


@dataclass(frozen=True)
class Input:
    """A graph input. Dims that are names stay symbolic; `ids` is how many an integer may take."""

    shape: tuple[int | str, ...]
    ids: int = 0

    @property
    def sizes(self) -> tuple[int, ...]:
        """The shape with numbers for all names."""
        return tuple(SIZES[d] if isinstance(d, str) else d for d in self.shape)


@dataclass(frozen=True)
class Architecture:
    """One network.

    Attributes:
        name: What the tests call it.
        family: What the page files it under.
        model: The class of `transformers`.
        settings: What its configuration sets apart from the defaults.
        inputs: By the names of the class's forward.
        outputs: Attributes of its result, in this order.
        options: Further arguments of forward.
        part: The submodule that is exported, if not all of it.
    """

    name: str
    family: str
    model: str
    settings: Settings
    inputs: Mapping[str, Input]
    outputs: tuple[str, ...] = ("logits",)
    options: Settings = field(default_factory=dict)
    part: str = ""

    def build(self) -> torch.nn.Module:
        """The network with fresh weights, from tensors to tensors."""
        import torch
        import transformers

        cls = getattr(transformers, self.model)
        inner = cls(cls.config_class(**self.settings)).get_submodule(self.part)
        names, outputs, options = list(self.inputs), self.outputs, dict(self.options)

        class Tensors(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.inner = inner

            def forward(self, *args: torch.Tensor) -> tuple[torch.Tensor, ...]:
                result = self.inner(**dict(zip(names, args, strict=True)), **options)
                return tuple(getattr(result, name) for name in outputs)

        return Tensors()

    def example(self) -> tuple[torch.Tensor, ...]:
        """Inputs that the network is traced with."""
        import torch

        return tuple(
            torch.randint(0, i.ids, i.sizes) if i.ids else torch.randn(i.sizes)
            for i in self.inputs.values()
        )

    def dynamic(self) -> dict[str, Any]:
        """The symbolic dims of every input, as `torch.export` wants them."""
        import torch

        dims = {name: torch.export.Dim(name) for name in SIZES}
        specs = tuple(
            {axis: dims[d] for axis, d in enumerate(i.shape) if isinstance(d, str)}
            for i in self.inputs.values()
        )
        return {"args": specs}

    def proto(self) -> onnx.ModelProto:
        """The export."""
        return cached(self.name, repr(self).encode(), self._export)

    def _export(self) -> onnx.ModelProto:
        return exported(self.build, self.example, self.dynamic(), tuple(self.inputs))


# Torch cannot decompose scaled_dot_product_attention where its bias is computed.
EAGER = {"attn_implementation": "eager"}
LAST = ("last_hidden_state",)
NO_CACHE = {"use_cache": False}

VIT = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
    "image_size": 32, "patch_size": 8, "num_labels": 10,
}  # fmt: skip
STAGES = {"hidden_sizes": [16, 24, 32, 48], "depths": [1, 1, 2, 1], "num_labels": 10}
TEXT = {
    "vocab_size": 99, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 48, "max_position_embeddings": 64, "num_labels": 5,
}  # fmt: skip


def pixels(size: int = 32, batch: int | str = "batch") -> dict[str, Input]:
    """A batch of square images."""
    return {"pixel_values": Input((batch, 3, size, size))}


def ids(batch: int | str = "batch", mask: bool = False) -> dict[str, Input]:
    """A batch of texts of equal length, with a mask of what is text if asked."""
    found = {"input_ids": Input((batch, "sequence"), 99)}
    return found | ({"attention_mask": Input((batch, "sequence"), 2)} if mask else {})


def image(
    name: str,
    family: str,
    model: str,
    settings: Settings,
    size: int = 32,
    outputs: tuple[str, ...] = ("logits",),
    batch: int | str = "batch",
) -> Architecture:
    """A network over images of `size` × `size`."""
    return Architecture(name, family, model, settings, pixels(size, batch), outputs)
