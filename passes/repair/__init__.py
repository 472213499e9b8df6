"""Repairs: what makes a cut network give again what the original gave, without training."""

from __future__ import annotations

from edgec.passes.repair.auto import REPAIRS, repair
from edgec.passes.repair.integers import in_reals
from edgec.passes.repair.layers import biases_to_come
from edgec.passes.repair.least_squares import bias, least_squares
from edgec.passes.repair.recalibrate import recalibrate
from edgec.passes.repair.record import LayerRecord, RepairRecord

__all__ = [
    "REPAIRS", "LayerRecord", "RepairRecord", "bias", "biases_to_come", "in_reals", "least_squares",
    "recalibrate", "repair",
]  # fmt: skip
