"""Columns of the tables of a cohort, as docs/data-dictionary.md describes them."""

from __future__ import annotations

from heartlens.report.outputs import LESION_COLUMNS, Column

_PLAN, _FILE, _CT, _SCORES = (
    "plan",
    "the CSV list of the user",
    "the CT's header and geometry",
    "CT, labels and protocol",
)
_ASSESSED, _BY, _JOURNAL = "assessment of the result", "the program that scored", "the case folder"
_COMPARED, _NOT_SCORED = "comparison of the cases", "The series was not scored."
_NO_RESULT = "The series was not scored, or is held."
_NAMELESS = "No key was given, or the files name nobody."
_NOT_GIVEN, _NOT_KNOWN = "Not given.", "Not known, or the series was not scored."

TEXT, INTEGER, NUMBER, YES_NO, DAY, LIST = "text", "integer", "number", "yes or no", "day", "list of text"

_KEY = (
    Column("key", TEXT, "", "Checksum of the SOP Instance UIDs and sizes of the files: the key of the series.", _PLAN),
    Column("settings", TEXT, "", "Checksum of version, bundle and options: the key of how it was scored.", _PLAN),
)

_GIVEN = (
    Column("patient_key", TEXT, "", "Pseudonym: HMAC of the patient ID.", "the key of the user", _NAMELESS),
    Column("subject", TEXT, "", "Number of the person in the study.", _FILE, _NOT_GIVEN),
    Column("exam", TEXT, "", "Number of the examination, such as the study year.", _FILE, _NOT_GIVEN),
    Column("scan", TEXT, "", "Which of repeated scans of one examination.", _FILE, _NOT_GIVEN),
)

_UIDS = (
    Column("study_uid", TEXT, "", "Study of the series.", "DICOM (0020,000D)", "The CT is not DICOM."),
    Column("series_uid", TEXT, "", "The series.", "DICOM (0020,000E)", "The CT is not DICOM."),
    Column("study_date", DAY, "", "Day of the acquisition.", "DICOM header", "Not known."),
)

_FATE = (
    Column(
        "status", TEXT, "",
        "scored; held: not evaluable; refused; failed; duplicate of another series; not chosen; waiting.",
        "plan, and the run",
    ),
    Column("code", TEXT, "", "Why it is not scored, for programs.", "plan, and the run", "It is scored, or waits."),
    Column("text", TEXT, "", "Why it is not scored, in words.", "plan, and the run", "It is scored, or waits."),
    Column("duplicate_of", TEXT, "", "Key of the series with the same images.", _PLAN, "It is no duplicate."),
)  # fmt: skip

_TOTALS = (
    Column("agatston", NUMBER, "score", "Total Agatston score.", _SCORES, _NO_RESULT),
    Column("agatston_int", INTEGER, "score", "The same, rounded half up.", _SCORES, _NO_RESULT),
    Column("agatston_low", NUMBER, "score", "Without undecided lesions that are counted.", _ASSESSED, _NO_RESULT),
    Column("agatston_high", NUMBER, "score", "With every undecided lesion.", _ASSESSED, _NO_RESULT),
    Column("volume_mm3", NUMBER, "mm3", "Volume score.", _SCORES, _NO_RESULT),
    Column("mass_mg", NUMBER, "mg", "Calcium mass.", _SCORES, "There is no calibration, or no result."),
    Column("density", NUMBER, "1", "Mean weight, 1 to 4, of the area.", _SCORES, "Nothing is counted, or no result."),
    Column("lesions", INTEGER, "lesions", "How many are counted.", _SCORES, _NO_RESULT),
    Column(
        "calcified_vessels", INTEGER, "arteries", "How many of LM, LAD, LCX, RCA score above 0.", _SCORES, _NO_RESULT
    ),
    Column(
        "diffusivity", NUMBER, "1", "1 minus the share of the leading artery.", _SCORES, "The total is 0, or no result."
    ),
)

ARTERIES = ("lm", "lad", "lcx", "rca", "unassigned", "other")

_ARTERIES = tuple(
    column
    for name in ARTERIES
    for column in (
        Column(f"{name}_agatston", NUMBER, "score", f"Agatston score of {name.upper()}.", _SCORES, _NO_RESULT),
        Column(f"{name}_volume_mm3", NUMBER, "mm3", f"Volume score of {name.upper()}.", _SCORES, _NO_RESULT),
        Column(f"{name}_lesions", INTEGER, "lesions", f"Lesions called {name.upper()}.", _SCORES, _NO_RESULT),
    )
)

_GRADE = (
    Column("evaluable", TEXT, "", "yes, limited or no.", _ASSESSED, _NOT_SCORED),
    Column("reasons", LIST, "", "Codes of the warnings that limit it.", _ASSESSED, _NOT_SCORED),
    Column("state", TEXT, "", "draft, read, signed or altered.", _ASSESSED, _NOT_SCORED),
    Column("scheme", TEXT, "", "Of the categories.", _ASSESSED, _NO_RESULT),
    Column("category", TEXT, "", "The one category.", _ASSESSED, "A reader must decide between several, or no result."),
    Column("category_low", TEXT, "", "Category of agatston_low.", _ASSESSED, _NO_RESULT),
    Column("category_high", TEXT, "", "Category of agatston_high.", _ASSESSED, _NO_RESULT),
    Column("cac_drs", TEXT, "", "CAC-DRS of the total.", _ASSESSED, "It depends on what is undecided, or no result."),
    Column("likeliest", TEXT, "", "Likeliest category by the networks.", _ASSESSED, "Nobody estimated it."),
    Column("likeliest_probability", NUMBER, "1", "Probability of that category.", _ASSESSED, "Nobody estimated it."),
    Column("undecided", INTEGER, "lesions", "How many lesions a reader has to decide on.", _ASSESSED, "Not scored."),
    Column("is_estimate", YES_NO, "", "The scan is not known to be ECG-gated.", _ASSESSED, _NO_RESULT),
    Column("percentile", NUMBER, "1", "MESA percentile, 0 to 99.", "published tables", "Withheld, or no result."),
    Column("arterial_age", NUMBER, "years", "MESA arterial age.", "published tables", "Withheld, or no result."),
)  # fmt: skip

_PERSON = (
    Column("age", NUMBER, "years", "Age at the scan.", "the user, or the header", _NOT_KNOWN),
    Column("sex", TEXT, "", "F or M.", "the user, or the header", _NOT_KNOWN),
    Column("race", TEXT, "", "Group of the MESA tables; never from a header.", _FILE, _NOT_KNOWN),
)

_ACQUISITION = (
    Column("kvp", NUMBER, "kV", "Tube voltage.", _CT, _NOT_KNOWN),
    Column("thickness_mm", NUMBER, "mm", "Nominal thickness of a slice.", _CT, _NOT_KNOWN),
    Column("increment_mm", NUMBER, "mm", "Distance of neighboring slices.", _CT, _NOT_KNOWN),
    Column("pixel_mm", NUMBER, "mm", "Distance of neighboring columns.", _CT, _NOT_KNOWN),
    Column("kernel", TEXT, "", "Reconstruction kernel.", _CT, _NOT_KNOWN),
    Column("gated", YES_NO, "", "Whether the acquisition was ECG-gated.", _CT, _NOT_KNOWN),
    Column("contrast", YES_NO, "", "Whether the header names a contrast agent.", _CT, _NOT_KNOWN),
    Column("manufacturer", TEXT, "", "Manufacturer of the scanner.", _CT, _NOT_KNOWN),
    Column("model", TEXT, "", "Model of the scanner.", _CT, _NOT_KNOWN),
    Column("slices", INTEGER, "slices", "Number of slices.", _CT, _NOT_KNOWN),
    Column("length_mm", NUMBER, "mm", "From the first slice to the last.", _CT, _NOT_KNOWN),
    Column("fov_mm", NUMBER, "mm", "Width of the image.", _CT, _NOT_KNOWN),
)

_PROVENANCE = (
    Column("warnings", LIST, "", "Codes of all warnings.", _BY, _NOT_SCORED),
    Column("profile", TEXT, "", "Name of the scoring protocol.", _BY, _NOT_SCORED),
    Column("version", TEXT, "", "Version of HeartLens that scored.", _BY, "It was not tried."),
    Column("bundle", TEXT, "", "Name and version of the networks.", _BY, "Rules found the calcium, or not scored."),
    Column("device", TEXT, "", "What the networks ran on.", _BY, _NOT_SCORED),
    Column("voxels_sha256", TEXT, "", "Checksum of the HU values: the key of the scan.", _BY, _NOT_SCORED),
    Column("scored_at", TEXT, "", "When, ISO 8601.", "the clock", "It was not tried."),
    Column("edits", INTEGER, "edits", "Edits of a reader so far.", _JOURNAL, _NOT_SCORED),
    Column("reader", TEXT, "", "Who signed.", "the signature", "Nobody, or the signature does not hold."),
    Column("signed_at", TEXT, "", "When it was signed.", "the signature", "Nobody, or the signature does not hold."),
    Column("seconds", NUMBER, "s", "How long the scan took.", _BY, "It was not tried."),
    Column("peak_mb", NUMBER, "MiB", "Most memory of the worker up to here.", _BY, "It was not tried, or unknown."),
)  # fmt: skip

RESULT_COLUMNS = (*_TOTALS, *_ARTERIES, *_GRADE, *_PERSON, *_ACQUISITION, *_PROVENANCE)
"""What scoring adds to what the plan knows."""

SERIES_COLUMNS = (*_KEY, *_GIVEN, *_UIDS, *_FATE, *RESULT_COLUMNS)
"""One row a series that was found."""

COHORT_LESION_COLUMNS = (*_KEY, *LESION_COLUMNS)
"""One row a lesion of a scored series."""

FAILURE_COLUMNS = (*_KEY[:1], *_GIVEN, *_UIDS, *_FATE)
"""One row a series without a result."""

PAIR_COLUMNS = (
    Column("patient_key", TEXT, "", "Pseudonym of the person.", "the key of the user", _NAMELESS),
    Column("subject", TEXT, "", "Number of the person in the study.", _FILE, _NOT_GIVEN),
    Column("prior_key", TEXT, "", "Key of the earlier series.", _PLAN),
    Column("current_key", TEXT, "", "Key of the later series, the next one of this person.", _PLAN),
    Column("prior_date", DAY, "", "Day of the earlier scan.", "DICOM header"),
    Column("current_date", DAY, "", "Day of the later scan.", "DICOM header"),
    Column("years", NUMBER, "years", "Between the scans.", "DICOM header"),
    Column("prior_agatston", NUMBER, "score", "Total of the earlier scan.", _SCORES),
    Column("current_agatston", NUMBER, "score", "Total of the later scan.", _SCORES),
    Column("change_low", NUMBER, "score", "Least change of the total.", _COMPARED, "Withheld."),
    Column("change_high", NUMBER, "score", "Greatest change of the total.", _COMPARED, "Withheld."),
    Column("per_year_low", NUMBER, "score", "Least change a year.", _COMPARED, "Withheld."),
    Column("per_year_high", NUMBER, "score", "Greatest change a year.", _COMPARED, "Withheld."),
    Column("root_volume_low", NUMBER, "1", "Least change of the root of the volume score.", _COMPARED, "Withheld."),
    Column("root_volume_high", NUMBER, "1", "Greatest change of the root of the volume score.", _COMPARED, "Withheld."),
    Column("log_change", NUMBER, "1", "Change of ln(Agatston + 25).", _SCORES, "Withheld."),
    Column("category_change", TEXT, "", "same, higher, lower or open.", _COMPARED, "Withheld."),
    Column("verdict", TEXT, "", "Whether the change is beyond measurement noise.", _COMPARED, "Withheld."),
    Column("code", TEXT, "", "Why the scans were not compared, for programs.", _COMPARED, "They were."),
    Column("withheld", TEXT, "", "Why nothing is said of the change.", _COMPARED, "Something is."),
)  # fmt: skip
"""One row for two scans of one person that follow each other."""

PLAN_COLUMNS = (
    *_KEY[:1], *_GIVEN, *_UIDS, *_FATE,
    Column("series", TEXT, "", "The series as --series takes it.", _PLAN, "The CT is not DICOM."),
    Column("folder", TEXT, "", "Where its files lie.", "the disk"),
    Column("files", LIST, "", "Their names below the folder.", "the disk"),
    Column("bytes", INTEGER, "bytes", "Their sizes together.", "the disk"),
    Column("age", NUMBER, "years", "As given.", _FILE, _NOT_GIVEN),
    Column("sex", TEXT, "", "As given.", _FILE, _NOT_GIVEN),
    Column("race", TEXT, "", "As given.", _FILE, _NOT_GIVEN),
)  # fmt: skip
"""One row a series; the one table that knows paths."""

TABLES = {
    "series.parquet": ("One row a series that was found.", SERIES_COLUMNS),
    "lesions.parquet": ("One row a lesion of a scored series.", COHORT_LESION_COLUMNS),
    "failures.csv": ("One row a series without a result, UTF-8.", FAILURE_COLUMNS),
    "pairs.parquet": ("One row for two scans of one person that follow each other.", PAIR_COLUMNS),
    "plan.parquet": ("What is to be scored. The one table that knows paths; it stays with the data.", PLAN_COLUMNS),
}
"""By file: what a row is, and the columns."""
