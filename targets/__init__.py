"""Targets: what models are lowered to, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from edgec.errors import UsageError
from edgec.targets.base import Artifact, Refusal, Runnable, Target, refuse
from edgec.targets.cpu import CpuTarget
from edgec.targets.profile import Profile, load_profile, profile_names, unknown
from edgec.targets.reference import ReferenceTarget

__all__ = [
    "TARGETS",
    "Artifact",
    "Profile",
    "Refusal",
    "Runnable",
    "Target",
    "load_profile",
    "profile_names",
    "refuse",
    "resolve",
]

TARGETS: Mapping[str, Callable[[Profile], Target]] = {
    CpuTarget.backend: CpuTarget,
    ReferenceTarget.backend: ReferenceTarget,
}
"""Backend (the word after --backend) → target."""


def resolve(name: str, backend: str | None = None) -> Target:
    """The target of a name, with its default backend or the one asked for.

    Args:
        name: A profile's name, as in --target.
        backend: A key of `TARGETS`.

    Errors:
        UsageError: no such target or backend, or the backend does not serve the target.
    """
    profile = load_profile(name)
    backend = backend or profile.backends[0]
    if backend not in TARGETS:
        raise unknown("backend", backend, TARGETS)
    if backend not in profile.backends:
        remedy = f"--backend {' | '.join(profile.backends)}"
        raise UsageError(f"target '{name}'", f"is not served by the backend '{backend}'", remedy)
    return TARGETS[backend](profile)
