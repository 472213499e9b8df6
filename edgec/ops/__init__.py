"""What every operator means. One record each (`edgec.ops.rule.OpRule`), one table of them all.

To add an operator, write its rule in the file of its kind and list it in that file's `RULES`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from edgec.ops import (
    attention,
    contrib,
    contrib_attention,
    conv,
    einsum,
    elementwise,
    gather,
    image,
    linear,
    matrix,
    norm,
    pool,
    quant,
    random,
    recurrent,
    rotary,
    scatter,
    search,
    select,
    shape,
    signal,
)
from edgec.ops.rule import OpRule


def _table(*rows: tuple[OpRule, ...]) -> Mapping[str, OpRule]:
    table: dict[str, OpRule] = {}
    for rule in (rule for group in rows for rule in group):
        if rule.op_type in table:
            raise ValueError(f"operator {rule.op_type} has two rules")
        table[rule.op_type] = rule
    return MappingProxyType(table)


RULES = _table(
    conv.RULES, linear.RULES, einsum.RULES, recurrent.RULES, attention.RULES,
    contrib_attention.RULES, contrib.RULES, rotary.RULES, norm.RULES, elementwise.RULES,
    pool.RULES, image.RULES,
    shape.RULES, select.RULES, gather.RULES, scatter.RULES, search.RULES, matrix.RULES,
    signal.RULES, random.RULES, quant.RULES,
)  # fmt: skip


def rule_for(domain: str, op_type: str) -> OpRule | None:
    """The rule of an operator, None if edgec has none."""
    return RULES.get(op_type if domain in ("", "ai.onnx") else f"{domain}::{op_type}")
