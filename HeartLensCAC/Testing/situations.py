"""Situations that change what may be said of a score: cases by hand, each with its signature and its state."""

from __future__ import annotations

from dataclasses import dataclass, replace

from report_cases import BOXES, HEADER, PERSON, make_case

from heartlens.case.case import Case
from heartlens.case.signature import Signature, answered, state_of, state_words
from heartlens.core.errors import WarningRecord
from heartlens.core.lesions import Artery, LesionNote
from heartlens.core.provenance import LabelSource
from heartlens.risk.assessment import Assessment
from heartlens.risk.evaluable import EVALUABLE_BY_CODE, State
from heartlens.risk.person import RiskInputs

SIGNATURE = Signature("Doe^Jane", "Clinic", "2026-11-29T10:00:00+01:00")


@dataclass(frozen=True)
class Situation:
    """A case in the state that is known of it; a signature makes it signed."""

    name: str
    case: Case
    signature: Signature | None = None
    altered: bool = False

    @property
    def state(self) -> State:
        return state_of(self.case, self.signature, State.ALTERED if self.altered else None)

    @property
    def assessment(self) -> Assessment:
        return answered(self.case, self.state)

    @property
    def state_words(self) -> str:
        return state_words(self.state, self.signature)


def networks(*undecided, boxes=BOXES, p=0.99, **more):
    """Lesions that the networks named; some of them undecided, what is not coronary unlikely."""
    notes = {
        n: LesionNote(0.5 if n in undecided else p if box[0] is not Artery.OTHER else 0.1, LabelSource.NETWORK,
                      undecided=n in undecided)
        for n, box in enumerate(boxes, 1)
    }  # fmt: skip
    return make_case(boxes, notes=notes, labels=LabelSource.NETWORK, **more)


def warned(*codes, case=None):
    case = case or networks()
    return replace(case, cautions=tuple(WarningRecord(code, f"about {code}") for code in codes))


ZERO = networks(boxes=())
LEFT = [(Artery.OTHER, k, 40, 40, 5, 450) for k in (0, 2, 4, 6)]
"""25 each: with 0.45 each they make more than 100 of 67 in most cases."""
LIKELIER_MODERATE = make_case(
    [*BOXES[:3], *LEFT],
    notes={n: LesionNote(0.99 if n < 4 else 0.45, LabelSource.NETWORK) for n in range(1, 8)},
    labels=LabelSource.NETWORK,
)
OTHER = BOXES[3:]
SITUATIONS = {
    "calcium, nothing undecided": networks(),
    "given labels": make_case(BOXES, labels=LabelSource.FILE),
    "by rules": make_case(BOXES),
    "zero, nothing seen": ZERO,
    "zero, something judged not coronary": networks(boxes=OTHER),
    "zero, something undecided": networks(1, boxes=OTHER),
    "a plaque called not coronary is undecided, and another category with it": networks(4),
    "a counted lesion is undecided, within its category": networks(2),
    "a counted lesion is undecided, and another category without it": networks(1, boxes=BOXES[:1]),
    "both kinds undecided": networks(1, 4),
    "every lesion undecided": networks(1, 2, 3, 4),
    "nothing undecided, and another category the likeliest": LIKELIER_MODERATE,
    "undecided lesions decided by a reader": networks(4).reassign(4, Artery.LAD),
    "an undecided lesion kept by a reader": networks(1).accept(1),
    "calcium without an artery": make_case(BOXES).reassign(1, Artery.UNASSIGNED),
    "all removed by a reader": make_case(BOXES[:1]).remove(1),
    "gating unknown": networks(header=replace(HEADER, is_gated=None)),
    "not gated, with the warning": warned("non-gated", case=networks(header=replace(HEADER, is_gated=False))),
    "another scheme": make_case(BOXES, risk_inputs=RiskInputs(scheme="accaha-2018")),
    "a scheme of ranges alone": make_case(BOXES, risk_inputs=RiskInputs(scheme="ai-cac")),
    "a person is known": make_case(BOXES, risk_inputs=PERSON),
    "a person is known, and a lesion undecided": networks(4, risk_inputs=PERSON),
    "very small": make_case(BOXES[2:3]),
    "very high": make_case([(Artery.LAD, n, 2, 2, 40, 450) for n in range(3)]),
    "nothing limits but the tube voltage is told": warned("kvp"),
    **{f"{code}, with calcium": warned(code) for code in EVALUABLE_BY_CODE},
    **{f"{code}, at zero": warned(code, case=ZERO) for code in EVALUABLE_BY_CODE},
    "contrast and a cut heart, at zero": warned("contrast", "heart-cut", "metal", "unsettled", case=ZERO),
    "thin slices": warned("thin-slices"),
    "a sharp kernel, slabs and no thickness are told": warned("sharp-kernel", "slabs", "unknown-thickness"),
    "not gated, metal and a cut heart at once": warned("non-gated", "metal", "heart-cut"),
}
SIGNED = {
    "signed, nothing undecided": warned("network"),
    "signed after correction": warned("network", "unsettled", case=networks(4).reassign(4, Artery.LAD)),
    "signed zero": warned("network", case=ZERO),
    "signed, another category the likeliest before": warned("network", case=LIKELIER_MODERATE),
    "signed, something that looks like metal": warned("metal-on-artery"),
    "signed, nobody knows whether all images are here": warned("network", "image-count"),
    "signed, not evaluable": warned("contrast"),
}
ALTERED = {
    "altered after signing": warned("network"),
    "altered after signing, and a lesion is undecided again": networks(4),
}
ROWS = [
    *(Situation(name, case) for name, case in SITUATIONS.items()),
    *(Situation(name, case, SIGNATURE) for name, case in SIGNED.items()),
    *(Situation(name, case, altered=True) for name, case in ALTERED.items()),
]
