"""Recipes and budgets: read from TOML, words or numbers; typed, and told as they were written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgec import Budget, Recipe
from edgec.budget import METRICS, Metric, amount, human, plural
from edgec.errors import EdgecError, UsageError
from edgec.recipe import Recipe as Same
from edgec.suggest import check_known, suggestion


def test_toml_gives_the_same_as_keywords(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(
        'target = "cpu"\nbackend = "reference"\nflops = 0.4\nparams = "2M"\nsize = 3000\n'
        'criterion = "l1"\nallocator = "global"\nround_to = 4\ninclude = ["a*", "b"]\n'
        'exclude = []\nrepair = "none"\nseed = 7\n'
    )
    assert Recipe.load(path) == Recipe(
        target="cpu", backend="reference", flops=0.4, params="2M", size=3000, criterion="l1",
        allocator="global", round_to=4, include=("a*", "b"), repair="none", seed=7,
    )  # fmt: skip
    assert Recipe.load(str(path)) == Recipe.load(path)


def test_an_empty_file_is_the_default(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text("")
    assert Recipe.load(path) == Recipe() == Same()
    assert Recipe().budgets == ()


def test_options_replace_and_leave_the_rest() -> None:
    recipe = Recipe(flops=0.4, seed=3)
    assert recipe.with_options({"flops": 0.6}) == Recipe(flops=0.6, seed=3)
    assert recipe.with_options({"flops": None}) == Recipe(seed=3)
    assert recipe == Recipe(flops=0.4, seed=3)


def test_numbers_of_numpy_are_numbers() -> None:
    recipe = Recipe(flops=np.float64(0.5), round_to=np.int64(4), seed=np.int32(1))  # type: ignore[arg-type]
    assert recipe == Recipe(flops=0.5, round_to=4, seed=1)
    assert type(recipe.round_to) is int


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"flopz": 0.4}, "did you mean 'flops'?"),
        ({"nonsense": 1}, "known: target, backend"),
        ({"flops": True}, "option 'flops' is True"),
        ({"flops": [0.4]}, "a number such as 0.4"),
        ({"seed": 1.0}, "a whole number"),
        ({"seed": None}, "option 'seed' is None"),
        ({"target": 3}, "a text"),
        ({"include": "a"}, "a list of texts"),
        ({"include": [1]}, "a list of texts"),
        ({"seed": -1}, "--seed: is -1"),
        ({"round_to": 0}, "--round-to: is 0"),
        ({"flops": "0.4.5"}, "--flops 0.4.5: is not a budget"),
        ({"flops": float("nan")}, "--flops nan: is not a budget"),
        ({"flops": 10**400}, "is too large"),
    ],
)
def test_wrong_options(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as raised:
        Recipe().with_options(options)
    assert words in str(raised.value)
    if not options.keys() & {"flopz", "nonsense"}:
        with pytest.raises(UsageError):  # the constructor is no way around
            Recipe(**options)


# --- budgets -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.4", 0.4), (0.4, 0.4), (" .5 ", 0.5), ("1", 1), (1, 1), ("1e-3", 1e-3), ("300M", 3e8),
        ("1.2G", 1.2e9), ("1.2g", 1.2e9), ("1000", 1000), (5_000_000, 5e6), ("2k", 2000),
        ("0.5k", 500), ("+0.4", 0.4), ("1T", 1e12),
    ],
)  # fmt: skip
def test_what_a_budget_may_look_like(text: str | float, value: float) -> None:
    budget = Budget.parse("flops", text)
    assert budget.value == pytest.approx(value, rel=1e-15)
    assert budget.is_ratio == (value <= 1)
    assert budget.bound(1e9) == pytest.approx(value * 1e9 if value <= 1 else value)


@pytest.mark.parametrize(("text", "value"), [("4MB", 4e6), ("800KB", 8e5), ("500B", 500)])
def test_bytes_are_for_sizes_only(text: str, value: float) -> None:
    assert Budget.parse("size", text).value == value
    with pytest.raises(UsageError, match="is not a budget"):
        Budget.parse("flops", text)


@pytest.mark.parametrize(
    "text",
    ["", " ", "0", "-0", "-0.4", "-5M", "nan", "inf", "-inf", "1e-400", "1e400", "0.4.5", "0,4",
     "40%", "0x1", "1_000", "½", "٤", "1 M B", "M", "B", "1e", "2", "40", "999", "0.0004k", "1e-7M",
     "0.4\n0.4"],
)  # fmt: skip
def test_what_is_no_budget(text: str) -> None:
    for metric in METRICS:
        with pytest.raises(UsageError) as raised:
            Budget.parse(metric, text)
        assert raised.value.remedy
        assert raised.value.subject.startswith(f"--{metric} ")


@given(st.text(max_size=8) | st.from_regex(r"[-+.0-9e]{1,6}[kMGTB]{0,2}", fullmatch=True))
def test_any_text_is_a_positive_budget_or_one_error(text: str) -> None:
    try:
        budget = Budget.parse("size", text)
    except EdgecError as refusal:
        said = (refusal.subject, refusal.fact, refusal.remedy)
        assert all(said), said
    else:
        assert 0 < budget.value < float("inf")


def test_a_budget_made_by_hand_is_checked() -> None:
    with pytest.raises(UsageError):
        Budget("flops", 0)
    with pytest.raises(UsageError, match="one of: flops, macs, params, size"):
        Budget("speed", 0.4)  # type: ignore[arg-type]


@given(st.sampled_from(METRICS), st.floats(1, 1e14))
def test_numbers_are_shown_to_three_digits(metric: Metric, value: float) -> None:
    number, *unit = human(value, metric).split(" ")
    factor = {"": 1, "B": 1, "k": 1e3, "kB": 1e3, "M": 1e6, "MB": 1e6, "G": 1e9, "GB": 1e9,
              "T": 1e12, "TB": 1e12}["".join(unit)]  # fmt: skip
    assert float(number) * factor == pytest.approx(value, rel=0.006, abs=0.5)
    assert "e" not in number


def test_amounts() -> None:
    assert amount(512, "flops", "FLOPs") == "512 FLOPs"
    assert amount(1.23e9, "flops", "FLOPs") == "1.23 GFLOPs"
    assert [plural(n, "group") for n in (0, 1, 2)] == ["0 groups", "1 group", "2 groups"]


# --- near words ----------------------------------------------------------------------------------


def test_unknown_words() -> None:
    check_known("--target cpu", "cpu", ["cpu"])
    with pytest.raises(UsageError) as raised:
        check_known("--target cpuu", "cpuu", ["cpu", "board"])
    assert str(raised.value) == (
        "--target cpuu: is unknown\n  did you mean 'cpu'? one of: cpu, board"
    )
    assert suggestion("xyz", ["cpu"]) == ""
