"""The laws over real topologies as torch.onnx.export writes them."""

from __future__ import annotations

import onnx_ir as ir
import pytest
from zoo.exports import EXPORTS

from edgec.model import load
from laws import Found, obey

# export: groups, units that can be removed, pins, units that the permutation law moved
EXPECTED = {
    "resnet18": (12, 360, 1, 360),
    "resnet50": (23, 528, 1, 528),
    "mobilenet_v2": (25, 4144, 1, 4144),
    "mobilenet_v3": (19, 833, 1, 833),
    "efficientnet_b0": (28, 2244, 1, 2244),
    "regnet_x": (15, 440, 1, 440),
    "regnet_y": (20, 470, 1, 470),
    "convnext": (5, 608, 7, 608),
    "unet": (12, 168, 1, 168),
    "yolo": (38, 620, 2, 620),
    "ssd": (7, 152, 6, 152),
    "cnn_dynamic_batch": (3, 40, 1, 40),
    "lstm_tagger": (1, 10, 1, 10),
    "lstm_sentences": (1, 40, 1, 40),  # the last states of both layers are stacked: one width
    "gru_tagger": (2, 40, 1, 40),
    "gru_seq2seq": (1, 10, 1, 10),
    "rnn_tagger": (1, 10, 1, 10),  # both layers start from the same zeros
    "lstm_cells": (1, 10, 1, 10),
    "yolo_optimized": (38, 620, 2, 620),
    "mobilenet_v3_optimized": (19, 833, 1, 833),
    "gru_tagger_optimized": (2, 40, 1, 40),
    "rnn_tagger_optimized": (1, 10, 1, 10),
    "lstm_cells_optimized": (1, 10, 1, 10),
}


# A dim that is neither static nor the batch has to be given; the graph keeps it symbolic.
SIZES = {
    "lstm_tagger": (2, 5, 6),
    "lstm_sentences": (5, 2, 6),
    "gru_tagger": (2, 5, 6),
    "gru_seq2seq": (2, 5, 6),
    "gru_tagger_optimized": (2, 5, 6),
}


def exported(name: str) -> ir.Model:
    return load(EXPORTS[name](), inputs={"x": SIZES[name]} if name in SIZES else None)


@pytest.mark.parametrize("name", EXPORTS)
def test_export(name: str) -> None:
    found = obey(exported(name), draws=2)
    assert found == Found(*EXPECTED[name], found.changed)
    assert found.changed > 0.1


def test_every_expectation_is_about_an_export() -> None:
    assert list(EXPECTED) == list(EXPORTS)


@pytest.mark.parametrize("batch", [1, 3])
def test_dynamic_batch(batch: int) -> None:
    """What is cut for one batch size holds for another."""
    found = obey(EXPORTS["cnn_dynamic_batch"](), dims={"batch": batch})
    assert found == Found(*EXPECTED["cnn_dynamic_batch"], found.changed)


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize(("batch", "time"), [(1, 9), (3, 4)])
def test_dynamic_batch_and_time(name: str, batch: int, time: int) -> None:
    """What is cut for one length holds for another."""
    found = obey(exported(name), dims={"batch": batch, "time": time})
    assert found == Found(*EXPECTED[name], found.changed)
