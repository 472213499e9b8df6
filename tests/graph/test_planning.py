"""Plans of real cuts: names that are unique, blocks as few as they can be, heads by themselves."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema  # type: ignore[import-untyped]
import numpy as np
import pytest
from laws import draw, prepared
from laws.attacks import ATTACKS
from zoo.patterns import PATTERNS

import edgec
from edgec.document import canonical
from edgec.errors import UsageError
from edgec.graph.channels import ChannelGroups, channel_groups
from edgec.graph.cut import remove_channels
from edgec.plan import Mask, Plan
from edgec.planning import plan_of, reader_names

SCHEMA = json.loads((Path(edgec.__file__).parent / "plan.schema.json").read_text())


def analysed(name: str) -> ChannelGroups:
    return channel_groups(prepared((PATTERNS | ATTACKS)[name]()))


def removed_per_row(groups: ChannelGroups, number: int, columns: list[list[int]]) -> list[int]:
    """Of each row, the units in these columns."""
    group = groups.groups[number]
    return [
        int(group.units[group.cells == row][column])
        for row, chosen in enumerate(columns)
        for column in chosen
    ]


def test_heads_keep_their_own_columns() -> None:
    groups = analysed("attention_separate")
    cut = remove_channels(groups, removed_per_row(groups, 0, [[0, 1], [1, 2], [0, 3]]))
    plan = plan_of(cut, "0" * 64, {})
    (mask,) = plan.masks
    assert mask == Mask(mask.node, 0, 3, 4, ((2, 3), (0, 3), (1, 2)), ((1, 3),))
    assert mask.mask((2, 3, 5, 4)).shape == (1, 3, 1, 4)
    assert np.argwhere(mask.mask((2, 3, 5, 4))[0, :, 0]).tolist() == [
        [0, 2], [0, 3], [1, 0], [1, 3], [2, 1], [2, 2],
    ]  # fmt: skip
    with pytest.raises(UsageError, match="does not fit"):
        mask.mask((2, 3, 5, 5))
    with pytest.raises(UsageError, match="blocks do not divide"):
        mask.mask((2, 4, 5, 4))


def test_blocks_are_as_few_as_can_be() -> None:
    """Six outputs of a group read the same inputs: two blocks, not twelve."""
    groups = analysed("grouped_conv")
    number = next(i for i, g in enumerate(groups) if g.width == 8)
    cut = remove_channels(groups, removed_per_row(groups, number, [[0], [2]]))
    (reads,) = (c for c in plan_of(cut, "0" * 64, {}).cuts if c.role == "in")
    assert reads.rows == ((0, 2),)
    assert reads.kept == ((1, 2, 3), (0, 1, 3))


def test_rows_that_agree_are_no_rows() -> None:
    groups = analysed("grouped_conv")
    number = next(i for i, g in enumerate(groups) if g.width == 8)
    cut = remove_channels(groups, removed_per_row(groups, number, [[1], [1]]))
    (reads,) = (c for c in plan_of(cut, "0" * 64, {}).cuts if c.role == "in")
    assert reads.rows == ()
    assert reads.kept == (0, 2, 3)


def test_readers_are_named_by_what_is_theirs_alone() -> None:
    model = analysed("names_clash").model
    names = reader_names(model)
    # The first node's name is the second's output, and so on; the third has the last's output.
    assert [names[node] for node in model.graph] == ["h", "g", "f", "n", "y"]
    named = analysed("conv_bn_relu").model
    for number, node in enumerate(named.graph):
        node.name = f"layer{number}"
    assert list(reader_names(named).values()) == [f"layer{i}" for i in range(4)]


@pytest.mark.parametrize("name", [*PATTERNS, *ATTACKS])
def test_plans_fit_the_schema_and_read_back(name: str) -> None:
    groups = analysed(name)
    plan = plan_of(remove_channels(groups, draw(groups, np.random.default_rng(1))), "0" * 64, {})
    document = json.loads(canonical(plan.to_json()))
    jsonschema.validate(document, SCHEMA)
    assert Plan.from_json(document) == plan
