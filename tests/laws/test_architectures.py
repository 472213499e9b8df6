"""The laws over today's architectures, at sizes that the analysis was not told."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from zoo.architectures import ARCHITECTURES, ZOO

from edgec.budget import Budget
from edgec.errors import BudgetError
from edgec.graph.channels import ChannelGroups, channel_groups
from edgec.graph.cost import count
from edgec.graph.facts import facts_of
from edgec.graph.widths import Mask
from edgec.model_inputs import input_shapes
from edgec.passes.base import Context
from edgec.passes.prune.prune import Prune
from laws import obey, prepared
from laws.architectures import committed, findings, row, without_difference

FAST = (
    "convnext_v2", "levit", "vit", "swin_v2", "segformer", "detr", "bert", "llama", "gemma", "t5",
)  # fmt: skip
"""Some of every kind; the others are run by `-m slow`."""

RUNS = ({"batch": 1, "sequence": 7, "target": 4}, {"batch": 3, "sequence": 12, "target": 5})

NAMES = [
    pytest.param(name, marks=() if name in FAST else pytest.mark.slow, id=name) for name in ZOO
]


@pytest.mark.parametrize("across_norms", [False, True], ids=["", "across_norms"])
@pytest.mark.parametrize("name", NAMES)
def test_laws(name: str, across_norms: bool) -> None:
    """The same cut at two batch sizes and two sequence lengths, where they are symbolic."""
    found = [
        obey(ARCHITECTURES[name](), draws=1, dims=dims, across_norms=across_norms) for dims in RUNS
    ]
    assert all(f.changed > 0.01 for f in found if f.units)


@pytest.mark.parametrize("across_norms", [False, True], ids=["", "across_norms"])
@pytest.mark.parametrize("name", NAMES)
def test_budget(name: str, across_norms: bool) -> None:
    """Met to 0.5 % or to the last step of any group; or refused with what holds it."""
    groups = channel_groups(prepared(ARCHITECTURES[name]()), across_norms=across_norms)
    pruning = Prune((Budget("flops", 0.4),), round_to=1)
    plan = pruning.prepare(groups)
    (row,) = plan.feasibility()
    if not row.feasible:
        with pytest.raises(BudgetError) as error:
            pruning.cut(plan, Context())
        assert error.value.exit_code == 3
        assert any(f"'{pin.name}'" in str(error.value) for pin in groups.pinned)
        return
    cut = pruning.cut(plan, Context())
    achieved = count(cut.model, facts_of(cut.model, input_shapes(groups.model))).flops
    assert achieved <= row.bound
    if achieved < 0.995 * row.bound:
        costs = plan.model
        wider = [costs.totals(costs.removed(alive)).flops for alive in steps(groups, cut.alive)]
        assert min(wider) > row.bound


def steps(groups: ChannelGroups, alive: Mask) -> Iterator[Mask]:
    """What is kept if one group takes a unit back in each of its cells: bool[units]."""
    for group in groups:
        gone = group.units[~alive[group.units]]
        if gone.size:
            back = alive.copy()
            _, first = np.unique(group.cells[~alive[group.units]], return_index=True)
            back[gone[first]] = True
            yield back


@pytest.mark.parametrize("name", NAMES)
def test_page(name: str) -> None:
    """docs/architectures.md says what is found; `python -m laws.architectures` writes it anew."""
    line = row(name, findings(name, False), findings(name, True))
    assert committed()[name] == without_difference(line)


def test_page_lists_the_zoo() -> None:
    assert list(committed()) == list(ZOO)
    assert len(ZOO) >= 45
    assert set(FAST) <= set(ZOO)
