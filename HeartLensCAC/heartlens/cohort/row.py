"""One row of the table: what a report says."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from heartlens.cohort.tables.columns import ARTERIES
from heartlens.report.outputs import LESION_COLUMNS
from heartlens.risk.evaluable import EVALUABLE_BY_CODE, Evaluable

SCORED, HELD, FAILED = "scored", "held", "failed"


def row_of_report(report: Mapping[str, Any]) -> dict[str, Any]:
    """A row of a scored or held scan, with its lesions, by the columns of series.parquet and lesions.csv.

    What `Assessment` does not let say is not in it: a held scan has no score, no category and no percentile.

    Parameters
    ----------
    report
        What report.json holds.
    """
    assessment, ct = report["assessment"], report["ct"]
    row: dict[str, Any] = {
        "evaluable": assessment["evaluable"],
        "reasons": assessment["reasons"],
        "state": assessment["state"],
        "undecided": len(assessment["undecided"]),
        "age": report["patient"]["age_years"],
        "sex": report["patient"]["sex"],
        "race": report["patient"]["race"],
        "kvp": ct["kvp"],
        "thickness_mm": ct["slice_thickness_mm"],
        "increment_mm": ct["increment_mm"],
        "pixel_mm": ct["column_spacing_mm"],
        "kernel": ct["kernel"],
        "gated": ct["is_gated"],
        "contrast": None if ct["contrast"] is None else bool(ct["contrast"]),
        "manufacturer": ct["manufacturer"],
        "model": ct["model"],
        "slices": ct["slices"],
        "length_mm": (ct["slices"] - 1) * ct["increment_mm"],
        "fov_mm": ct["columns"] * ct["column_spacing_mm"],
        "warnings": [warning["code"] for warning in report["warnings"]],
        "profile": report["protocol"]["name"],
        "version": report["provenance"]["version"],
        "bundle": report["provenance"]["bundle"],
        "device": report["provenance"]["device"],
        "voxels_sha256": report["provenance"]["checksums"]["voxels_sha256"],
        "scored_at": report["scored_at"],
        "edits": report["edits"],
        "reader": None,
        "signed_at": None,
    }
    if assessment["evaluable"] == Evaluable.NO.value:
        decisive = [code for code in assessment["reasons"] if EVALUABLE_BY_CODE.get(code) is Evaluable.NO]
        return {**row, "status": HELD, "code": decisive[0], "text": assessment["texts"]["why"], "lesions_found": []}
    return {**row, **_scores(report), "status": SCORED, "code": None, "text": None}


def _scores(report: Mapping[str, Any]) -> dict[str, Any]:
    assessment, risk, total = report["assessment"], report["risk"], report["total"]
    low, high = assessment["category_low"], assessment["category_high"]
    drs = {assessment["cac_drs_low"], assessment["cac_drs_high"]}
    scores: dict[str, Any] = {
        "agatston": total["agatston"],
        "agatston_int": math.floor(total["agatston"] + 0.5),
        "agatston_low": assessment["total_low"],
        "agatston_high": assessment["total_high"],
        "volume_mm3": total["volume_mm3"],
        "mass_mg": total["mass_mg"],
        "density": total["density"],
        "lesions": total["lesions"],
        "calcified_vessels": report["distribution"]["calcified_vessels"],
        "diffusivity": report["distribution"]["diffusivity"],
        "scheme": assessment["scheme"],
        "category": low if low == high else None,
        "category_low": low,
        "category_high": high,
        "cac_drs": drs.pop() if len(drs) == 1 else None,
        "likeliest": assessment["likeliest"],
        "likeliest_probability": assessment["likeliest_probability"],
        "is_estimate": assessment["is_estimate"],
        "percentile": risk["percentile"],
        "arterial_age": risk["arterial_age_years"],
    }
    groups = {**report["arteries"], "UNASSIGNED": report["unassigned"], "OTHER": report["other"]}
    for name in ARTERIES:
        for what in ("agatston", "volume_mm3", "lesions"):
            scores[f"{name}_{what}"] = groups[name.upper()][what]
    scores["lesions_found"] = [_lesion(one, report) for one in report["lesions"]]
    return scores


def _lesion(one: Mapping[str, Any], report: Mapping[str, Any]) -> dict[str, Any]:
    """A row of lesions.csv, from a lesion of report.json."""
    first, last = one["slices"]
    x, y, z = one["centroid_lps_mm"]
    places = {"first_slice": first, "last_slice": last}
    places |= {"centroid_x_lps_mm": x, "centroid_y_lps_mm": y, "centroid_z_lps_mm": z}
    of_result = {
        "undecided": int(one["undecided"]),
        "series_uid": report["ct"]["series_uid"],
        "voxels_sha256": report["provenance"]["checksums"]["voxels_sha256"],
        "scored_at": report["scored_at"],
        "edits": report["edits"],
    }
    known = {**one, **places, **of_result}
    return {column.name: known[column.name] for column in LESION_COLUMNS}
