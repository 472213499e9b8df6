"""What a pass is.

A pass is a frozen dataclass: its fields are its options, its `name` is its word on the command line
and in recipes. The base class runs it: requires → run → ensures → lint, and says which pass failed,
after which passes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgec.errors import EdgecError
from edgec.graph.lint import lint


class Data(Protocol):
    """Samples for calibration, streamed."""

    def batches(self, batch_size: int) -> Iterator[Mapping[str, NDArray[Any]]]:
        """Feeds: input name → array with the batch first."""


@dataclass
class Context:
    """What passes share besides the model.

    Attributes:
        data: Calibration samples, None if there are none.
        twin: What activations are observed in, if that is not the model itself: the same with
            its nodes named alike.
        seed: Seed of everything random.
        done: Names of the passes that ran.
        records: name of a pass → what it decided and why, for report and manifest.
    """

    data: Data | None = None
    twin: ir.Model | None = None
    seed: int = 0
    done: list[str] = field(default_factory=list)
    records: dict[str, Any] = field(default_factory=dict)

    def rng(self, purpose: str) -> np.random.Generator:
        """A generator of its own for each purpose, so that passes do not disturb each other."""
        return np.random.default_rng([self.seed, *purpose.encode()])


@dataclass(frozen=True)
class Pass(ABC):
    """A step that takes a model and gives a model."""

    name: ClassVar[str]

    def requires(self, model: ir.Model, context: Context) -> None:
        """Raises EdgecError if the pass cannot run on this model. Nothing by default."""
        return

    @abstractmethod
    def run(self, model: ir.Model, context: Context) -> ir.Model:
        """Does the work; may change `model` in place or return another."""

    def ensures(self, model: ir.Model, context: Context) -> None:
        """Raises EdgecError if the result is not what the pass promises. Nothing by default."""
        return

    def __call__(self, model: ir.Model, context: Context) -> ir.Model:
        """requires → run → ensures → lint."""
        self.requires(model, context)
        return self.conclude(self.run(model, context), context)

    def conclude(self, model: ir.Model, context: Context) -> ir.Model:
        """What follows the work, also where a pass is run in steps: ensures → lint."""
        self.ensures(model, context)
        try:
            lint(model)
        except EdgecError as error:
            after = ", ".join(context.done) or "no pass"
            error.add_note(f"in pass '{self.name}', after {after}")
            raise
        context.done.append(self.name)
        return model
