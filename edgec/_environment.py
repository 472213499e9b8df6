"""What must be set before the libraries underneath are imported.

ONNX Runtime's official builds report their use to Microsoft, under an identifier that they keep on
disk, unless told otherwise when they start. edgec tells them otherwise; whoever wants it back sets
ORT_DISABLE_TELEMETRY=0.
"""

from __future__ import annotations

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
