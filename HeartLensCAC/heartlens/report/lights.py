"""Six lights beside the number: coverage, gating, slices, tube, noise, reader; each in words, never by color alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from gettext import NullTranslations
from types import MappingProxyType

from heartlens.case.case import Case
from heartlens.case.signature import answered
from heartlens.risk.assessment import ENGLISH
from heartlens.risk.evaluable import EVALUABLE_BY_CODE, SETTLED_BY_SIGNING, Evaluable, State

LIGHT_BY_CODE: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(
            ("few-slices", "no-heart", "heart-cut-top", "heart-cut", "image-count", "extrapolated-gaps", "false-zero"),
            "coverage",
        ),
        "non-gated": "gating",
        **dict.fromkeys(
            (
                "increment",
                "thickness",
                "unknown-thickness",
                "thin-slices",
                "overlap",
                "reformatted",
                "slabs",
                "field",
                "slice-order",
                "orientation",
                "prone",
            ),
            "slices",
        ),
        **dict.fromkeys(("kvp", "spectral", "contrast", "no-hu", "clipped", "hu-jump"), "tube"),
        **dict.fromkeys(
            ("high-noise", "sharp-kernel", "unknown-kernel", "softened", "metal", "metal-on-artery", "lossy", "domain"),
            "noise",
        ),
        **dict.fromkeys(("network", "rules", "no-bundle", "unsettled", "labels"), "reader"),
    }
)
"""Which light a warning belongs to; one that is not here is listed among the warnings alone."""

SHORT: Mapping[str, str] = MappingProxyType(
    {
        "few-slices": "too few slices", "no-heart": "no heart found", "heart-cut-top": "cut at the top",
        "heart-cut": "cut at the bottom", "image-count": "images may be missing",
        "extrapolated-gaps": "gaps", "increment": "unusual increment",
        "thickness": "unusual thickness", "unknown-thickness": "thickness unknown", "thin-slices": "thin, noisy",
        "overlap": "overlapping", "reformatted": "reformatted", "slabs": "averaged to slabs", "spectral": "spectral",
        "contrast": "contrast medium", "no-hu": "values not in HU", "high-noise": "high noise",
        "sharp-kernel": "sharp kernel", "unknown-kernel": "kernel unknown",
        "softened": "softened for the search",
        "false-zero": "unlike a body", "field": "field contradicts header", "slice-order": "order contradicts header",
        "orientation": "lies otherwise", "prone": "prone", "clipped": "cut off above", "hu-jump": "slices not in HU",
        "metal-on-artery": "metal on an artery", "labels": "labels hold little calcium",
        "metal": "metal", "lossy": "compressed with loss", "domain": "outside the networks' domain",
    }
)  # fmt: skip
"""A warning in at most four words."""

LEVELS = ("good", "note", "limited", "bad")
"""From nothing to say up to no statement; each has a sign and a word of its own on the page."""


@dataclass(frozen=True)
class Light:
    """One light.

    Parameters
    ----------
    name
        What it judges.
    level
        One of `LEVELS`.
    text
        What is known, and what is wrong with it.
    """

    name: str
    level: str
    text: str


def lights_of(case: Case, state: State, say: NullTranslations = ENGLISH) -> list[Light]:
    """The six lights of a case in their order; a signed result has settled what a reader settles.

    Parameters
    ----------
    case
        Scored.
    state
        How far a person has answered for it.
    say
        The language.
    """
    codes = [c.code for c in case.cautions if state is not State.SIGNED or c.code not in SETTLED_BY_SIGNING]
    reasons = answered(case, state).reasons
    header = case.source_ct.header
    increment = f"{case.source_ct.increment_mm:.3g} mm"
    thickness = say.gettext("every {increment}").format(increment=increment)
    if header.slice_thickness_mm:
        thickness = f"{header.slice_thickness_mm:g} mm {thickness}"
    gating = {
        True: say.gettext("ECG-gated"), False: say.gettext("not gated"), None: say.gettext("not known to be gated")
    }[header.is_gated]  # fmt: skip
    tube = say.gettext("voltage unknown") if header.kvp is None else f"{header.kvp:g} kVp"
    contrast = {"": say.gettext("no contrast"), None: say.gettext("contrast not stated")}.get(header.contrast)
    reader = {
        State.DRAFT: say.gettext("nobody yet"), State.READ: say.gettext("edited, not signed"),
        State.SIGNED: say.gettext("signed"), State.ALTERED: say.gettext("altered after signing"),
    }  # fmt: skip
    cut = any(LIGHT_BY_CODE.get(code) == "coverage" for code in codes)
    known = {
        "coverage": "" if cut else say.gettext("whole heart"),
        "gating": gating,
        "slices": thickness,
        "tube": tube if contrast is None else f"{tube}, {contrast}",
        "noise": say.gettext("kernel {name}").format(name=header.kernel) if header.kernel else "",
        "reader": reader[state],
    }
    return [
        _light(name, text, [c for c in codes if LIGHT_BY_CODE.get(c) == name], reasons, state, say)
        for name, text in known.items()
    ]


def _light(
    name: str, known: str, codes: list[str], reasons: tuple[str, ...], state: State, say: NullTranslations
) -> Light:
    found = [EVALUABLE_BY_CODE[code] for code in codes if code in reasons]
    level = "note" if codes else "good"
    if Evaluable.LIMITED in found:
        level = "limited"
    if Evaluable.NO in found:
        level = "bad"
    if name == "reader" and state is not State.SIGNED:
        level = "bad" if state is State.ALTERED else "limited"
    short = [say.gettext(SHORT[code]) for code in dict.fromkeys(codes) if code in SHORT]
    text = "; ".join(part for part in (known, *short) if part)
    return Light(name, level, text or say.gettext("nothing found"))
