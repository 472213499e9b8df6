"""What edgec finds in each architecture of the zoo, and the page that says so.

    PYTHONPATH=tests python -m laws.architectures    # writes docs/architectures.md

The page is the expectation of the tests: a row that changes is a change in what edgec can do.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from zoo import feeds_of
from zoo.architectures import ARCHITECTURES, ZOO

from edgec.budget import Budget
from edgec.graph.channels import ChannelGroups, channel_groups
from edgec.graph.cut import remove_channels
from edgec.graph.mask import masked_model
from edgec.passes.prune.prune import Prune
from laws import draw, gap, prepared
from laws.running import run

PAGE = Path(__file__).parents[2] / "docs" / "architectures.md"
HEAD = """# Architectures

Networks of `transformers` with random weights, as `torch.onnx.export` writes them: what edgec finds
in each, from the graph alone. The sizes are small, the structure is that of the published networks.
The laws of channel removal hold for every row, at two batch sizes and two sequence lengths where
these are symbolic (`scripts/test -m slow tests/laws/test_architectures.py`).

- *groups*: decisions of the allocator; *pinned*: share of all channels that stay whatever is asked,
  the classes of the output among them.
- *least*: the smallest FLOPs that can be reached, as a share of the original's.
- *across norms*: the same with `--across-norms`.
- *difference*: cut network against masked original, largest over outputs, relative.

| architecture | family | nodes | groups | pinned | least | across norms: groups | pinned | least | difference |
|---|---|--:|--:|--:|--:|--:|--:|--:|--:|
"""  # noqa: E501 - a row of a table is a line


@dataclass(frozen=True)
class Findings:
    """One analysis of one network: groups, pinned share, smallest share of FLOPs, difference."""

    nodes: int
    groups: int
    pinned: float
    least: float
    difference: float

    @property
    def cells(self) -> str:
        """Its cells of the page, without the difference, which is rounding."""
        return f"{self.groups} | {100 * self.pinned:.0f} % | {self.least:.3f}"


def findings(name: str, across_norms: bool) -> Findings:
    """Analyses the architecture `name` and cuts a random set from it."""
    groups = channel_groups(prepared(ARCHITECTURES[name]()), across_norms=across_norms)
    plan = Prune((Budget("flops", 1.0),), round_to=1).prepare(groups)
    free = sum(len(group.units) for group in groups)
    held = sum(len(pin.units) for pin in groups.pinned)
    least = plan.floor.flops / plan.original.flops
    nodes = len(list(groups.model.graph))
    return Findings(nodes, len(groups), held / (free + held), least, _difference(groups))


def _difference(groups: ChannelGroups) -> float:
    feeds = feeds_of(groups.model)
    cut = remove_channels(groups, draw(groups, np.random.default_rng(0)))
    whole, ours = run(groups.model, feeds), run(cut.model, feeds)
    theirs = run(masked_model(groups, cut.alive), feeds)
    return max(gap(a, b, c) for a, b, c in zip(ours, theirs, whole, strict=True))


def row(name: str, plain: Findings, across: Findings) -> str:
    """A line of the page."""
    difference = max(plain.difference, across.difference)
    return (
        f"| {name} | {ZOO[name].family} | {plain.nodes} | {plain.cells} | {across.cells} |"
        f" {difference:.0e} |"
    )


def committed() -> dict[str, str]:
    """The page as it is, name → line without the difference."""
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")][1:]
    return {line.split(" | ")[0].removeprefix("| "): without_difference(line) for line in lines}


def without_difference(line: str) -> str:
    """A line up to its last cell."""
    return line.rstrip(" |").rpartition(" | ")[0]


if __name__ == "__main__":
    rows = [row(name, findings(name, False), findings(name, True)) for name in ZOO]
    PAGE.write_text(HEAD + "\n".join(rows) + "\n")
