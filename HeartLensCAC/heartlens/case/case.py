"""A Case: one CT, its lesions, the reader's edits, and the report that always belongs to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import InitVar, dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heartlens import __version__
from heartlens.case.edits import Edit, actions_of, apply_edit, edits_in_force, runs_of
from heartlens.case.grading import grade_score
from heartlens.case.inputs import CaseInputs
from heartlens.core.ct import CTVolume
from heartlens.core.errors import WarningRecord
from heartlens.core.lesions import Artery, Draft, LesionMap, Site
from heartlens.core.protocol import NOTICE, ScoringProtocol
from heartlens.core.provenance import Provenance
from heartlens.core.slabs import source_voxels
from heartlens.risk.assess import Risk
from heartlens.risk.assessment import Assessment
from heartlens.risk.evaluable import SETTLED_BY_SIGNING
from heartlens.risk.person import RiskInputs
from heartlens.scoring.counted import Labeled, counted_voxels
from heartlens.scoring.report import ScoreReport

REPORT_SCHEMA = "heartlens.report/2"
OLD_REPORT_SCHEMAS = ("heartlens.report/1",)
"""Still read: version 1 has no `assessment`, and says `review` for `undecided`."""

CASE_SCHEMA = "heartlens.case/2"
OLD_CASE_SCHEMAS = ("heartlens.case/1",)
"""Still opened: version 1 has no checksum of the automatic result, and none on the lines of its journal."""


@dataclass(frozen=True, eq=False)
class Scored:
    """What follows from a case's inputs and edits, all of it together.

    Parameters
    ----------
    lesions
        After all edits.
    report
        Their scores.
    risk
        What published tables say about the score; withheld where the scan does not allow a statement.
    assessment
        What the number may be called.
    """

    lesions: LesionMap
    report: ScoreReport
    risk: Risk
    assessment: Assessment


@dataclass(frozen=True, eq=False)
class Case:
    """One CT with its lesions; every edit yields a new Case whose scores belong to it.

    Parameters
    ----------
    inputs
        The CT and what was found on it; cases that differ by edits share it.
    risk_inputs
        What is known of the person.
    cautions
        Warnings that travel with the result.
    provenance
        How the lesions came about.
    edits
        Everything the reader did, undo and redo included, oldest first.
    replayed
        The lesions that the edits lead to, where the caller has them; None derives them.

    Raises
    ------
    ValueError
        Edits that do not follow from each other.
    """

    inputs: CaseInputs
    risk_inputs: RiskInputs = field(default_factory=RiskInputs)
    cautions: tuple[WarningRecord, ...] = ()
    provenance: Provenance = field(default_factory=Provenance)
    edits: tuple[Edit, ...] = ()
    replayed: InitVar[LesionMap | None] = None
    scored: Scored = field(init=False, repr=False)

    def __post_init__(self, replayed: LesionMap | None) -> None:
        lesions = self._replay() if replayed is None else replayed
        report = self.inputs.auto_report if lesions is self.inputs.auto else self.inputs.score(lesions)
        risk, assessment = grade_score(
            report,
            self.risk_inputs,
            self.cautions,
            labels=self.provenance.labels,
            is_gated=self.source_ct.header.is_gated,
            is_read=bool(self.edits),
            unit=self.ct.pixel_area_mm2 * report.slice_factor,
        )
        scored = Scored(lesions, report, risk, assessment)
        object.__setattr__(self, "scored", scored)

    @classmethod
    def of(
        cls,
        source_ct: CTVolume,
        auto: LesionMap,
        protocol: ScoringProtocol,
        *,
        slice_probability: NDArray[np.float64] | None = None,
        **facts: Any,
    ) -> Case:
        """A case of a CT and the lesions that were found on it; see `CaseInputs` and `Case`."""
        return cls(CaseInputs(source_ct, auto, protocol, slice_probability), **facts)

    @property
    def source_ct(self) -> CTVolume:
        """The CT as it was read."""
        return self.inputs.source_ct

    @property
    def ct(self) -> CTVolume:
        """The CT that is scored: the source, or its slabs."""
        return self.inputs.ct

    @property
    def auto(self) -> LesionMap:
        """Lesions before any edit."""
        return self.inputs.auto

    @property
    def protocol(self) -> ScoringProtocol:
        """How the lesions are scored."""
        return self.inputs.protocol

    @property
    def slice_probability(self) -> NDArray[np.float64] | None:
        """(k,) of calcium on each scored slice; None without a classifier."""
        return self.inputs.slice_probability

    @property
    def slab_count(self) -> int:
        """Source slices per scored slice."""
        return self.inputs.slab_count

    @property
    def voxel_checksum(self) -> str:
        """SHA-256 of the source voxels."""
        return self.inputs.voxel_checksum

    @property
    def auto_report(self) -> ScoreReport:
        """The report before any edit."""
        return self.inputs.auto_report

    @property
    def lesions(self) -> LesionMap:
        """Lesions after all edits."""
        return self.scored.lesions

    @property
    def report(self) -> ScoreReport:
        """Scores of the lesions after all edits."""
        return self.scored.report

    @property
    def risk(self) -> Risk:
        """What published tables say about the score."""
        return self.scored.risk

    @property
    def assessment(self) -> Assessment:
        """What the number may be called."""
        return self.scored.assessment

    def _replay(self) -> LesionMap:
        if not self.edits:
            return self.inputs.auto
        draft = Draft(self.inputs.auto)
        for edit in self.edits_in_force:
            apply_edit(edit, draft)
        return draft.lesions()

    @cached_property
    def counted(self) -> Labeled:
        """The voxels that count, on the scored grid, that of `ct`."""
        return counted_voxels(self.ct, self.lesions, self.protocol)

    @property
    def shown(self) -> Labeled:
        """The voxels that count, on the source grid: what exports and screens hold."""
        if self.slab_count == 1:
            return self.counted
        flat = source_voxels(self.counted.flat, self.slab_count, self.ct.shape[1] * self.ct.shape[2])
        codes = np.repeat(self.counted.codes, self.slab_count)
        order = np.argsort(flat)
        return Labeled(flat[order], codes[order])

    @cached_property
    def scored_codes(self) -> NDArray[np.uint8]:
        """(k, j, i) `Artery` code of every voxel that counts, on the source grid: what exports hold."""
        codes = np.zeros(self.source_ct.shape, np.uint8)
        codes.reshape(-1)[self.shown.flat] = self.shown.codes
        return codes

    # Edits. Each returns a new Case, scored.

    def reassign(self, lesion_id: int, artery: Artery, *, who: str = "", when: str = "") -> Case:
        """The case with a lesion given to another artery."""
        return self.with_edits([Edit("reassign", lesion=lesion_id, artery=artery, who=who, when=when)])

    def accept(self, lesion_id: int, *, who: str = "", when: str = "") -> Case:
        """The case with an undecided lesion kept as it is called; another lesion needs no word, and stays as it is."""
        if not self.lesions.notes[lesion_id].undecided:
            return self
        return self.reassign(lesion_id, self.lesions.arteries[lesion_id], who=who, when=when)

    def place(self, lesion_id: int, site: Site, *, who: str = "", when: str = "") -> Case:
        """The case with a lesion called not coronary, and where it lies."""
        return self.with_edits([Edit("reassign", lesion=lesion_id, artery=Artery.OTHER, site=site, who=who, when=when)])

    def remove(self, lesion_id: int, *, who: str = "", when: str = "") -> Case:
        """The case without a lesion."""
        return self.with_edits([Edit("remove", lesion=lesion_id, who=who, when=when)])

    def paint(self, flat: ArrayLike, artery: Artery, *, who: str = "", when: str = "") -> Case:
        """Make a new lesion of those of the voxels, C-order indices into `ct`, that reach the threshold.

        Raises
        ------
        ValueError
            None of them does.
        """
        threshold_hu = self.protocol.label_threshold_hu
        indices = np.unique(np.asarray(flat, dtype=np.int64))
        indices = indices[self.ct.hu.reshape(-1)[indices] >= threshold_hu]
        if not indices.size:
            raise ValueError(f"no painted voxel reaches {threshold_hu:g} HU; paint over calcium")
        return self.with_edits([Edit("paint", artery=artery, runs=runs_of(indices), who=who, when=when)])

    def erase(self, flat: ArrayLike, *, who: str = "", when: str = "") -> Case:
        """The case with some voxels, C-order indices into `ct`, taken out of their lesions."""
        indices = np.unique(np.asarray(flat, dtype=np.int64))
        return self.with_edits([Edit("erase", runs=runs_of(indices), who=who, when=when)])

    def with_edits(self, edits: Sequence[Edit]) -> Case:
        """The case after some edits that a reader makes, and takes back, as one action.

        Parameters
        ----------
        edits
            In their order, none of them undo or redo; without any the case stays what it is, the same object.

        Raises
        ------
        ValueError
            One of them cannot be made.
        """
        if not edits:
            return self
        draft = Draft(self.lesions)
        for edit in edits:
            apply_edit(edit, draft)
        action = [replace(edit, joined=n > 0) for n, edit in enumerate(edits)]
        return replace(self, edits=(*self.edits, *action), replayed=draft.lesions())

    def undo(self, *, who: str = "", when: str = "") -> Case:
        """Take back the latest action that is in force.

        Raises
        ------
        ValueError
            There is none.
        """
        if not self.can_undo:
            raise ValueError("nothing to undo")
        return replace(self, edits=(*self.edits, Edit("undo", who=who, when=when)))

    def redo(self, *, who: str = "", when: str = "") -> Case:
        """Bring back the action that was undone last, as long as nothing was edited since."""
        if not self.can_redo:
            raise ValueError("nothing to redo")
        return replace(self, edits=(*self.edits, Edit("redo", who=who, when=when)))

    @property
    def can_undo(self) -> bool:
        """Whether an edit is in force that can be taken back."""
        return bool(self._history()[0])

    @property
    def can_redo(self) -> bool:
        """Whether an edit was taken back that can be made again."""
        return bool(self._history()[1])

    def graded(self, risk_inputs: RiskInputs) -> Case:
        """The same lesions and scores, graded for what is now known of the person, or by another table."""
        return replace(self, risk_inputs=risk_inputs, replayed=self.lesions)

    def with_seconds(self, seconds: Mapping[str, float]) -> Case:
        """The same case, with how long each stage took."""
        return replace(self, provenance=replace(self.provenance, seconds=seconds), replayed=self.lesions)

    @property
    def edits_in_force(self) -> list[Edit]:
        """The edits that were not taken back, in their order."""
        return edits_in_force(self.edits)

    def _history(self) -> tuple[list[list[Edit]], list[list[Edit]]]:
        return actions_of(self.edits)

    def _report_json(self) -> dict[str, Any]:
        """The scores, each lesion with the instance numbers of the source slices that it reaches into."""
        document, numbers, n = self.report.to_json(), self.source_ct.header.instance_numbers, self.slab_count
        for row in document["lesions"]:
            first, last = row["slices"]
            row["instances"] = sorted(numbers[first * n : (last + 1) * n])
        if not self.assessment.has_total:
            document["total"]["agatston"] = None
        return document

    def report_document(self, assessment: Assessment | None = None, signer: str | None = None) -> dict[str, Any]:
        """What report.json holds, schema `heartlens.report/2` (report/report.schema.json).

        Parameters
        ----------
        assessment
            Of a state that the case does not know, such as signed; None is the case's own.
        signer
            Who has signed, and has settled what asked for a reader.
        """
        provenance = self.provenance.to_json()
        scored_at = provenance.pop("scored_at", None)
        return {
            "schema": REPORT_SCHEMA,
            "notice": NOTICE,
            "scored_at": scored_at,
            **self._report_json(),
            "assessment": (assessment or self.assessment).to_json(),
            "risk": self.risk.to_json(),
            "ct": _ct_document(self.source_ct),
            "protocol": self.protocol.to_json(),
            "warnings": [_warning(caution, signer) for caution in self.cautions],
            "edits": len(self.edits),
            "patient": {name: getattr(self.risk_inputs, name) for name in ("age_years", "sex", "race")},
            "provenance": {
                **provenance,
                "version": __version__,
                "checksums": {"voxels_sha256": self.voxel_checksum, **provenance.get("checksums", {})},
            },
        }


def _warning(caution: WarningRecord, signer: str | None) -> dict[str, str | None]:
    by = signer if caution.code in SETTLED_BY_SIGNING else None
    return {"code": caution.code, "text": caution.text, "state": "resolved" if by else "open", "by": by}


def _ct_document(ct: CTVolume) -> dict[str, Any]:
    header = ct.header
    dz, dy, dx = ct.spacing_mm
    acquisition: Sequence[str] = (
        "study_uid", "series_uid", "kvp", "slice_thickness_mm", "kernel", "is_gated", "contrast", "manufacturer",
        "model", "reconstruction_diameter_mm", "acquired",
    )  # fmt: skip
    return {
        "slices": ct.shape[0],
        "rows": ct.shape[1],
        "columns": ct.shape[2],
        "increment_mm": dz,
        "row_spacing_mm": dy,
        "column_spacing_mm": dx,
        "affine_lps_mm": ct.affine.tolist(),
        **{name: getattr(header, name) for name in acquisition},
        "image_type": list(header.image_type),
    }
