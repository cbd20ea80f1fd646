"""Which series are to be scored: one row each, chosen, or why not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from heartlens.cohort.planning.find import Found
from heartlens.core.errors import InputRefused
from heartlens.dicom.series import choose_series

PLANNED, REFUSED, NOT_CHOSEN, DUPLICATE = "planned", "refused", "not chosen", "duplicate"

ONE_PER = ("study", "patient", "all")
"""Of which one series is scored; of all, every one that headers do not refuse."""


def plan_rows(
    found: Sequence[Found], *, one_per: str = "study", allow: frozenset[str] = frozenset()
) -> list[dict[str, Any]]:
    """A row for each series, in their order, by the columns of plan.parquet.

    Parameters
    ----------
    found
        Every series.
    one_per
        One of `ONE_PER`; of a patient, the best series of the earliest study.
    allow
        Refusals that the user lifts.
    """
    fates: dict[int, tuple[str, str, str, str]] = {}
    originals: dict[str, Found] = {}
    for one in found:
        original = originals.setdefault(one.key, one)
        if original is not one:
            text = "the same images are planned from another place"
            fates[id(one)] = (DUPLICATE, "duplicate", text, original.key)
    left = [one for one in found if id(one) not in fates]
    for part, whole in _parts(left):
        text = f"holds {len(part.images)} of the {len(whole.images)} images of another copy"
        fates[id(part)] = (DUPLICATE, "duplicate", text, whole.key)
    left = [one for one in left if id(one) not in fates]
    studies: dict[tuple[str, str], list[Found]] = {}
    for one in left:
        if one.ranked is None or one_per == "all" or one.given.series:
            fates[id(one)] = _own_fate(one)
        else:
            studies.setdefault((one.patient, one.ranked.series.study_uid), []).append(one)
    for members in studies.values():
        _choose(members, allow, fates)
    if one_per == "patient":
        _first_studies(left, fates)
    return [_row(one, *fates[id(one)]) for one in found]


def _own_fate(one: Found) -> tuple[str, str, str, str]:
    return (REFUSED, one.code, one.text, "") if one.code else (PLANNED, "", "", "")


def _parts(found: Sequence[Found]) -> Iterable[tuple[Found, Found]]:
    """Copies that hold a part of what another copy holds, and the copy with most."""
    copies: dict[tuple[str, str, int | None], list[Found]] = {}
    for one in found:
        if one.ranked is not None:
            series = one.ranked.series
            copies.setdefault((series.study_uid, series.series_uid, series.stack), []).append(one)
    for members in copies.values():
        whole = max(members, key=lambda one: len(one.images))
        for one in members:
            if len(one.images) < len(whole.images) and set(one.images) < set(whole.images):
                yield one, whole


def _choose(members: Sequence[Found], allow: frozenset[str], fates: dict[int, tuple[str, str, str, str]]) -> None:
    """The series of a study that is scored, as `heartlens score` chooses it, and why the others are not."""
    ranked = [one.ranked for one in members if one.ranked is not None]
    of_series = {id(one.ranked.series): one for one in members if one.ranked is not None}
    try:
        chosen = of_series[id(choose_series(ranked, None, allow))]
    except InputRefused as refusal:
        rivals = [one for one in members if one.ranked is not None and one.ranked.series.is_ct and not one.code]
        text = f"{len(rivals)} series of the study suit equally well; name one in a CSV list, or plan --one-per all"
        if refusal.code != "ambiguous":
            text = "the study holds no CT image"
        for one in members:
            fates[id(one)] = _own_fate(one) if one.code else (REFUSED, refusal.code, text, "")
        return
    for one in members:
        if one is chosen or one.code:
            fates[id(one)] = _own_fate(one)
        else:
            points = [r.points for r in (one.ranked, chosen.ranked) if r is not None]
            text = f"another series of the study suits better ({points[-1]} points against {points[0]})"
            fates[id(one)] = (NOT_CHOSEN, "not-chosen", text, "")


def _first_studies(found: Sequence[Found], fates: dict[int, tuple[str, str, str, str]]) -> None:
    """Of every patient keep the earliest study; one without a day comes last."""
    patients: dict[str, list[Found]] = {}
    for one in found:
        if fates[id(one)][0] == PLANNED and one.patient:
            patients.setdefault(one.patient, []).append(one)
    for members in patients.values():
        first = min(members, key=lambda one: (one.day is None, str(one.day)))
        for one in members:
            if one is not first:
                fates[id(one)] = (NOT_CHOSEN, "not-chosen", "an earlier study of this person is scored", "")


def _row(one: Found, status: str, code: str, text: str, duplicate_of: str) -> dict[str, Any]:
    series = None if one.ranked is None else one.ranked.series
    given = one.given
    return {
        "key": one.key,
        "patient_key": one.patient_key,
        "subject": given.subject or None,
        "exam": given.exam or None,
        "scan": given.scan or None,
        "study_uid": None if series is None else series.study_uid,
        "series_uid": None if series is None else series.series_uid,
        "study_date": None if one.day is None else one.day.isoformat(),
        "status": status,
        "code": code or None,
        "text": text or None,
        "duplicate_of": duplicate_of or None,
        "series": None if series is None else series.address,
        "folder": str(one.folder),
        "files": list(one.names),
        "bytes": one.size,
        "age": given.age,
        "sex": given.sex,
        "race": given.race,
    }


def listed_once(found: Iterable[Found]) -> list[Found]:
    """The series without those that a second line of a list, or a second place, names at the same place again."""
    kept: dict[tuple[str, str, Any], Found] = {}
    for one in found:
        kept.setdefault((one.key, str(one.folder), replace(one.given, series="")), one)
    return list(kept.values())
