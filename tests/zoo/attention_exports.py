"""Attention as `torch.onnx.export(dynamo=True)` writes it today: as many nodes, and as one.

At opset 18 `F.scaled_dot_product_attention` becomes a dozen nodes, from 23 on it is Attention. The
exporter's noise is left in where `optimize` is off.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import onnx
import onnx_ir as ir

from zoo.exporting import cached, exported


class _Case(NamedTuple):
    """What to export.

    Attributes:
        net: The class in `zoo._attention_nets`.
        opset: Version of the operator set.
        optimize: Whether the exporter cleans up.
        memory: Whether there is a second input.
    """

    net: str
    opset: int
    optimize: bool = False
    memory: bool = False


_CASES = {
    "attention_18": _Case("Attention", 18),
    "attention_23": _Case("Attention", 23),
    "attention_memory_18": _Case("Attention", 18, memory=True),
    "encoder_18": _Case("Encoder", 18, optimize=True),
    "encoder_24": _Case("Encoder", 24),
    "decoder_18": _Case("Decoder", 18, memory=True),
    "decoder_23": _Case("Decoder", 23, optimize=True, memory=True),
    "grouped_queries_18": _Case("GroupedQueries", 18),
    "grouped_queries_24": _Case("GroupedQueries", 24),
}


@cache
def _proto(name: str) -> onnx.ModelProto:
    here = Path(__file__)
    source = here.read_bytes() + here.with_name("_attention_nets.py").read_bytes()
    return cached(f"attention.{name}", source, lambda: _made(_CASES[name]))


def _made(case: _Case) -> onnx.ModelProto:
    from zoo import _attention_nets

    return exported(
        getattr(_attention_nets, case.net),
        lambda: _attention_nets.inputs(case.memory),
        optimize=case.optimize,
        opset=case.opset,
    )


def _export(name: str) -> ir.Model:
    return ir.from_proto(_proto(name))


ATTENTION_EXPORTS: dict[str, Callable[[], ir.Model]] = {
    name: partial(_export, name) for name in _CASES
}
