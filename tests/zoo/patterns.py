"""One micro model per pattern that channel removal must get right.

The rows of published comparisons on which pruners go silently wrong (channel shuffle, NHWC
flatten, padded shortcuts, unaligned groups, heads found by guess), those on which they stop, and
every movement of channels the design names. `PATTERNS[name]()` builds a fresh model.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import onnx_ir as ir

from zoo import (
    _patterns_attention,
    _patterns_conv,
    _patterns_einsum,
    _patterns_experts,
    _patterns_layout,
    _patterns_quantized,
    _patterns_recurrent,
    _patterns_runtime,
    _patterns_tokens,
    _patterns_vision,
    model_of,
)

_TEXTS = (
    _patterns_conv.TEXTS,
    _patterns_layout.TEXTS,
    _patterns_tokens.TEXTS,
    _patterns_recurrent.TEXTS,
    _patterns_einsum.TEXTS,
    _patterns_attention.TEXTS,
    _patterns_runtime.TEXTS,
    _patterns_vision.TEXTS,
    _patterns_experts.TEXTS,
    _patterns_quantized.TEXTS,
)

PATTERNS: dict[str, Callable[[], ir.Model]] = {
    name: partial(model_of, text) for texts in _TEXTS for name, text in texts.items()
}
