"""Two networks advanced side by side, layer by layer, over all samples.

A repair in the order of the graph needs, at each layer, the input that the repaired part of the
cut network gives it and the output that the original has there. Running both from the start for
each layer would cost the square of the depth. Here each network is run once in all: its *stages*
are the parts between one layer and the next, and the values that a later stage reads wait on disk,
so that memory depends neither on the number of samples nor on the depth.

    stage of a node = the most layers on a way to it, itself included
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgec.calibration.moments import Run, runner
from edgec.graph.trace import captured

Array = NDArray[Any]


def inputs_of(node: ir.Node) -> Iterator[ir.Value]:
    """The values a node reads, those of nested graphs among them; initializers left out."""
    for value in (*node.inputs, *captured(node)):
        if value is not None and value.const_value is None:
            yield value


def stages(graph: ir.Graph, layers: Collection[str]) -> dict[str, int]:
    """Value name → stage of its node; graph inputs are at stage 0.

    Args:
        graph: Nodes in topological order.
        layers: Names of the first outputs of the layers.
    """
    found = {v.name or "": 0 for v in graph.inputs}
    for node in graph:
        stage = max((found[v.name or ""] for v in inputs_of(node)), default=0)
        if node.outputs and node.outputs[0].name in layers:
            stage += 1
        found.update((v.name or "", stage) for v in node.outputs)
    return found


class Frontier:
    """One network with the values that separate what has run from what has not.

    Attributes:
        stage: Value name → stage.
        done: The last stage that has run.
    """

    def __init__(self, model: ir.Model, layers: Collection[str], folder: Path) -> None:
        self.model = model
        self.stage = stages(model.graph, layers)
        self.done = 0
        self.batches = 0
        self._folder = folder
        self._live: dict[str, int] = {}  # name → number of its files
        self._made = 0
        self._last_read = dict(self.stage)
        for node in model.graph:
            stage = max((self.stage[v.name or ""] for v in node.outputs), default=0)
            for value in inputs_of(node):
                name = value.name or ""
                self._last_read[name] = max(self._last_read[name], stage)

    def load(self, batches: Iterable[Mapping[str, Array]]) -> list[int]:
        """Stores the samples and runs stage 0; the number of samples in each batch."""
        names = [v.name or "" for v in self.model.graph.inputs]
        self._new(names)
        sizes = []
        for feeds in batches:
            for name in names:
                np.save(self._path(name, self.batches), feeds[name])
            sizes.append(len(feeds[names[0]]))
            self.batches += 1
        self._run(0, ())
        return sizes

    def advance(self, keep: Collection[str] = ()) -> None:
        """Runs the next stage; values in `keep` stay until the one after it, read or not."""
        self.done += 1
        self._run(self.done, keep)

    def read(self, name: str, batch: int) -> Array:
        """A live value on one batch."""
        return np.asarray(np.load(self._path(name, batch)))

    def peek(self, names: Collection[str]) -> Run:
        """A function from batch feeds to values just past the frontier."""
        return runner(self.model, list(self._live), names, self._like())

    def feeds(self, batch: int) -> Mapping[str, Array]:
        """All live values on one batch, each read when it is asked for."""
        return _Feeds(self, batch)

    def _like(self) -> dict[str, Array]:
        if not self.batches:
            return {}
        return {name: np.load(self._path(name, 0), mmap_mode="r") for name in self._live}

    def _run(self, stage: int, keep: Collection[str]) -> None:
        made = [
            name
            for name, at in self.stage.items()
            if at == stage and name not in self._live
            and (self._last_read[name] > stage or name in keep)
        ]  # fmt: skip
        run = self.peek(made)
        self._new(made)
        for batch in range(self.batches):
            for name, value in run(self.feeds(batch)).items():
                np.save(self._path(name, batch), value)
        for name in [n for n in self._live if self._last_read[n] <= stage and n not in keep]:
            for batch in range(self.batches):
                self._path(name, batch).unlink()
            del self._live[name]

    def _new(self, names: Iterable[str]) -> None:
        for name in names:
            self._live[name] = self._made
            self._made += 1

    def _path(self, name: str, batch: int) -> Path:
        return self._folder / f"{self._live[name]}.{batch}.npy"


class _Feeds(Mapping[str, Array]):
    def __init__(self, frontier: Frontier, batch: int) -> None:
        self._frontier, self._batch = frontier, batch

    def __getitem__(self, name: str) -> Array:
        return self._frontier.read(name, self._batch)

    def __iter__(self) -> Iterator[str]:
        return iter(self._frontier._live)

    def __len__(self) -> int:
        return len(self._frontier._live)
