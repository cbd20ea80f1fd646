"""A Case: one CT, its lesions, and the report that always belongs to them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from heartlens.ct import CTVolume
from heartlens.lesions import LesionMap
from heartlens.protocol import ScoringProtocol
from heartlens.refusal import Caution
from heartlens.risk import Risk
from heartlens.scoring.report import ScoreReport


@dataclass(frozen=True, eq=False)
class Case:
    ct: CTVolume
    lesions: LesionMap
    protocol: ScoringProtocol
    report: ScoreReport
    risk: Risk
    cautions: tuple[Caution, ...] = ()
    provenance: dict[str, Any] = field(default_factory=dict)
