"""Density score and how calcium is spread over the arteries. docs/method.md, "Density and distribution"."""

from __future__ import annotations

from collections.abc import Sequence


def density_score(weight_sum: float, voxels: int) -> float | None:
    """Agatston over area, both without the slice factor: the area-weighted mean weight, 1 to 4.

    Criqui et al., JAMA 2014, 311:271. None where there is no calcium.

    Examples
    --------
    >>> density_score(8 * 4 + 8 * 1, 16)
    2.5
    """
    return float(weight_sum) / voxels if voxels else None


def diffusivity_index(vessel_scores: Sequence[float], total: float) -> float | None:
    """1 - largest vessel score / total; 0 when one vessel holds everything, None at total 0.

    Blaha et al., JACC Cardiovasc Imaging 2016, 9:1407.

    Examples
    --------
    >>> round(diffusivity_index([60, 30, 10, 0], 100), 6)
    0.4
    """
    return 1.0 - max(vessel_scores) / total if total > 0 else None
