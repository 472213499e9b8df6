"""What a target is: capability check → build → load → run.

A target is a backend (ONNX Runtime, …) with the profile of the hardware that it builds for.
`reference.py` is the smallest one, and the one to copy.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgec.errors import UnsupportedError, UsageError
from edgec.model import MAX_EMBEDDED, save
from edgec.targets.profile import Profile

Feeds = Mapping[str, NDArray[Any]]
Outputs = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Refusal:
    """An operator that a target cannot take.

    Args:
        op: ``Op`` or ``domain::Op``; empty for the graph as a whole.
        nodes: The nodes, by name.
        reason: Why not.
        remedy: What to do about it.
    """

    op: str
    nodes: tuple[str, ...]
    reason: str
    remedy: str


@dataclass(frozen=True)
class Artifact:
    """What a target built.

    Args:
        files: Every file, `entry` among them.
        entry: The file to load.
    """

    files: tuple[Path, ...]
    entry: Path


class Runnable(Protocol):
    """An artifact that was loaded."""

    def run(self, feeds: Feeds) -> Outputs:
        """Output name → array, from input name → array.

        Errors:
            UsageError: the feeds do not fit. UnsupportedError: the backend fails.
        """


@dataclass(frozen=True)
class Target(ABC):
    """A backend, and the profile of the hardware that it builds for.

    Args:
        profile: The hardware.
        threads: Threads inside an operator, for backends that can be told.
    """

    backend: ClassVar[str]
    profile: Profile
    threads: int = 1

    @property
    def name(self) -> str:
        """The profile's name."""
        return self.profile.name

    @abstractmethod
    def supports(self, model: ir.Model) -> tuple[Refusal, ...]:
        """Everything that stands in the way of building `model`, at once."""

    def build(self, model: ir.Model, folder: Path, *, embedded: int = MAX_EMBEDDED) -> Artifact:
        """Lower `model` into files in `folder`. Here: ``model.onnx``, with its external data.

        Args:
            model: The model.
            folder: Where the files go.
            embedded: Larger weights lie in a file of their own, where the format has one: that is
                loaded in less memory.

        Errors:
            UnsupportedError, UsageError: it cannot be built or written.
        """
        entry = folder / "model.onnx"
        save(model, entry, embedded=embedded)
        data = folder / "model.onnx.data"
        return Artifact((entry, data) if data.exists() else (entry,), entry)

    @abstractmethod
    def load(self, artifact: Artifact) -> Runnable:
        """Make an artifact ready to run.

        Errors:
            UnsupportedError: the backend cannot load it.
        """


def refuse(target: Target, refusals: Iterable[Refusal]) -> None:
    """Raise one UnsupportedError for all refusals; nothing if there are none."""
    refusals = tuple(refusals)
    if not refusals:
        return
    lines = [
        f"{refusal.op or 'the graph'}  {_some(refusal.nodes)}  {refusal.reason}; {refusal.remedy}"
        for refusal in refusals
    ]
    count = f"{len(refusals)} operator{'s' * (len(refusals) > 1)}"
    raise UnsupportedError(
        f"target '{target.name}'", f"{target.backend} cannot take {count}", "\n  ".join(lines)
    )


def check_feeds(feeds: Feeds, names: Iterable[str]) -> None:
    """Refuse feeds that lack an input, name another, or are no arrays."""
    names = list(names)
    for name in names:
        if name not in feeds:
            raise UsageError(f"input '{name}'", "is not fed", f"feed {', '.join(names)}")
    for name, array in feeds.items():
        if name not in names:
            raise UsageError(f"input '{name}'", "is not the model's", f"feed {', '.join(names)}")
        if not isinstance(array, np.ndarray):
            raise UsageError(f"input '{name}'", f"is no array but {type(array).__name__}")


def named(names: Iterable[str], values: Iterable[object]) -> Outputs:
    """Outputs by name; a sequence or an optional is refused."""
    outputs: Outputs = {}
    for name, value in zip(names, values, strict=True):
        if not isinstance(value, np.ndarray | np.generic):
            raise UnsupportedError(f"output '{name}'", "is not a tensor", "return tensors only")
        outputs[name] = np.asarray(value)
    return outputs


def op_name(node: ir.Node) -> str:
    """``Op``, or ``domain::Op`` outside the default domain."""
    return f"{node.domain}::{node.op_type}" if node.domain else node.op_type


def node_name(node: ir.Node) -> str:
    """The node's name, or its first output's if it has none."""
    return node.name or next((v.name for v in node.outputs if v.name), node.op_type)


def _some(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:3])
    return shown + (f", … ({len(names)})" if len(names) > 3 else "")
