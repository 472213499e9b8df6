"""The page of operators, as the table of records has it.

PYTHONPATH=tests python -m laws.operators    # writes docs/operators.md
"""

from __future__ import annotations

from pathlib import Path

from edgec.ops import RULES
from edgec.ops.barriers import BARRIERS
from edgec.ops.rule import Stop, free
from edgec.passes.fused import MICROSOFT, SPELLINGS

PAGE = Path(__file__).parents[2] / "docs" / "operators.md"
HEAD = """# Operators

What edgec knows of each operator, from its record in `edgec/ops`; every record has an example that
is held to the laws of channel removal. An operator that is not listed here is met like those at the
end: the channels that reach it stay, and the report names it.

- *channels*: `pass` where some can be followed through; otherwise why all that reach it stay.
- *rewritten*: whether an attribute or a constant that names a channel count is derived afresh.
- *work*: whether it counts towards FLOPs.

| operator | channels | rewritten | work |
|---|---|---|---|
"""
TAIL = """
## Written out

Before anything is analysed, what ONNX Runtime has fused with a layer is written out again.

| operator | becomes |
|---|---|
{written}
## Without a record

| operator | why |
|---|---|
"""


def page() -> str:
    """The page, whole."""
    rows = []
    for name in sorted(RULES, key=lambda n: ("::" in n, n)):
        rule = RULES[name]
        channels = rule.labels.why if isinstance(rule.labels, Stop) else "pass"
        rewritten = "" if rule.repair.__name__ == "_nothing" else "yes"
        rows.append(
            f"| {name} | {channels} | {rewritten} | {'' if rule.flops is free else 'yes'} |"
        )
    barriers = [f"| {name} | {BARRIERS[name]} |" for name in sorted(BARRIERS)]
    written = "".join(f"| {MICROSOFT}::{op} | {s.result} |\n" for op, s in SPELLINGS.items())
    tail = TAIL.format(written=written)
    return HEAD + "\n".join(rows) + "\n" + tail + "\n".join(barriers) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
