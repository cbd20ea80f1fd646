"""Find the CT series in a folder, rank them for calcium scoring with reasons, and choose one.

The ranking only expresses preference (spec 6.2); what is refused, and why, is decided when the series is read.
"""

from __future__ import annotations

import logging
import os
import shlex
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heartlens.core.ct import AXIAL_COSINE
from heartlens.core.disk.packed import VOLUME_ENDINGS, refuse_packed
from heartlens.core.disk.reading import files_below, irregular, open_regular
from heartlens.core.errors import OVERRIDABLE, InputRefused, visible
from heartlens.core.reconstruction_kernel import kernel_class
from heartlens.dicom import words
from heartlens.dicom.header import MEDIA_DIRECTORY, Instance, pydicom_warnings_logged
from heartlens.dicom.read import header_verdict
from heartlens.dicom.stacks.joined import joined
from heartlens.dicom.stacks.series import Series
from heartlens.dicom.stacks.split import NEIGHBOR_STEPS, stacks_of

logger = logging.getLogger(__name__)

DICOM_SUFFIXES = frozenset({".dcm", ".dicom", ".ima"})
"""A file with such a name that is not DICOM is broken, not junk."""

LISTED = 6
"""A message names so many series; a folder may hold hundreds."""

LEAD_POINTS = 2
"""The best series must lead the second by this many points to be scored without asking; spec 6.2."""

MIN_POSITIONS = 15
MAX_INCREMENT_MM = 5.0
"""A series with fewer positions or larger steps ranks behind all others; spec 6.2."""

HEART_FIELD_MM = 160.0
HEART_LENGTH_MM = 100.0
"""Smallest field of view and scan length that can hold a heart: calcium scans are reconstructed to 164-243 mm
(six public gated scans, spec 5) and the heart is 100-150 mm from base to apex."""


@dataclass(frozen=True, eq=False)
class RankedSeries:
    """A series with its points, and why.

    Parameters
    ----------
    series
        The series.
    points
        Sum of spec 6.2; higher is better.
    reasons
        One line per point given or taken, and per condition that holds it back.
    refusal
        Code that reading it ends with, as far as headers tell; None when nothing speaks against it.
    comes_first
        CT, axial, no contrast, not derived, at least 15 positions, at most 5 mm apart
    is_final
        Whether some refusal of it cannot be lifted.
    liftable
        Codes that a user must lift to have it scored.
    """

    series: Series
    points: int
    reasons: tuple[str, ...]
    refusal: str | None
    comes_first: bool
    is_final: bool = False
    liftable: frozenset[str] = frozenset()

    def describe(self) -> str:
        """A few lines for a reader: what the series is, its points, and why."""
        series = self.series
        fate = f"would be refused: {self.refusal}" if self.refusal else f"{self.points} points"
        lines = [f"{visible(series.description or '(no description)')}: {fate}", f"    {visible(series.address)}"]
        facts = [f"{series.modality}, {_slices(series.n_slices)}"]
        if series.traits:
            facts.append(series.traits)
        if series.increment_mm is not None:
            facts.append(f"every {series.increment_mm:g} mm")
        if series.slice_thickness_mm is not None:
            facts.append(f"{series.slice_thickness_mm:g} mm thick")
        if series.kvp is not None:
            facts.append(f"{series.kvp:g} kVp")
        if series.kernel is not None:
            facts.append(f"kernel {series.kernel}")
        return "\n".join([*lines, *(f"    {visible(line)}" for line in (", ".join(facts), *self.reasons))])

    def to_json(self) -> dict[str, Any]:
        """Everything that was found and decided, without paths and without identity."""
        names = (
            "series_uid", "study_uid", "modality", "description", "protocol", "n_slices", "n_positions", "increment_mm",
            "length_mm", "slice_thickness_mm", "kvp", "kernel", "contrast", "is_gated", "field_of_view_mm",
        )  # fmt: skip
        return {
            **{name: getattr(self.series, name) for name in names},
            "address": self.series.address,
            "stack": self.series.stack,
            "traits": self.series.traits,
            "image_type": list(self.series.image_type),
            "n_files": len(self.series.files),
            "points": self.points,
            "reasons": list(self.reasons),
            "refusal": self.refusal,
            "comes_first": self.comes_first,
        }


def find_series(source: Path | Sequence[Path], *, on_progress: Callable[[float], None] | None = None) -> list[Series]:
    """Every series below a folder, in one file, or among given files; headers only.

    Parameters
    ----------
    source
        A folder (searched recursively), a DICOM file, a DICOMDIR (its folder is searched), or several files.
    on_progress
        Hears after each file which part of them is read.

    Raises
    ------
    InputRefused
        "input", no such path or no DICOM in it; "unreadable", a file is broken; "modality", no CT
    """
    paths = [Path(source)] if isinstance(source, (str, os.PathLike)) else [Path(p) for p in source]
    where = str(paths[0]) if len(paths) == 1 else f"the {len(paths)} files given"
    junk: list[Path] = []
    instances: list[Instance] = []
    with pydicom_warnings_logged():
        files = list(_files(paths))
        for n, (path, is_named) in enumerate(files):
            if on_progress is not None:
                on_progress(n / len(files))
            instance = Instance.read(path)
            if instance is not None:
                if instance.sop_class != MEDIA_DIRECTORY:
                    instances.append(instance)
            else:
                if is_named:
                    refuse_packed(path, _start(path))
                if is_named or (path.suffix.lower() in DICOM_SUFFIXES and not path.name.startswith("._")):
                    raise InputRefused("unreadable", f"{path.name} is not a DICOM file; copy it again, or remove it")
                junk.append(path)
        logger.info("%d DICOM files, %d other files skipped", len(instances), len(junk))
        if not instances:
            _refuse_what_is_no_dicom(junk)
            listing = f"{len(junk)} other files" if junk else "no file at all"
            raise InputRefused(
                "input", f"no DICOM file in {where}: found {listing}; give the folder that holds the series"
            )
        groups: dict[tuple[str, str], list[Instance]] = {}
        for instance in instances:
            key = tuple(str(instance.value(k) or "") for k in ("StudyInstanceUID", "SeriesInstanceUID"))
            groups.setdefault((key[0], key[1]), []).append(instance)
        series = joined([s for (study, uid), members in groups.items() for s in stacks_of(study, uid, members)])
        if not any(s.is_ct for s in series):
            kinds = Counter(instance.kind for instance in instances)
            listing = ", ".join(f"{kind} ({n} files)" for kind, n in sorted(kinds.items()))
            raise InputRefused("modality", f"no CT image in {where}: expected CT, found {listing}")
        return series


def _start(path: Path) -> bytes:
    with open_regular(path, path.name) as file:
        return file.read(512)


def _refuse_what_is_no_dicom(files: Sequence[Path]) -> None:
    """Of a folder without DICOM, name the volume file or the archive that is probably meant."""
    volumes = [path for path in files if path.name.lower().endswith(VOLUME_ENDINGS)]
    if volumes:
        names = ", ".join(path.name for path in volumes[:3])
        more = f" and {len(volumes) - 3} more" if len(volumes) > 3 else ""
        raise InputRefused(
            "input",
            f"the folder holds no DICOM, but {names}{more}: give the file itself, heartlens score "
            f"{shlex.quote(str(volumes[0]))}",
        )
    for path in files:
        refuse_packed(path, _start(path))


def rank_series(series: Sequence[Series]) -> list[RankedSeries]:
    """Order series by how well they suit calcium scoring, best first, with the reasons; spec 6.2."""
    ranked = [_rank(s) for s in series]
    return sorted(
        ranked,
        key=lambda r: (r.refusal is not None, not r.comes_first, -r.points, r.series.series_uid, r.series.stack or 0),
    )


def choose_series(
    ranked: Sequence[RankedSeries], series_uid: str | None = None, allow: frozenset[str] = frozenset()
) -> Series:
    """The series to score: the one named, the only one, or the one that leads clearly.

    Parameters
    ----------
    ranked
        From `rank_series`.
    series_uid
        The user's choice.
    allow
        Refusals that the user has lifted; such a series competes with the others.

    Raises
    ------
    InputRefused
        "ambiguous", several could be meant; "input", no series has this UID; "modality", it is not a CT
    """
    images = [r for r in ranked if r.series.is_ct]
    if series_uid is not None:
        uid, _, number = series_uid.partition("#")
        named = [r for r in ranked if r.series.series_uid == uid and number in ("", str(r.series.stack or 1))]
        if not named:
            raise InputRefused("input", f"no series has UID {series_uid}; found {_listing(ranked)}")
        if len({r.series.study_uid for r in named}) > 1:
            raise InputRefused(
                "ambiguous", f"{len(named)} studies hold a series with UID {series_uid}; give the folder of one study"
            )
        if number or len(named) == 1:
            return named[0].series
        images = named
    if not images:
        raise InputRefused("modality", f"no CT image among {_listing(ranked)}")
    for what, matches in (
        ("patient", set().union(*(r.series.patient_keys for r in images))),
        ("study", {r.series.study_uid for r in images}),
    ):
        if len(matches) > 1:
            plural = {"patient": "patients", "study": "studies"}[what]
            raise InputRefused(
                "ambiguous", f"found {len(matches)} {plural}, expected one; choose with --series: {_listing(images)}"
            )
    eligible = [r for r in images if not r.is_final and r.liftable <= allow]
    if not eligible:
        return images[0].series  # reading it says what is wrong with the least bad one
    first = [r for r in eligible if r.comes_first] or [r for r in eligible if r.refusal is None]
    first = sorted(first or eligible, key=lambda r: -r.points)
    if len(first) > 1 and first[0].points - first[1].points < LEAD_POINTS:
        rivals = [r for r in first if first[0].points - r.points < LEAD_POINTS]
        raise InputRefused(
            "ambiguous",
            f"{len(rivals)} series suit equally well (less than {LEAD_POINTS} points apart); "
            f"choose with --series: {_listing(rivals)}",
        )
    _refuse_half_a_scan(first[0].series, [r.series for r in images])
    return first[0].series


def _refuse_half_a_scan(chosen: Series, images: Sequence[Series]) -> None:
    """Refuse to choose a stack beyond which another one of its series goes on: it may hold more of the heart."""
    if chosen.stack is None or chosen.reach_mm is None:
        return
    slack = NEIGHBOR_STEPS * (chosen.increment_mm or 0.0)
    for other in images:
        if (other.series_uid, other.study_uid) != (chosen.series_uid, chosen.study_uid) or other.reach_mm is None:
            continue
        is_like = (other.axial_cosine or 0.0) > AXIAL_COSINE and words.derived_type(other.image_type) is None
        goes_on = other.reach_mm[0] < chosen.reach_mm[0] - slack or other.reach_mm[1] > chosen.reach_mm[1] + slack
        if is_like and goes_on and other.n_positions > 1:
            raise InputRefused(
                "ambiguous",
                f"the stacks of the series reach from {chosen.reach_mm[0]:.0f} to {chosen.reach_mm[1]:.0f} mm and from "
                f"{other.reach_mm[0]:.0f} to {other.reach_mm[1]:.0f} mm, so no one holds all; choose with --series: "
                f"{chosen.title}; {other.title}",
            )


def _files(paths: Sequence[Path]) -> Iterator[tuple[Path, bool]]:
    """Every file below the paths in a fixed order, and whether the user named it himself."""
    for path in paths:
        if path.is_file() and path.name.upper() == "DICOMDIR":
            path = path.parent  # an index; the files it lists lie below it
        if path.is_dir():
            yield from ((file, False) for file in files_below(path))
        elif kind := irregular(path):
            raise InputRefused("input", f"{path}: expected a file or folder, found {kind}")
        elif path.is_file():
            yield path, True
        else:
            raise InputRefused("input", f"no such file or folder: {path}")


def _rank(series: Series) -> RankedSeries:
    reasons = list(_held_back(series))
    comes_first = not reasons
    refusal, _ = header_verdict(series)
    last, allowed = (None, []) if refusal is None else header_verdict(series, OVERRIDABLE)
    if last is not None and series.is_ct:
        reasons.append(last.text)
    liftable = frozenset(caution.code for caution in allowed if caution.code in OVERRIDABLE)
    points = 0
    for gain, reason in _points(series):
        points += gain
        reasons.append(f"{gain:+d} {reason}")
    code = None if refusal is None else refusal.code
    first = comes_first and refusal is None
    return RankedSeries(series, points, tuple(reasons), code, first, last is not None, liftable)


def _held_back(series: Series) -> Iterator[str]:
    """Why a series does not come first, before a gate says more."""
    if not series.is_ct:
        yield f"not a CT image: {series.modality}"
        return
    if words.derived_type(series.image_type):
        yield f"image type {words.joined(series.image_type)}"
    if series.axial_cosine is None:
        yield "no slice orientation"
    elif series.axial_cosine <= AXIAL_COSINE:
        yield f"not axial (cosine {series.axial_cosine:.3f})"
    if series.contrast:
        yield f"contrast agent: {series.contrast}"
    if series.n_positions < 3:
        yield f"{series.n_positions} positions"
    elif series.n_positions < MIN_POSITIONS:
        yield f"fewer than {MIN_POSITIONS} positions ({series.n_positions})"
    if series.increment_mm is not None and series.increment_mm > MAX_INCREMENT_MM + 0.01:
        yield f"increment {series.increment_mm:g} mm, more than {MAX_INCREMENT_MM:g} mm"


def _points(series: Series) -> Iterator[tuple[int, str]]:
    """The table of spec 6.2: (points, reason)."""
    thickness, kernel = series.slice_thickness_mm, kernel_class(series.kernel)
    if series.is_gated:
        yield 4, "ECG-gated"
    if words.names_calcium(f"{series.description or ''} / {series.protocol or ''}"):
        yield 4, "named a calcium scan"
    if thickness is not None and 2.5 - 0.01 <= thickness <= 3.0 + 0.01:
        yield 2, f"slice thickness {thickness:g} mm"
    if series.kvp is not None and abs(series.kvp - 120) < 0.5:
        yield 2, "120 kVp"
    if kernel == "soft":
        yield 1, f"soft kernel {series.kernel}"
    if (series.field_of_view_mm or 0) >= HEART_FIELD_MM and (series.length_mm or 0) >= HEART_LENGTH_MM:
        yield 1, f"field of view {series.field_of_view_mm:.0f} mm, {series.length_mm:.0f} mm long"
    if kernel == "sharp":
        yield -3, f"sharp kernel {series.kernel}"
    if thickness is not None and thickness > 3.5:
        yield -2, f"slice thickness {thickness:g} mm, more than 3.5 mm"
    if thickness is not None and thickness < 2.0 - 0.01:
        yield -2, f"slice thickness {thickness:g} mm, less than 2 mm"


def _slices(n: int) -> str:
    return "1 slice" if n == 1 else f"{n} slices"


def _listing(ranked: Sequence[RankedSeries]) -> str:
    more = f"; and {len(ranked) - LISTED} more, which heartlens series lists" if len(ranked) > LISTED else ""
    return "; ".join(f"{r.series.title}, {r.points} points" for r in ranked[:LISTED]) + more
