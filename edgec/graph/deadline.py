"""A limit to the time that analysis may take: what would hang ends in an error that says where.

Every step of the analysis (a walk over the graph, the search for groups) has a clock of its own,
looked at once per node or round: nothing that one node asks for takes long.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import onnx_ir as ir

from edgec.errors import UnsupportedError

# Ten times what 20,000 nodes, or GPT-2 XL, take on two cores (benchmarks/analysis_scale.py).
ANALYSIS_SECONDS = 300.0
_allowed = ContextVar("analysis seconds", default=ANALYSIS_SECONDS)


@contextmanager
def analysis_seconds(seconds: float) -> Iterator[None]:
    """Lets every step of an analysis inside take this long, s."""
    token = _allowed.set(seconds)
    try:
        yield
    finally:
        _allowed.reset(token)


class Clock:
    """The time of one step."""

    def __init__(self, step: str) -> None:
        self.step, self.seconds = step, _allowed.get()
        self._end = time.monotonic() + self.seconds

    def check(self, subject: str, done: str) -> None:
        """Raises UnsupportedError if the time is up.

        Args:
            subject: What was to come next.
            done: How far the step has come.
        """
        if time.monotonic() > self._end:
            raise UnsupportedError(
                subject,
                f"was not reached in time: {self.step} took more than {self.seconds:g} s, {done}",
                "allow more with --analysis-seconds, give smaller sizes with --input, or split the"
                " model",
            )


def walk(graph: ir.Graph, step: str) -> Iterator[ir.Node]:
    """The nodes of a graph in order, for as long as the time of the step lasts."""
    clock = Clock(step)
    for number, node in enumerate(graph):
        clock.check(f"node '{node.name}'", f"{number:,} of {len(graph):,} nodes were done")
        yield node
