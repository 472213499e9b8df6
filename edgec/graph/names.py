"""Names for new values and nodes: none that the graph, or one nested in it, has already."""

from __future__ import annotations

import onnx_ir as ir


class Names:
    """All names of the values and nodes of a graph, and new ones."""

    def __init__(self, graph: ir.Graph) -> None:
        self.taken = {value.name for value in (*graph.inputs, *graph.initializers.values())}
        for node in ir.traversal.RecursiveGraphIterator(graph):
            self.taken |= {value.name for value in (*node.inputs, *node.outputs) if value}
            self.taken.add(node.name)
        self._tried: dict[str, int] = {}  # so that many names alike are not counted up each time

    def fresh(self, like: str) -> str:
        """`like`, or with a number behind it; taken from now on."""
        name, number = like, self._tried.get(like, 0)
        while name in self.taken:
            number += 1
            name = f"{like}.{number}"
        self._tried[like] = number
        self.taken.add(name)
        return name
