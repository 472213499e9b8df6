"""Every node gets a name that is its alone, so that reports and patterns can tell nodes apart.

A node without a name, or with one that another has too, takes the name of its first output: values
are named once. plan.json calls such nodes the same.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from edgec.passes.base import Context, Pass


@dataclass(frozen=True)
class NameNodes(Pass):
    """Names the nodes that have no name, or share it, after what they compute."""

    name: ClassVar[str] = "name-nodes"

    def run(self, model: ir.Model, context: Context) -> ir.Model:
        """Nodes of the main graph; an output's name that some node already has is left alone."""
        times = Counter(node.name for node in model.graph)
        for node in model.graph:
            made = next((value.name for value in node.outputs if value.name), None)
            if (not node.name or times[node.name] > 1) and made and not times[made]:
                node.name = made
        return model
