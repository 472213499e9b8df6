"""One message for every word that names nothing: what is known, and what was probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from edgec.errors import UsageError


def check_known(subject: str, word: str, known: Iterable[str]) -> None:
    """Refuses a word that is not among the known ones.

    Args:
        subject: What is said to be unknown, the word included: `--target cpuu`.
        word: The word.
        known: All words that would do.

    Raises:
        UsageError: It is not among them.
    """
    words = list(known)
    if word not in words:
        raise UsageError(
            subject, "is unknown", f"{suggestion(word, words)}one of: {', '.join(words)}"
        )


def suggestion(word: str, known: Iterable[str]) -> str:
    """`did you mean 'cpu'? `, or nothing if no known word is near."""
    near = difflib.get_close_matches(word, list(known), 1)
    return f"did you mean '{near[0]}'? " if near else ""
