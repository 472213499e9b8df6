"""What single changes of a model do to its outputs, without running all of it for each change.

The model is cut into parts that run one after another. For a change inside one part, whatever lies
before it runs once for all changes of that part, and whatever lies behind it runs in sessions that
all changes share. No more than one part is loaded a second time for a change.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes.common import ShapeInferencePass

from edgec.calibration.moments import Run, runner
from edgec.graph.trace import captured
from edgec.model import copied

Array = NDArray[Any]
Feeds = Mapping[str, Array]

_AT_ONCE = 32  # sessions of changes that are open at a time


class Meter(Protocol):
    """Sums up what a change does."""

    def add(self, batch: int, outputs: Feeds) -> None:
        """The outputs of the changed model for the batch of that number."""


M = TypeVar("M", bound=Meter)
V = TypeVar("V", bound="Variant")


@dataclass(frozen=True)
class Variant:
    """A changed copy of a model.

    Args:
        nodes: The nodes that are changed or added to, by the name of an output that the unchanged
            model has. Values behind them keep their names.
        make: Makes the copy; weights are shared with the model.
    """

    nodes: frozenset[str]
    make: Callable[[], ir.Model]


class Parts:
    """A model cut into parts.

    Attributes:
        borders: For every cut, the beginning and the end among them, the names of the values that
            are made before it and read behind it.
    """

    def __init__(self, model: ir.Model, stops: Collection[ir.Node], most: int = 16) -> None:
        """Cuts where few values are alive.

        Args:
            model: Not changed; it must not change while the parts are in use.
            stops: Nodes before which cuts may lie, such as its products.
            most: The most parts.
        """
        self._model = model = _with_shapes(model)
        nodes = list(model.graph)
        alive = _alive(model, nodes)
        wanted = {stop.outputs[0].name for stop in stops}
        places = [
            i
            for i, n in enumerate(nodes)
            if i and n.outputs[0].name in wanted and _cuts_tensors(alive[i])
        ]
        size = -(-(len(places) + 1) // most)
        windows = [places[i : i + size] for i in range(size - 1, len(places), size)]
        cuts = [0, *(min(w, key=lambda i: len(alive[i])) for w in windows), len(nodes)]
        self.borders = [tuple(v.name or "" for v in alive[cut]) for cut in cuts]
        self._part_of = {
            value.name or "": part
            for part in range(len(cuts) - 1)
            for node in nodes[cuts[part] : cuts[part + 1]]
            for value in node.outputs
        }
        self._runs: dict[int, Run] = {}

    def __len__(self) -> int:
        return len(self.borders) - 1

    def span(self, nodes: Iterable[str]) -> tuple[int, int]:
        """The first part that holds one of the nodes, and the part behind the last that does."""
        found = [self._part_of[name] for name in nodes]
        return min(found), max(found) + 1

    def run(self, state: Feeds, start: int, stop: int) -> Feeds:
        """The values at border `stop` from those at border `start`."""
        for part in range(start, stop):
            if part not in self._runs:
                self._runs[part] = self.load(self._model, part, part + 1, state)
            state = self._runs[part](state)
        return state

    def load(self, model: ir.Model, start: int, stop: int, like: Feeds) -> Run:
        """A function from the values at one border to those at another, of `model` or a variant.

        Args:
            model: Has the values of both borders; those of the first get the types known here.
            start, stop: The borders.
            like: Values at the first border; they tell types that the model does not state.
        """
        known, values = values_of(self._model), values_of(model)
        for name in self.borders[start]:
            values[name].type, values[name].shape = known[name].type, known[name].shape
        untyped = {name: array for name, array in like.items() if not _holds(known[name], array)}
        return runner(model, self.borders[start], self.borders[stop], untyped)


def sweep(
    parts: Parts,
    variants: Sequence[V],
    batches: Callable[[], Iterable[Feeds]],
    meter: Callable[[], M],
) -> Iterator[tuple[V, M]]:
    """Runs every variant over all batches; what it did is given as soon as it is known.

    Args:
        parts: The unchanged model.
        variants: In any order; those of one part come out together.
        batches: Gives the same batches at each call.
        meter: Makes what the outputs of one variant are added to.
    """
    spans = [parts.span(variant.nodes) for variant in variants]
    for first in sorted({start for start, _ in spans}):
        here = [
            (v, stop) for v, (start, stop) in zip(variants, spans, strict=True) if start == first
        ]
        for at in range(0, len(here), _AT_ONCE):
            yield from _together(parts, first, here[at : at + _AT_ONCE], batches, meter)


def _together(
    parts: Parts,
    first: int,
    variants: Sequence[tuple[V, int]],
    batches: Callable[[], Iterable[Feeds]],
    meter: Callable[[], M],
) -> Iterator[tuple[V, M]]:
    meters = [meter() for _ in variants]
    runs: list[Run] = []
    for number, feeds in enumerate(batches()):
        state = parts.run({name: feeds[name] for name in parts.borders[0]}, 0, first)
        runs = runs or [parts.load(v.make(), first, stop, state) for v, stop in variants]
        for run, (_, stop), own in zip(runs, variants, meters, strict=True):
            own.add(number, parts.run(run(state), stop, len(parts)))
    yield from ((variant, own) for (variant, _), own in zip(variants, meters, strict=True))


def _with_shapes(model: ir.Model) -> ir.Model:
    """A copy with the shapes that can be told: ONNX Runtime arranges memory by them."""
    return ShapeInferencePass()(copied(model)).model


def _holds(value: ir.Value, array: Array) -> bool:
    """Whether a type is known, and true: files may keep shapes of the batch they were made with."""
    if value.type is None or value.shape is None or len(value.shape) != array.ndim:
        return False
    return all(d == n for d, n in zip(value.shape, array.shape, strict=True) if isinstance(d, int))


def _alive(model: ir.Model, nodes: Sequence[ir.Node]) -> list[list[ir.Value]]:
    """For every place before a node, and the end: values made before it and read from it on."""
    made: dict[ir.Value, int] = dict.fromkeys(model.graph.inputs, 0)
    last: dict[ir.Value, int] = {}
    for place, node in enumerate(nodes):
        read = [v for v in (*node.inputs, *captured(node)) if v in made]
        last |= {value: place for value in read if value is not None}
        if read:  # what depends on no input is computed wherever it is read
            made |= dict.fromkeys(node.outputs, place + 1)
    last |= {value: len(nodes) for value in model.graph.outputs if value in made}
    alive: list[list[ir.Value]] = [[] for _ in range(len(nodes) + 1)]
    for value, end in last.items():
        for place in range(made[value], end + 1):
            alive[place].append(value)
    return alive


def _cuts_tensors(values: Iterable[ir.Value]) -> bool:
    return all(v.type is None or isinstance(v.type, ir.TensorType) for v in values)


# --- changing copies -----------------------------------------------------------------------------


def values_of(model: ir.Model) -> dict[str, ir.Value]:
    """Name → value, of the inputs and of all that nodes of the graph make."""
    made = [value for node in model.graph for value in node.outputs]
    return {value.name or "": value for value in (*model.graph.inputs, *made)}


def put_constant(model: ir.Model, name: str, array: Array) -> ir.Value:
    """A new initializer; `name` must be free."""
    tensor = ir.Tensor(np.ascontiguousarray(array), name=name)
    value = ir.Value(
        name=name, shape=tensor.shape, type=ir.TensorType(tensor.dtype), const_value=tensor
    )
    model.graph.register_initializer(value)
    return value
