"""Micro models written to break the theory of labels, one idea each.

`ATTACKS[name]()` builds a fresh model. None of them has to leave anything to cut; all of them have
to obey the laws.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import onnx_ir as ir
from zoo import model_of

from laws.attacks import joins, nested, rows, shapes, sharing

TEXTS: dict[str, str] = {
    **rows.TEXTS, **joins.TEXTS, **sharing.TEXTS, **shapes.TEXTS, **nested.TEXTS,
}  # fmt: skip

ATTACKS: dict[str, Callable[[], ir.Model]] = {
    name: partial(model_of, text) for name, text in TEXTS.items()
}
