"""What every test runs under."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

# Examples that build and run networks have no useful deadline. In CI the draws are the same each
# time, so that a failure there is one that a person can repeat; elsewhere they are fresh.
settings.register_profile("edgec", deadline=None, print_blob=True)
settings.register_profile("ci", settings.get_profile("edgec"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "edgec")


@pytest.fixture(autouse=True)
def _no_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads edgec's settings or cache, nor asks a model hub."""
    for name in [name for name in os.environ if name.startswith("EDGEC_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("EDGEC_CACHE", "off")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
