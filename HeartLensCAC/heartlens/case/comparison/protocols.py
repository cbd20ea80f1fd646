"""What differs between how two scans were made and scored, and what of it decides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from heartlens.case.comparison.opened import OpenedCase
from heartlens.core.errors import visible
from heartlens.core.protocol import ScoringProtocol


@dataclass(frozen=True)
class Difference:
    """One thing that differs.

    Parameters
    ----------
    what
        In words.
    prior, current
        As printed.
    effect
        What it does to a comparison; empty where nothing is known.
    decides
        Numbers that differ in it are not compared.
    """

    what: str
    prior: str
    current: str
    effect: str = ""
    decides: bool = False


_SCAN: tuple[tuple[str, Callable[[OpenedCase], Any], str], ...] = (
    ("tube voltage", lambda one: _with(one.case.source_ct.header.kvp, "kVp"), "lower voltage raises the score"),
    (
        "slice thickness",
        lambda one: _with(one.case.source_ct.header.slice_thickness_mm, "mm"),
        "thin slices raise the score",
    ),
    ("increment", lambda one: _with(round(one.case.source_ct.increment_mm, 3), "mm"), ""),
    ("kernel", lambda one: one.case.source_ct.header.kernel, "a sharp kernel raises the score"),
    (
        "ECG gating",
        lambda one: {True: "gated", False: "not gated", None: None}[one.case.source_ct.header.is_gated],
        "a score without gating is an estimate",
    ),
    ("manufacturer", lambda one: one.case.source_ct.header.manufacturer, ""),
    ("model", lambda one: one.case.source_ct.header.model, ""),
    ("pixel", lambda one: _with(round(one.case.source_ct.pixel_area_mm2, 3), "mm2"), ""),
)

_READING: tuple[tuple[str, Callable[[OpenedCase], Any], str], ...] = (
    ("calcium named by", lambda one: _label_source(one), "part of the change may be the other reader's"),
    ("category scheme", lambda one: one.case.risk_inputs.scheme, "categories of two schemes are not compared"),
    ("state", lambda one: one.state.value, ""),
)

_DECISIVE = (
    "edges_hu", "minimum_area_mm2", "minimum_pixels", "connectivity", "normalisation", "volume_above_hu", "slab_mm",
)  # fmt: skip
"""Fields of a protocol that make other numbers of the same scan."""


def protocol_differences(prior: OpenedCase, current: OpenedCase) -> tuple[Difference, ...]:
    """What differs between two scans, what decides first."""
    found = [
        Difference(name.replace("_", " "), _shown(a), _shown(b), "the same plaque has another score", True)
        for name, a, b in _fields(prior.case.protocol, current.case.protocol)
    ]
    for what, value, effect in (*_SCAN, *_READING):
        a, b = value(prior), value(current)
        if a != b:
            found.append(Difference(what, _shown(a), _shown(b), effect))
    return tuple(found)


def _fields(a: ScoringProtocol, b: ScoringProtocol) -> list[tuple[str, Any, Any]]:
    return [(name, getattr(a, name), getattr(b, name)) for name in _DECISIVE if getattr(a, name) != getattr(b, name)]


def _label_source(one: OpenedCase) -> str | None:
    provenance = one.case.provenance
    if provenance.labels is None:
        return None
    by = f"{provenance.labels.value} {provenance.bundle}" if provenance.bundle else provenance.labels.value
    return f"{by}, edited by a reader" if one.case.edits else by


def _with(value: float | None, unit: str) -> str | None:
    return None if value is None else f"{value:g} {unit}"


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(f"{one:g}" for one in value)
    return "not stated" if value is None else visible(str(value))
