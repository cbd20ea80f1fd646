"""What is known of the person besides the score."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class RiskInputs:
    """What the risk part needs to know about the person besides the score. Race is never inferred."""

    scheme: str = "heartlens"
    age_years: float | None = None
    sex: str | None = None
    race: str | None = None
    risk_factors: Mapping[str, Any] | None = None
