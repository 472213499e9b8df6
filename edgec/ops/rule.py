"""What edgec knows about one operator: a single record, `OpRule`.

A rule says how channel labels pass through the operator, what the operator costs, and which of
its constants name a channel count. It sees the node through a context that knows concrete shapes:

    View            attributes, shapes and constants of one node         → `flops`
    LabelContext    a View that also reads and writes labels             → `labels`
    RepairContext   a View of the node in the cut graph                  → `repair`
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgec.ops.repairing import RepairContext
from edgec.ops.tracing import LabelContext
from edgec.ops.view import FREE, Barrier, Cost, Fact, View, product


def _nothing(n: RepairContext) -> None:
    """No constant of the operator names a channel count."""


@dataclass(frozen=True)
class OpRule:
    """Everything edgec knows about one ONNX operator; the fields with defaults are the rare ones.

    Attributes:
        op_type: The operator, `Domain::Op` outside the default domain.
        labels: Reads the inputs' labels, ties what goes together, gives the outputs' labels.
        flops: The cost of the node from its shapes.
        example: A small model in ONNX text: documentation, fixture and test in one.
        repair: Derives afresh every attribute and constant that names a channel count.
        infer: Types and shapes of the outputs, for operators that the onnx package has no schema
            of; None where it has one.
    """

    op_type: str
    labels: Callable[[LabelContext], None]
    flops: Callable[[View], Cost]
    example: str
    repair: Callable[[RepairContext], None] = _nothing
    infer: Callable[[View], Sequence[Fact]] | None = None


def silent(n: LabelContext) -> None:
    """A labels rule for operators that read shapes or numbers alone: no channels are made."""


def free(n: View) -> Cost:
    """Moves data, computes nothing."""
    return FREE


def per_output(operations: int = 1) -> Callable[[View], Cost]:
    """`operations` per element of the first output."""
    return lambda n: Cost(0, operations * product(n.out_shape()))


def per_input(operations: int = 1) -> Callable[[View], Cost]:
    """`operations` per element of the first input."""
    return lambda n: Cost(0, operations * product(n.shape()))


def like_input(n: View) -> list[Fact]:
    """The output has the type and shape of the first input."""
    x = n.fact(0)
    return [Fact(x.dtype, x.shape)]


@dataclass(frozen=True)
class Stop:
    """A labels rule for operators through which no channel can be followed, and why."""

    why: str

    def __call__(self, n: LabelContext) -> None:
        """Pins what reaches the node."""
        raise Barrier(self.why)
