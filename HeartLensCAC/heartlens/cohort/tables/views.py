"""Views of the tables under the names of other cohorts, so that they can be joined at once.

The names are those found in public code: MESA's agat{u}{scan}{exam}c, NHLBI BioData Catalyst's cac_score_1 and
cac_volume_1 (TOPMed harmonized variables), OMOP's concept 42872742 "Coronary artery calcium score", and NLST's pid and
study_yr. LOINC mappings in public tables contradict each other (four codes for one quantity): none is given.
"""

from __future__ import annotations

import re
from typing import Any

OMOP_CONCEPT = 42872742
"""Coronary artery calcium score."""

SCANS = ("1", "2")
"""Repeated scans of a MESA exam; m is their mean."""


def make_views(con: Any) -> None:
    """Make the views `mesa`, `nhlbi`, `omop` and `nlst` over the table `series`; each holds scored series alone.

    MESA's phantom-adjusted scores (agatp…) are not given: nothing here is calibrated with MESA's phantom.

    Parameters
    ----------
    con
        Database with the table.
    """
    con.execute(
        "CREATE VIEW nhlbi AS SELECT subject, patient_key, agatston AS cac_score_1, volume_mm3 AS cac_volume_1, "
        "age AS age_at_cac_score_1 FROM series WHERE status = 'scored'"
    )
    con.execute(
        f"CREATE VIEW omop AS SELECT coalesce(subject, patient_key) AS person_source_value, "
        f"{OMOP_CONCEPT} AS measurement_concept_id, study_date AS measurement_date, agatston AS value_as_number, "
        "'Agatston' AS measurement_source_value, NULL::INTEGER AS unit_concept_id "
        "FROM series WHERE status = 'scored'"
    )
    con.execute(
        "CREATE VIEW nlst AS SELECT subject AS pid, try_cast(exam AS INTEGER) AS study_yr, series_uid AS seriesuid, "
        "agatston, agatston_int, category, status, code FROM series"
    )
    con.execute(f"CREATE VIEW mesa AS {_mesa(con)}")


def _mesa(con: Any) -> str:
    """One row a subject: agatu{1|2|m}{exam}c and volu{1|2|m}{exam}c of every exam with a number."""
    found = con.execute("SELECT DISTINCT exam FROM series WHERE status = 'scored' AND exam IS NOT NULL").fetchall()
    exams = sorted(exam for (exam,) in found if re.fullmatch(r"\d{1,3}", exam))
    columns = ["subject AS idno"]
    for exam in exams:
        for short, value in (("agat", "agatston"), ("vol", "volume_mm3")):
            here = f"exam = '{exam}'"
            for scan in SCANS:
                is_first = " OR scan IS NULL" if scan == "1" else ""
                columns.append(f"avg({value}) FILTER ({here} AND (scan = '{scan}'{is_first})) AS {short}u{scan}{exam}c")
            columns.append(f"avg({value}) FILTER ({here}) AS {short}um{exam}c")
    return (
        f"SELECT {', '.join(columns)} FROM series WHERE status = 'scored' AND subject IS NOT NULL GROUP BY subject "
        "ORDER BY subject"
    )
