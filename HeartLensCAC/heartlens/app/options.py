"""The options of scoring: one list of names and one way from words to a `Request`, for command line and worker."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from heartlens.core.errors import OVERRIDABLE

if TYPE_CHECKING:
    from heartlens.pipeline import Request
    from heartlens.report.outputs import More


class UsageError(ValueError):
    """What was asked for cannot be meant: exit 2 on the command line, an error with code ``usage`` from the worker."""


def add_score_options(score: argparse.ArgumentParser) -> None:
    """Add every option that says how to score; where to read and what to print is the front end's own matter."""
    score.add_argument("--force", action="store_true", help="replace an existing result folder")
    score.add_argument(
        "--shared-mode", action="store_true",
        help="let others read the results, as the umask says; else they are for you alone (Windows: as the folder's "
        "access list says, with and without)",
    )  # fmt: skip
    score.add_argument(
        "--identify", action="store_true", help="put patient ID and name on report.html, key page, PDF and FHIR"
    )
    score.add_argument(
        "--key-page", action="store_true",
        help="for DICOM: also write the page as pictures that every viewer shows (Secondary Capture)",
    )  # fmt: skip
    score.add_argument(
        "--pdf", action="store_true",
        help="also write report.pdf and, for DICOM, the same as Encapsulated PDF; needs pip install 'heartlens[pdf]'",
    )  # fmt: skip
    score.add_argument(
        "--fhir", action="store_true", help="also write report.fhir.json: a FHIR R4 DiagnosticReport with Observations"
    )
    score.add_argument(
        "--embed-ct", action="store_true", help="for DICOM: copy the CT into the case, which then opens without it"
    )
    score.add_argument(
        "--predecessor", type=Path, metavar="FILE", help="an earlier report.dcm, whose place the new one takes"
    )
    score.add_argument(
        "--language", default="en", metavar="CODE",
        help="of report.html: en, de, fr, es or tr; other than en needs pip install 'heartlens[languages]'",
    )  # fmt: skip
    score.add_argument(
        "--allow", action="append", default=[], choices=sorted(OVERRIDABLE), metavar="CODE",
        help=f"score despite a refusal: {', '.join(sorted(OVERRIDABLE))} (repeatable)",
    )  # fmt: skip
    score.add_argument(
        "--unverified-count", action="store_true",
        help="nobody could say whether these are all images of the series: the result says so (heartlens node sets it)",
    )  # fmt: skip
    score.add_argument("--series", metavar="UID[#STACK]", help="which series to score, and which stack of it")

    labels = score.add_argument_group("labels")
    labels.add_argument(
        "--segmentation", type=Path, metavar="FILE",
        help="score these labels: .seg.nrrd, DICOM SEG, label map (1 LM, 2 LAD, 3 LCX, 4 RCA, 5 OTHER, 6 UNASSIGNED)",
    )  # fmt: skip
    labels.add_argument("--bundle", metavar="NAME|DIR|none", help="networks; none: rules; default: installed bundle")
    labels.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="for the networks; auto: use the GPU for 100 slices or more",
    )

    protocol = score.add_argument_group("protocol")
    protocol.add_argument("--profile", default="agatston-1990", help="agatston-1990 (default), siemens, philips, canon")
    protocol.add_argument("--connectivity", type=int, choices=(4, 8), help="pixel connectivity within a slice")
    protocol.add_argument("--min-area-mm2", type=float, metavar="X", help="smaller 2-D islands are dropped")
    protocol.add_argument("--normalisation", choices=("increment", "thickness", "none"), help="slice factor k")
    protocol.add_argument("--slab-mm", type=float, metavar="X", help="average thin slices to X mm before scoring")
    protocol.add_argument("--isotropic-volume", action="store_true", help="also give the volume interpolated along z")
    protocol.add_argument("--kvp", type=float, metavar="N", help="tube voltage, if missing from the file")
    protocol.add_argument("--kvp-adapted", action="store_true", help="thresholds published for the tube voltage")
    protocol.add_argument("--thickness-mm", type=float, metavar="X", help="slice thickness, if missing from the file")
    protocol.add_argument("--mass-factor", type=float, metavar="C", help="calibration, mg per mm3 per HU")

    risk = score.add_argument_group("risk")
    risk.add_argument("--scheme", default="heartlens", help="category scheme (default heartlens)")
    risk.add_argument("--age", type=float, metavar="N", help="years")
    risk.add_argument("--sex", choices=("M", "F"))
    risk.add_argument("--race", choices=("white", "chinese", "black", "hispanic"), help="for MESA; never inferred")
    risk.add_argument("--risk-factors", type=Path, metavar="FILE.json", help="for the MESA 10-year risk")


def options_of(words: Mapping[str, Any]) -> argparse.Namespace:
    """The command line's options from a mapping, by the command line's own parser, so that the two cannot differ.

    Parameters
    ----------
    words
        Names as on the command line without the leading dashes, such as ``{"kvp": 120, "kvp-adapted": True}``; a list
        repeats an option; None and False leave it out.

    Raises
    ------
    UsageError
        An unknown name, or a value that the command line would not take.
    """
    parser = _Parser(prog="options", add_help=False, allow_abbrev=False)
    add_score_options(parser)
    flags = {name[2:]: action.nargs == 0 for action in parser._actions for name in action.option_strings}
    arguments = []
    for name, value_or_values in words.items():
        if name not in flags:
            raise UsageError(f"unknown option {name!r}; the options are {', '.join(sorted(flags))}")
        for value in value_or_values if isinstance(value_or_values, (list, tuple)) else [value_or_values]:
            if value is None or value is False:
                continue
            if (value is True) != flags[name]:
                raise UsageError(
                    f"option {name!r} takes {'true or false' if flags[name] else 'a value'}, got {value!r}"
                )
            arguments.append(f"--{name}" if flags[name] else f"--{name}={value}")
    return parser.parse_args(arguments)


def request_of(options: argparse.Namespace) -> Request:
    """The words as a `Request`.

    Raises
    ------
    UsageError
        A value that no scan can have, or a name that is not in our tables.
    """
    from dataclasses import asdict, replace

    from heartlens.core.protocol import PROFILES
    from heartlens.pipeline import Request
    from heartlens.risk.categories import SCHEMES
    from heartlens.risk.person import RiskInputs
    from heartlens.risk.population_tables import read_risk_factors

    if options.profile not in PROFILES:
        raise UsageError(f"--profile must be one of {', '.join(PROFILES)}, got {options.profile!r}")
    if options.scheme not in SCHEMES:
        raise UsageError(f"--scheme must be one of {', '.join(SCHEMES)}, got {options.scheme!r}")
    for name in ("kvp", "thickness_mm", "age"):
        value = getattr(options, name)
        if value is not None and not 0 < value < 1000:
            raise UsageError(f"--{name.replace('_', '-')} must be positive, got {value:g}")
    changes = {
        "connectivity": options.connectivity,
        "minimum_area_mm2": options.min_area_mm2,
        "normalisation": options.normalisation,
        "slab_mm": options.slab_mm,
        "mass_factor_mg_per_mm3_hu": options.mass_factor,
        "isotropic_volume": options.isotropic_volume or None,
    }
    try:
        protocol = replace(PROFILES[options.profile], **{k: v for k, v in changes.items() if v is not None})
    except ValueError as error:
        raise UsageError(str(error)) from error
    factors = None
    if options.risk_factors is not None:
        factors = asdict(read_risk_factors(options.risk_factors))
    return Request(
        allow=frozenset(options.allow),
        series_uid=options.series,
        segmentation=options.segmentation,
        bundle=options.bundle,
        device=options.device,
        protocol=protocol,
        kvp=options.kvp,
        kvp_adapted=options.kvp_adapted,
        thickness_mm=options.thickness_mm,
        unverified_count=options.unverified_count,
        risk=RiskInputs(options.scheme, options.age, options.sex, options.race, factors),
    )


def more_of(options: argparse.Namespace) -> tuple[More, ...]:
    """What is to be written beside the rest."""
    from heartlens.report.outputs import More

    return tuple(one for one in More if getattr(options, one.value.replace("-", "_")))


class _Parser(argparse.ArgumentParser):
    """An argument parser that raises where argparse would end the program."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message)
