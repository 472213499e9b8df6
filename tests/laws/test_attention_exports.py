"""The laws over torch's own attention layers as torch.onnx.export writes them."""

from __future__ import annotations

import pytest
from zoo.attention_exports import ATTENTION_EXPORTS

from laws import Found, obey

# export: groups, units that can be removed, pins, units that the permutation law moved
EXPECTED = {
    "attention_18": (3, 96, 1, 96),
    "attention_23": (3, 96, 1, 96),
    "attention_memory_18": (3, 96, 1, 96),
    "encoder_18": (2, 88, 3, 88),
    "encoder_24": (2, 88, 3, 88),
    "decoder_18": (3, 136, 2, 136),
    "decoder_23": (3, 136, 2, 136),
    "grouped_queries_18": (2, 32, 1, 32),
    "grouped_queries_24": (2, 32, 1, 32),
}


@pytest.mark.parametrize("name", ATTENTION_EXPORTS)
def test_attention_export(name: str) -> None:
    model = ATTENTION_EXPORTS[name]()
    assert ("Attention" in {n.op_type for n in model.graph}) == (not name.endswith("18"))
    found = obey(model, draws=2)
    assert found == Found(*EXPECTED[name], found.changed)
    assert found.changed > 0.1


def test_every_expectation_is_about_an_export() -> None:
    assert list(EXPECTED) == list(ATTENTION_EXPORTS)
