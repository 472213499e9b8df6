"""Budgets are read as they are meant, or refused."""

from __future__ import annotations

import pytest

from edgec import Budget, EdgecError
from edgec.budget import Metric, human


@pytest.mark.parametrize(
    ("metric", "text", "value"),
    [
        ("flops", "0.4", 0.4),
        ("flops", ".5", 0.5),
        ("flops", "1", 1.0),
        ("flops", 0.25, 0.25),
        ("flops", "300M", 300e6),
        ("macs", "1.2g", 1.2e9),
        ("params", "4k", 4e3),
        ("params", "12345", 12345.0),
        ("size", "4MB", 4e6),
        ("size", "800KB", 800e3),
        ("size", "4M", 4e6),
        ("size", "1e6", 1e6),
    ],
)
def test_reads(metric: Metric, text: str | float, value: float) -> None:
    assert Budget.parse(metric, text).value == pytest.approx(value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "-0.4",
        "-3M",
        "1.5",
        "40",
        "nan",
        "inf",
        "0.4.5",
        "40%",
        "4MB",
        "x",
        "1e-400",
        "0x10",
    ],
)
def test_refuses(text: str) -> None:
    with pytest.raises(EdgecError) as caught:
        Budget.parse("flops", text)
    assert caught.value.exit_code == 2
    assert caught.value.remedy


def test_bound_is_a_share_or_absolute() -> None:
    assert Budget("flops", 0.4).bound(1000) == 400
    assert Budget("flops", 5e6).bound(1000) == 5e6


@pytest.mark.parametrize(
    ("value", "metric", "text"),
    [
        (0, "flops", "0"),
        (999, "params", "999"),
        (1000, "params", "1.00 k"),
        (999_600, "params", "1.00 M"),
        (8.22e9, "flops", "8.22 G"),
        (25.6e6, "params", "25.6 M"),
        (102e6, "size", "102 MB"),
        (12, "size", "12 B"),
    ],
)
def test_human(value: float, metric: Metric, text: str) -> None:
    assert human(value, metric) == text
