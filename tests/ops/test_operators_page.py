"""Every operator has a record or a reason why not, and the page says which."""

from __future__ import annotations

import onnx.defs
from laws.operators import PAGE, page

from edgec.ops import RULES
from edgec.ops.barriers import BARRIERS

FUSIONS = (
    "Attention", "BiasGelu", "FastGelu", "FusedMatMul", "Gelu", "MultiHeadAttention", "QuickGelu",
    "SkipLayerNormalization", "SkipSimplifiedLayerNormalization", "EmbedLayerNormalization",
)  # fmt: skip


def test_every_operator_of_onnx_is_known() -> None:
    known = {s.name for s in onnx.defs.get_all_schemas() if s.domain == "" and not s.deprecated}
    assert known - RULES.keys() == BARRIERS.keys()


def test_the_usual_fusions_are_known() -> None:
    assert {f"com.microsoft::{op}" for op in FUSIONS} <= RULES.keys()


def test_enough_operators_pass_channels() -> None:
    assert sum("::" not in name for name in RULES) >= 140


def test_the_page_is_that_of_the_table() -> None:
    """`PYTHONPATH=tests python -m laws.operators` writes it anew."""
    assert PAGE.read_text(encoding="utf-8") == page()
