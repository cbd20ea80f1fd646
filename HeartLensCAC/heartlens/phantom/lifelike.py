"""Phantoms of anatomy 2, drawn as widely as networks are to be trained on."""

from __future__ import annotations

from typing import Any

import numpy as np

from heartlens.phantom.parameters import LATE_TRAP_KINDS, TRAP_KINDS, PhantomParameters


def lifelike(seed: int, **overrides: Any) -> PhantomParameters:
    """Anatomy 2 with everything that `PhantomParameters.varied` varies, and what it does not.

    Kernels overshoot, some lungs are filled, bronchi and nodes beside the left atrium calcify, and clips, graft markers
    and catheters are met.

    Parameters
    ----------
    seed, **overrides
        As for `PhantomParameters.varied`.

    Examples
    --------
    >>> lifelike(3).anatomy
    2
    """
    rng = np.random.default_rng([seed, 7])
    plain = PhantomParameters.varied(seed, **overrides)
    chance = dict(zip(LATE_TRAP_KINDS, (0.35, 0.3, 0.08, 0.06, 0.04), strict=True))
    more = tuple(kind for kind in LATE_TRAP_KINDS if rng.random() < chance[kind])
    if "stent" not in plain.traps and rng.random() < 0.1:
        more = ("stent", *more)
    strength = {"soft": 0.0, "standard": rng.uniform(0, 0.25), "sharp": rng.uniform(0.1, 0.8)}[plain.kernel]
    drawn: dict[str, Any] = {
        "anatomy": 2,
        "overshoot": float(np.round(strength, 2)),
        "lungs": "filled" if rng.random() < 0.12 else "clear",
        "traps": tuple(k for k in TRAP_KINDS + LATE_TRAP_KINDS if k in plain.traps + more),
    }
    return PhantomParameters.varied(seed, **{**drawn, **overrides})
