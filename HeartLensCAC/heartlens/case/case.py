"""A Case: one CT, its lesions, the reader's edits, and the report that always belongs to them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heartlens import __version__
from heartlens.case.edits import Edit, _apply, _runs
from heartlens.core.ct import CTVolume
from heartlens.core.errors import WarningRecord
from heartlens.core.lesions import SCORED_ARTERIES, Artery, Draft, LesionMap, Voxels
from heartlens.core.protocol import NOTICE, ScoringProtocol
from heartlens.core.slabs import average_slabs, slices_per_slab, source_voxels
from heartlens.risk.assess import Risk, assess
from heartlens.risk.category_probability import category_probabilities
from heartlens.risk.person import RiskInputs
from heartlens.scoring.counted import Labeled, counted_voxels
from heartlens.scoring.report import ScoreReport, score_lesions

REPORT_SCHEMA = "heartlens.report/1"
CASE_SCHEMA = "heartlens.case/1"


@dataclass(frozen=True, eq=False)
class Case:
    """One CT with its lesions; every edit yields a new Case whose report belongs to it.

    Parameters
    ----------
    source_ct
        The CT as it was read.
    auto
        lesions before any edit, on the grid of `ct`
    protocol, risk_inputs
        How they are scored and graded.
    cautions
        Warnings that travel with the result.
    provenance
        Version, bundle, checksums, device, seconds, input.
    edits
        Everything the reader did, undo and redo included, oldest first.
    slice_probability
        (k,) of calcium on each scored slice, when a classifier gave it; nan where it was not asked
    """

    source_ct: CTVolume
    auto: LesionMap
    protocol: ScoringProtocol
    risk_inputs: RiskInputs = field(default_factory=RiskInputs)
    cautions: tuple[WarningRecord, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    edits: tuple[Edit, ...] = ()
    slice_probability: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        slices, rows, columns = self.source_ct.shape
        grid = (slices // self.slab_count, rows, columns)
        if self.auto.shape != grid:
            raise ValueError(f"lesions must lie on the scored grid {grid}, got {self.auto.shape}")
        if self.slice_probability is not None and self.slice_probability.shape != grid[:1]:
            raise ValueError(f"expected a probability for each of {grid[0]} slices, got {self.slice_probability.shape}")

    @cached_property
    def voxel_checksum(self) -> str:
        """SHA-256 of the source voxels, by which a case knows its CT again."""
        return hashlib.sha256(np.ascontiguousarray(self.source_ct.hu).data).hexdigest()

    @property
    def slab_count(self) -> int:
        """Source slices per scored slice; 1 unless the protocol asks for slabs."""
        return 1 if self.protocol.slab_mm is None else slices_per_slab(self.source_ct, self.protocol.slab_mm)

    @cached_property
    def ct(self) -> CTVolume:
        """The CT that is scored: the source, or its slabs."""
        return average_slabs(self.source_ct, self.slab_count)

    @cached_property
    def lesions(self) -> LesionMap:
        """Lesions after all edits."""
        draft = Draft(self.auto)
        for edit in self._in_force():
            _apply(edit, draft)
        return draft.lesions()

    @cached_property
    def report(self) -> ScoreReport:
        """Scores of the lesions after all edits."""
        return score_lesions(self.ct, self.lesions, self.protocol, slice_probability=self.slice_probability)

    @cached_property
    def auto_report(self) -> ScoreReport:
        """The report before any edit."""
        return score_lesions(self.ct, self.auto, self.protocol, slice_probability=self.slice_probability)

    @cached_property
    def risk(self) -> Risk:
        """What published tables say about the score; withheld where the scan does not allow a statement."""
        codes = {"extrapolated-gaps"}
        if self.provenance.get("labels") in ("rules", "network"):
            codes.add("no-heart")  # nothing was looked at: a 0 would be a claim that nobody made
        withhold = next((c.text for c in self.cautions if c.code in codes), None)
        risk = assess(
            self.report.total.agatston,
            self.report.calcified_vessels,
            withhold=withhold,
            is_gated=self.source_ct.header.is_gated,
            has_unassigned=self.report.arteries[Artery.UNASSIGNED].agatston > 0,
            **{name: getattr(self.risk_inputs, name) for name in RiskInputs.__dataclass_fields__},
        )
        if withhold or self.provenance.get("labels") != "network":
            return risk
        return replace(risk, category_probability=self._category_probability())

    def _category_probability(self) -> tuple[tuple[str, float], ...] | None:
        """From the networks' probability of each lesion, left-out ones too; what a reader decided is certain."""
        lesions = self.report.lesions
        certain = {True: 1.0, False: 0.0}
        return category_probabilities(
            [lesion.agatston for lesion in lesions],
            [
                certain[lesion.artery in SCORED_ARTERIES] if lesion.probability is None else lesion.probability
                for lesion in lesions
            ],
            unit=self.ct.pixel_area_mm2 * self.report.slice_factor,
            scheme=self.risk_inputs.scheme,
        )

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

    # Edits. Each returns a new Case; nothing is scored until its report is asked for.

    def reassign(self, lesion_id: int, artery: Artery, *, who: str = "", when: str = "") -> Case:
        """The case with a lesion given to another artery."""
        action = Action(self, who=who, when=when)
        action.reassign(lesion_id, artery)
        return action.case()

    def remove(self, lesion_id: int, *, who: str = "", when: str = "") -> Case:
        """The case without a lesion."""
        action = Action(self, who=who, when=when)
        action.remove(lesion_id)
        return action.case()

    def paint(self, flat: ArrayLike, artery: Artery, *, who: str = "", when: str = "") -> Case:
        """Make a new lesion of those of the voxels that reach the threshold.

        Raises
        ------
        ValueError
            none of them does
        """
        action = Action(self, who=who, when=when)
        action.paint(flat, artery)
        return action.case()

    def erase(self, flat: ArrayLike, *, who: str = "", when: str = "") -> Case:
        """The case with some voxels, C-order indices into `ct`, taken out of their lesions."""
        action = Action(self, who=who, when=when)
        action.erase(flat)
        return action.case()

    def undo(self, *, who: str = "", when: str = "") -> Case:
        """Take back the latest action that is in force.

        Raises
        ------
        ValueError
            There is none.
        """
        if not self.can_undo:
            raise ValueError("nothing to undo")
        return self.with_edits([Edit("undo", who=who, when=when)])

    def redo(self, *, who: str = "", when: str = "") -> Case:
        """Bring back the action that was undone last, as long as nothing was edited since."""
        if not self.can_redo:
            raise ValueError("nothing to redo")
        return self.with_edits([Edit("redo", who=who, when=when)])

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
        graded = replace(self, risk_inputs=risk_inputs)
        for name in ("ct", "auto_report", "voxel_checksum", "lesions", "report", "counted"):  # what no grading changes
            if name in self.__dict__:
                graded.__dict__[name] = self.__dict__[name]
        return graded

    def with_edits(self, edits: Sequence[Edit], lesions: LesionMap | None = None) -> Case:
        """The case with more edits; the lesions that they lead to, when the caller has them, are not derived again."""
        edited = replace(self, edits=(*self.edits, *edits))
        for name in ("ct", "auto_report", "voxel_checksum"):  # what no edit changes
            if name in self.__dict__:
                edited.__dict__[name] = self.__dict__[name]
        if lesions is not None:
            edited.__dict__["lesions"] = lesions
        return edited

    def _in_force(self) -> list[Edit]:
        return [edit for action in self._history()[0] for edit in action]

    def _history(self) -> tuple[list[list[Edit]], list[list[Edit]]]:
        """Actions in force and actions undone (latest last), each with its edits."""
        done: list[list[Edit]] = []
        undone: list[list[Edit]] = []
        for edit in self.edits:
            if edit.kind == "undo":
                undone.append(done.pop())
            elif edit.kind == "redo":
                done.append(undone.pop())
            elif edit.joined:
                done[-1].append(edit)
            else:
                done.append([edit])
                undone.clear()
        return done, undone

    def report_document(self) -> dict[str, Any]:
        """report.json, schema `heartlens.report/1`."""
        return {
            "schema": REPORT_SCHEMA,
            "notice": NOTICE,
            **self.report.to_json(),
            "risk": self.risk.to_json(),
            "ct": _ct_document(self.source_ct),
            "protocol": self.protocol.to_json(),
            "warnings": [{"code": c.code, "text": c.text} for c in self.cautions],
            "edits": len(self.edits),
            "provenance": {
                "version": __version__,
                **{name: fact for name, fact in self.provenance.items() if name != "source"},
                "checksums": {"voxels_sha256": self.voxel_checksum, **self.provenance.get("checksums", {})},
            },
        }


class Action:
    """Edits that a reader makes, and takes back, as one.

    Parameters
    ----------
    case
        As it was.
    who, when
        Reader and ISO 8601 time.
    """

    def __init__(self, case: Case, *, who: str = "", when: str = "") -> None:
        self._case, self._who, self._when = case, who, when
        self._draft = Draft(case.lesions)
        self._edits: list[Edit] = []

    @property
    def voxels(self) -> Voxels:
        """Labeled voxels, as edited so far."""
        return self._draft.voxels

    @property
    def arteries(self) -> Mapping[int, Artery]:
        """Artery of each lesion, as edited so far."""
        return self._draft.arteries

    def case(self) -> Case:
        """The case after the action; the same one when nothing was done."""
        if not self._edits:
            return self._case
        return self._case.with_edits(self._edits, self._draft.lesions())

    def reassign(self, lesion_id: int, artery: Artery) -> None:
        """Give a lesion to another artery."""
        self._do("reassign", lesion=lesion_id, artery=artery)

    def remove(self, lesion_id: int) -> None:
        """Remove a lesion."""
        self._do("remove", lesion=lesion_id)

    def paint(self, flat: ArrayLike, artery: Artery) -> None:
        """As `Case.paint`."""
        indices = np.unique(np.asarray(flat, dtype=np.int64))
        ct, threshold_hu = self._case.ct, self._case.protocol.label_threshold_hu
        indices = indices[ct.hu.reshape(-1)[indices] >= threshold_hu]
        if not indices.size:
            raise ValueError(f"no painted voxel reaches {threshold_hu:g} HU; paint over calcium")
        self._do("paint", artery=artery, runs=_runs(indices))

    def erase(self, flat: ArrayLike) -> None:
        """Take voxels, C-order indices into the CT, out of their lesions."""
        self._do("erase", runs=_runs(np.unique(np.asarray(flat, dtype=np.int64))))

    def _do(self, kind: str, **what: Any) -> None:
        edit = Edit(kind, **what, who=self._who, when=self._when, joined=bool(self._edits))
        _apply(edit, self._draft)  # an edit that cannot be made raises here
        self._edits.append(edit)


def _ct_document(ct: CTVolume) -> dict[str, Any]:
    header = ct.header
    dz, dy, dx = ct.spacing_mm
    acquisition: Sequence[str] = (
        "study_uid", "series_uid", "kvp", "slice_thickness_mm", "kernel", "is_gated", "contrast", "manufacturer",
        "model", "reconstruction_diameter_mm",
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
