"""Who is told what a build does while it does it."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Who is told what happens."""

    def phase(self, name: str) -> None:
        """A phase begins."""

    def say(self, text: str) -> None:
        """A fact about the phase that runs."""


class Silent:
    """Tells nobody."""

    def phase(self, name: str) -> None:
        """Nothing."""

    def say(self, text: str) -> None:
        """Nothing."""
