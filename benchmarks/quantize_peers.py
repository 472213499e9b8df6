"""One quantisation by a peer, in a process of its own.

python quantize_peers.py onnxruntime|nncf MODEL SAMPLES.npy OUT
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np


def onnxruntime(model: str, samples: np.ndarray, name: str, out: str) -> None:
    """quantize_static with Q/DQ, per channel, after the preparation its manual recommends."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.rows = iter(samples)

        def get_next(self) -> dict[str, np.ndarray] | None:
            row = next(self.rows, None)
            return None if row is None else {name: np.array(row[None])}

    ready = f"{out}.ready.onnx"
    quant_pre_process(model, ready, skip_symbolic_shape=True)
    quantize_static(ready, out, Reader(), quant_format=QuantFormat.QDQ, per_channel=True)


def nncf(model: str, samples: np.ndarray, name: str, out: str) -> None:
    """nncf.quantize on the ONNX model, its defaults, all samples."""
    import nncf as tool
    import onnx

    def feed(row: np.ndarray) -> dict[str, Any]:
        return {name: np.array(row[None])}

    found = tool.quantize(onnx.load(model), tool.Dataset(samples, feed), subset_size=len(samples))
    onnx.save(found, out)


def main() -> None:
    """Run the peer that the command line names."""
    tool, model, samples, out = sys.argv[1:]
    rows = np.load(samples, mmap_mode="r")
    {"onnxruntime": onnxruntime, "nncf": nncf}[tool](model, rows, "image", out)


if __name__ == "__main__":
    main()
