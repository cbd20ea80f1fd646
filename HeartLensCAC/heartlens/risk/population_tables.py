"""Numbers from published cohorts: MESA and Hoff percentiles, arterial age, MESA 10-year risk.

A person outside the people a table was made from gets no number from it, and the reason is kept.
Every table is a CSV in tables/ that names its source.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from heartlens.core.disk.reading import read_regular
from heartlens.core.errors import InputRefused

RACES = ("white", "chinese", "black", "hispanic")
SEXES = ("M", "F")

MESA_AGES_YEARS = (45, 84)
"""Youngest and oldest age in MESA, in completed years; McClelland et al., Circulation 2006, 113:30."""

MESA_PERCENTILE_SOURCE = "MESA percentile: McClelland et al., Circulation 2006, 10.1161/CIRCULATIONAHA.105.580696"
ARTERIAL_AGE_SOURCE = "Arterial age: McClelland et al., Am J Cardiol 2009, 10.1016/j.amjcard.2008.08.031"
MESA_RISK_SOURCE = "MESA 10-year CHD risk: McClelland et al., J Am Coll Cardiol 2015, 10.1016/j.jacc.2015.08.035"

MOST_BYTES = 1 << 20
"""Of a file of risk factors, which holds a dozen numbers."""

ARTERIAL_AGE_AT_ZERO_YEARS = 39.1
ARTERIAL_AGE_YEARS_PER_LOG = 7.25
"""Arterial age = 39.1 + 7.25 ln(CAC + 1); McClelland et al., Am J Cardiol 2009."""


class OutsideCohort(ValueError):
    """A published table or equation does not cover this person. `reason` says why, without identity."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def table_rows(table: str) -> list[dict[str, str]]:
    """Rows of a CSV in tables/ without its comment lines."""
    text = (files("heartlens.risk") / "tables" / table).read_text(encoding="utf-8")
    return list(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))


def rounded_agatston(score: float) -> int:
    """The integer that categories are taken from: half up, and at least 1 for any score above 0.

    Examples
    --------
    >>> [rounded_agatston(s) for s in (0, 0.2, 1.4, 10.5)]
    [0, 1, 1, 11]
    """
    if not (math.isfinite(score) and score >= 0):
        raise ValueError(f"an Agatston score must be finite and not negative, got {score}")
    return max(1, math.floor(score + 0.5)) if score > 0 else 0


@dataclass(frozen=True)
class RiskFactors:
    """What the MESA 10-year risk asks besides age, sex, race and score. US units.

    Parameters
    ----------
    total_cholesterol_mg_dl, hdl_mg_dl
        mg/dL
    systolic_bp_mmhg
        mmHg
    lipid_drug, bp_drug
        Takes a lipid-lowering drug, a drug against hypertension.
    diabetes, smoker
        Has diabetes, smokes now.
    family_history
        Heart attack of a parent, sibling or child.

    Raises
    ------
    ValueError
        A value of the wrong type, or so far off that it must be in another unit.
    """

    total_cholesterol_mg_dl: float
    hdl_mg_dl: float
    systolic_bp_mmhg: float
    lipid_drug: bool
    bp_drug: bool
    diabetes: bool
    smoker: bool
    family_history: bool

    def __post_init__(self) -> None:
        millimoles = "values in mmol/L are 38.67 times smaller"
        self._check_number("total_cholesterol_mg_dl", 50, 1000, millimoles)
        self._check_number("hdl_mg_dl", 10, 300, millimoles)
        self._check_number("systolic_bp_mmhg", 50, 300, "values in kPa are 7.5 times smaller")
        if self.hdl_mg_dl >= self.total_cholesterol_mg_dl:
            raise ValueError(
                f"hdl_mg_dl must be below total_cholesterol_mg_dl, got {self.hdl_mg_dl:g} and "
                f"{self.total_cholesterol_mg_dl:g}"
            )
        for name in ("lipid_drug", "bp_drug", "diabetes", "smoker", "family_history"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} must be true or false, got {getattr(self, name)!r}")

    def _check_number(self, name: str, low: float, high: float, hint: str) -> None:
        value = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{name} must be a number, got {value!r}")
        if not low <= value <= high:
            raise ValueError(f"{name} must lie in {low:g}..{high:g}, got {value:g}; {hint}")

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> RiskFactors:
        """From a JSON object that has every field and nothing else.

        Raises
        ------
        ValueError
            Names the missing, unknown or wrong fields.
        """
        names = [field.name for field in fields(cls)]
        if not isinstance(document, Mapping):
            raise ValueError(f"expected an object with {', '.join(names)}, got {type(document).__name__}")
        missing = [name for name in names if name not in document]
        unknown = [str(name) for name in document if name not in names]
        if missing or unknown:
            raise ValueError(
                f"expected exactly {', '.join(names)}; missing: {', '.join(missing) or 'none'}; "
                f"unknown: {', '.join(unknown) or 'none'}"
            )
        return cls(**document)


def read_risk_factors(path: Path) -> RiskFactors:
    """Read a JSON file of risk factors.

    Raises
    ------
    InputRefused
        Code "input"; the file is missing, is not JSON, or a field is wrong.
    """
    try:
        return RiskFactors.from_json(json.loads(read_regular(path, MOST_BYTES)))
    except InputRefused as refusal:
        raise InputRefused("input", f"risk factors: {refusal.text}") from None
    except RecursionError:
        raise InputRefused("input", f"risk factors {path}: expected a flat list of facts, found a deep one") from None
    except (ValueError, TypeError) as error:  # wrong JSON, wrong encoding, wrong field
        raise InputRefused("input", f"risk factors {path}: {str(error)[:200]}") from error


@cache
def _mesa_percentiles() -> tuple[tuple[float, ...], dict[tuple[str, str], tuple[list[float], list[list[float]]]]]:
    """Scores of the table's columns, and per (sex, race): ages, and one row of percentiles an age."""
    rows = table_rows("mesa_percentile.csv")
    columns = [name for name in rows[0] if name.startswith("score_")]
    table: dict[tuple[str, str], tuple[list[float], list[list[float]]]] = {}
    for row in rows:
        ages, percentiles = table.setdefault((row["sex"], row["race"]), ([], []))
        ages.append(float(row["age_years"]))
        percentiles.append([float(row[name]) for name in columns])
    return tuple(float(name.removeprefix("score_")) for name in columns), table


def mesa_percentile(score: float, age_years: float, sex: str, race: str) -> float:
    """Percentile (0-99, unrounded) of a score among people of this age, sex and race in MESA.

    Linear in completed years between the rows of the table, then linear in ln(score).
    A score of 0 is percentile 0; between 0 and 1 the column of 1 is used.

    Raises
    ------
    OutsideCohort
        Age, sex or race outside MESA, or a score above the table's last column.

    Examples
    --------
    >>> round(mesa_percentile(45, 46, "M", "white"))
    89
    """
    years = _check_mesa(age_years, sex, race)
    if rounded_agatston(score) == 0:
        return 0.0
    scores, table = _mesa_percentiles()
    ages, rows = table[sex, race]
    at_age = [float(np.interp(years, ages, column)) for column in zip(*rows, strict=True)]
    if score > scores[-1]:
        raise OutsideCohort(
            f"the score lies above {scores[-1]:g}, the largest in the MESA table, "
            f"which is percentile {at_age[-1]:.0f} at this age"
        )
    return float(np.interp(math.log(max(score, 1.0)), np.log(scores), at_age))


def mesa_calcium_prevalence_percent(age_years: float, sex: str, race: str) -> float:
    """About how many percent of people of this age, sex and race in MESA had any coronary calcium."""
    return 100.0 - mesa_percentile(1.0, age_years, sex, race)


def hoff_percentile_band(score: float, age_years: float, sex: str) -> tuple[int, int]:
    """Percentiles between which a score lies among 35,246 adults of this age and sex (Hoff et al. 2001).

    Returns
    -------
    tuple[int, int]
        (low, high) of 0, 25, 50, 75, 90, 100; a score equal to a cut-off lies above it

    Raises
    ------
    OutsideCohort
        Unknown sex, or not an adult.

    Examples
    --------
    >>> hoff_percentile_band(150, 57, "M")
    (50, 75)
    """
    if sex not in SEXES:
        raise OutsideCohort("Hoff percentiles need sex M or F")
    if not (math.isfinite(age_years) and age_years >= 18):
        raise OutsideCohort(f"Hoff percentiles are of adults, age is {age_years:g}")
    rounded_agatston(score)  # refuses what is not a score
    levels = (25, 50, 75, 90)
    for row in table_rows("hoff_percentile.csv"):
        to = float(row["age_to"]) if row["age_to"] else math.inf
        if row["sex"] == sex and float(row["age_from"]) <= math.floor(age_years) <= to:
            # 0 is a cut-off of the young: a score of 0 does not lie above anybody.
            above = sum(score > 0 and score >= float(row[f"p{level}"]) for level in levels)
            return (0, *levels)[above], (*levels, 100)[above]
    raise AssertionError("the table covers every adult age")


def arterial_age_years(score: float, *, diabetes: bool | None = None) -> float:
    """Age at which the risk of a person without other risk factors equals that of this score (MESA).

    Raises
    ------
    OutsideCohort
        With diabetes, for which the formula was not made.

    Examples
    --------
    >>> round(arterial_age_years(100), 1)
    72.6
    """
    if diabetes:
        raise OutsideCohort("the formula does not apply to people with diabetes")
    rounded_agatston(score)
    return ARTERIAL_AGE_AT_ZERO_YEARS + ARTERIAL_AGE_YEARS_PER_LOG * math.log(score + 1.0)


@cache
def _mesa_risk_terms() -> dict[str, tuple[float, float | None]]:
    return {
        row["term"]: (float(row["with_cac"]), float(row["without_cac"]) if row["without_cac"] else None)
        for row in table_rows("mesa_risk.csv")
    }


def mesa_risk_percent(
    age_years: float, sex: str, race: str, risk_factors: RiskFactors, score: float | None = None
) -> float:
    """10-year risk of coronary heart disease, percent, unrounded and not clipped (MESA 2015).

    Parameters
    ----------
    age_years
        Within `MESA_AGES_YEARS`.
    sex
        "M" or "F"
    race
        One of `RACES`.
    risk_factors
        All of them.
    score
        Agatston; None gives the risk that the same equation family states without it.

    Raises
    ------
    OutsideCohort
        Age, sex or race outside MESA.
    """
    years = _check_mesa(age_years, sex, race)
    values = {
        "age_years": float(years),
        "male": float(sex == "M"),
        **{other: float(race == other) for other in RACES if other != "white"},
        **{name: float(value) for name, value in asdict(risk_factors).items()},
    }
    if score is not None:
        rounded_agatston(score)
        values["log_agatston_plus_1"] = math.log(score + 1.0)
    terms = {name: pair[0 if score is not None else 1] for name, pair in _mesa_risk_terms().items()}
    survival = terms.pop("survival_10_years")
    exponent = sum(coefficient * values[name] for name, coefficient in terms.items() if coefficient is not None)
    assert survival is not None
    return 100.0 * (1.0 - survival ** math.exp(exponent))


def _check_mesa(age_years: float, sex: str, race: str) -> int:
    """Completed years of somebody MESA covers."""
    years = check_mesa_age(age_years)
    if sex not in SEXES:
        raise OutsideCohort("MESA tables need sex M or F")
    if race not in RACES:
        raise OutsideCohort(f"MESA tables cover {', '.join(RACES)}")
    return years


def check_mesa_age(age_years: float) -> int:
    """Age in completed years; raise `OutsideCohort` when MESA does not cover it."""
    youngest, oldest = MESA_AGES_YEARS
    if not (math.isfinite(age_years) and youngest <= math.floor(age_years) <= oldest):
        raise OutsideCohort(f"MESA covers ages {youngest} to {oldest}, age is {age_years:g}")
    return math.floor(age_years)
