"""The laws over today's architectures, at sizes that the analysis was not told."""

from __future__ import annotations

import pytest
from zoo.architectures import ARCHITECTURES, ZOO

from laws import obey
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


@pytest.mark.parametrize("name", NAMES)
def test_page(name: str) -> None:
    """docs/architectures.md says what is found; `python -m laws.architectures` writes it anew."""
    line = row(name, findings(name, False), findings(name, True))
    assert committed()[name] == without_difference(line)


def test_page_lists_the_zoo() -> None:
    assert list(committed()) == list(ZOO)
    assert len(ZOO) >= 45
    assert set(FAST) <= set(ZOO)
