"""A model bundle: a folder with networks and a manifest that says what they are, verified before anything is used."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heartlens.core.ct import CTVolume
from heartlens.core.disk.reading import read_regular
from heartlens.core.errors import InputRefused, WarningRecord
from heartlens.core.lesions import CORONARY, Artery
from heartlens.networks.bundle_file import BundleFile, verify
from heartlens.networks.fusion import Fusion
from heartlens.networks.view import NetworkView

SCHEMA = "heartlens.bundle/1"
MANIFEST = "manifest.json"
VESSEL, SLICES = "vessel-unet", "slice-classifier"
ARCHITECTURES = {VESSEL: ("unet",), SLICES: ("vit",)}
"""What torch can build here; other architectures run from ONNX alone."""

TEXTS = ("name", "version", "licence", "trained_on", "intended_use", "field_of_view")

PACKAGE = Path(__file__).resolve().parents[1]

INSTALLED = (PACKAGE.parent / "Resources" / "Models", PACKAGE / "bundles")
"""Where bundles come with HeartLens: beside the library in a checkout and in Slicer, inside it in a wheel."""

MOST_MANIFEST_BYTES = 1 << 22
"""The one that ships has a thousandth of it."""

_NUMBER, _PAIR = (int, float), (list,)
VIEW_KINDS: dict[str, tuple[type, ...]] = {
    "size_px": (int,), "size": (int,), "neighbors": (int,), "with_mask": (bool,), "spacing_mm": _NUMBER,
    "field_mm": _NUMBER, "threshold_hu": _NUMBER, "neighbor_mm": _NUMBER, "outside_hu": _NUMBER, "window_hu": _PAIR,
    "scaled_to": _PAIR,
}  # fmt: skip
"""What JSON must hold for a view; true is 1 for Python, and no size."""

RULES = "none"
"""The word for no bundle."""

LEAST_ODDS = 1e-6
"""Probabilities are kept this far from 0 and 1 before their logit is taken."""


@dataclass(frozen=True)
class Calibration:
    """From what a network says to how often it is right: a straight line in log odds (Platt 1999).

    Parameters
    ----------
    slope
        Positive, so that the order of lesions stays.
    intercept
        Added to the log odds.
    """

    slope: float = 1.0
    intercept: float = 0.0

    def __post_init__(self) -> None:
        if not (self.slope > 0 and math.isfinite(self.slope) and math.isfinite(self.intercept)):
            raise ValueError(f"calibration needs a positive slope and a finite intercept, got {self}")
        _require_numbers("calibration", self.slope, self.intercept)

    def log_odds(self, p: ArrayLike) -> NDArray[np.float64]:
        """Calibrated log odds of uncalibrated probabilities."""
        kept = np.clip(np.asarray(p, np.float64), LEAST_ODDS, 1 - LEAST_ODDS)
        log_odds: NDArray[np.float64] = self.slope * np.log(kept / (1 - kept)) + self.intercept
        return log_odds

    def __call__(self, p: ArrayLike) -> NDArray[np.float64]:
        """Calibrated probabilities.

        Examples
        --------
        >>> Calibration()([0.25, 0.5]).round(12).tolist()
        [0.25, 0.5]
        """
        probability: NDArray[np.float64] = 1 / (1 + np.exp(-self.log_odds(p)))
        return probability


@dataclass(frozen=True)
class VesselStage:
    """The network that names islands.

    Parameters
    ----------
    view
        What it sees.
    classes
        Of its outputs, "none" first, then names of `Artery`.
    cut_off
        Least uncalibrated probability of all arteries together that makes an island coronary.
    calibration
        Makes a lesion's probability of that.
    fusion
        Weighs the network against the rules, and takes the place of cut-off and calibration where the rules are heard.
    """

    view: NetworkView
    classes: tuple[str, ...]
    cut_off: float
    calibration: Calibration = field(default_factory=Calibration)
    fusion: Fusion | None = None

    def __post_init__(self) -> None:
        if self.classes[:1] != ("none",) or any(name not in Artery.__members__ for name in self.classes[1:]):
            raise ValueError(f"classes {list(self.classes)}, expected none and names of arteries")
        named = {Artery[name] for name in self.classes[1:]}
        if len(named) != len(self.classes) - 1 or not named & set(CORONARY):
            raise ValueError(f"classes {list(self.classes)}, expected each once, a coronary artery among them")
        _check_cut_off(self.cut_off)


@dataclass(frozen=True)
class SliceStage:
    """The classifier that says which slices the vessel network is shown.

    Parameters
    ----------
    view
        What it sees.
    cut_off
        At or above it a slice counts as calcified.
    """

    view: NetworkView
    cut_off: float

    def __post_init__(self) -> None:
        _check_cut_off(self.cut_off)


@dataclass(frozen=True)
class Domain:
    """The scans that a bundle was made for: inclusive ranges; None where it does not matter."""

    pixel_mm: tuple[float, float] | None = None
    increment_mm: tuple[float, float] | None = None
    kvp: tuple[float, float] | None = None
    field_of_view_mm: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        for name, limits in asdict(self).items():
            if limits is not None:
                _require_numbers(f"domain {name}", *limits)
            if limits is not None and not (len(limits) == 2 and 0 < limits[0] <= limits[1]):
                raise ValueError(f"domain {name}: expected a low and a high number, found {limits}")

    def cautions(self, ct: CTVolume) -> list[WarningRecord]:
        """One for all that lies outside; what the file does not say is not held against it."""
        _, row_mm, column_mm = ct.spacing_mm
        measured: dict[str, tuple[str, str, tuple[float | None, ...]]] = {
            "pixel_mm": ("pixel", "mm", (row_mm, column_mm)),
            "increment_mm": ("slice increment", "mm", (ct.increment_mm,)),
            "kvp": ("tube voltage", "kVp", (ct.header.kvp,)),
            "field_of_view_mm": ("field of view", "mm", (ct.shape[1] * row_mm, ct.shape[2] * column_mm)),
        }
        outside = []
        for name, (what, unit, values) in measured.items():
            limits = getattr(self, name)
            known = [value for value in values if value is not None]
            # A thousandth is rounding: 0.7 mm from a header and 0.7 mm from positions are not the same float.
            if limits and any(not limits[0] * 0.999 <= value <= limits[1] * 1.001 for value in known):
                numbers = " x ".join(dict.fromkeys(f"{value:.3g}" for value in known))
                outside.append(f"{what} {numbers} {unit}, expected {limits[0]:g} to {limits[1]:g}")
        if not outside:
            return []
        return [
            WarningRecord(
                "domain",
                f"outside what the networks were made for: {'; '.join(outside)}; their errors here are not known, "
                "so check every slice, also those without a lesion",
            )
        ]


@dataclass(frozen=True)
class Bundle:
    """A verified bundle.

    Parameters
    ----------
    folder
        Where it lies.
    texts
        Name, version, license, trained_on, intended_use, field_of_view.
    files
        Checked against their checksums.
    vessel
        How islands are named.
    slices
        How slices are chosen; None shows all slices with candidates to the vessel network.
    domain
        Scans it was made for.
    metrics
        Figures, with the data they were measured on.
    canary
        What the networks answered at the export, see `heartlens.networks.canary`; None in bundles before there was one.
    """

    folder: Path
    texts: Mapping[str, str]
    files: tuple[BundleFile, ...]
    vessel: VesselStage
    slices: SliceStage | None
    domain: Domain
    metrics: Mapping[str, Any]
    canary: Mapping[str, Any] | None = None

    def file(self, role: str, form: str) -> BundleFile:
        """The file of one role in one format.

        Raises
        ------
        InputRefused
            "input": the bundle has none
        """
        for file in self.files:
            if (file.role, file.format) == (role, form):
                return file
        raise InputRefused(
            "input", f"{self.folder}: expected a {form} file for {role}, found none; export the bundle again"
        )

    @property
    def title(self) -> str:
        """Name and version."""
        return f"{self.texts['name']} {self.texts['version']}"

    def checksums(self) -> dict[str, str]:
        """For a report's provenance."""
        return {file.path: file.sha256 for file in self.files}


def installed_bundles() -> dict[str, Path]:
    """Folder of every bundle that came with HeartLens, by its folder's name, in order of names."""
    bundles = {path.parent.name: path.parent for place in INSTALLED for path in place.glob(f"*/{MANIFEST}")}
    return dict(sorted(bundles.items()))


def find_bundle(name: str | Path | None) -> Path | None:
    """The folder of the bundle that is meant.

    Parameters
    ----------
    name
        `RULES`; the name of an installed bundle; a folder; None is the first of the installed ones

    Returns
    -------
    Path | None
        None when the rules are meant, or nothing is installed

    Raises
    ------
    InputRefused
        "input": there is no such bundle
    """
    if name == RULES:
        return None
    installed = installed_bundles()
    if name is None:
        return next(iter(installed.values()), None)
    if str(name) in installed:
        return installed[str(name)]
    if Path(name).is_dir():
        return Path(name)
    names = ", ".join(installed) or "none are installed"
    raise InputRefused(
        "input",
        f"bundle {str(name)!r}: expected a folder, an installed name ({names}) or {RULES}, found neither",
    )


def load_bundle(folder: Path) -> Bundle:
    """Read a bundle and verify every file in it. Nothing of a file is read before the manifest makes sense.

    Raises
    ------
    InputRefused
        "input" no bundle, or an unknown architecture; "unreadable" a damaged manifest; "checksum" a file that is
        missing or not what was exported
    """
    path = Path(folder) / MANIFEST
    if not path.is_symlink() and not path.exists():
        raise InputRefused("input", f"{folder} is no bundle: cannot read {MANIFEST}: there is none")
    content = read_regular(path, MOST_MANIFEST_BYTES)
    try:
        bundle = _read_manifest(Path(folder), json.loads(content, parse_constant=_no_number))
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError, RecursionError) as error:
        reason = f"{type(error).__name__} {error}" if isinstance(error, KeyError) else str(error)
        raise InputRefused(
            "unreadable", f"{path}: expected a bundle's manifest, found {reason[:300]}; export it again"
        ) from None
    _require_known(bundle)
    for file in bundle.files:
        verify(file, bundle.folder)
    return bundle


def _read_manifest(folder: Path, manifest: dict[str, Any]) -> Bundle:
    if manifest["schema"] != SCHEMA:
        raise ValueError(f"schema {manifest['schema']!r}, expected {SCHEMA}")
    vessel, slices = manifest["vessel"], manifest["slices"]
    limits = {one.name: manifest["domain"][one.name] for one in fields(Domain)}
    texts = {name: manifest[name] for name in TEXTS}
    for name, text in texts.items():
        if not isinstance(text, str):
            raise ValueError(f"{name} must be text, got {type(text).__name__}")
    if not isinstance(vessel["classes"], list):
        raise ValueError("vessel classes must be a list")
    canary = manifest.get("canary")
    if not (canary is None or isinstance(canary, dict)):
        raise ValueError("canary must be an object")
    return Bundle(
        folder=folder,
        texts=texts,
        files=_files(manifest["files"], slices is not None),
        vessel=VesselStage(
            _view(vessel["input"]),
            tuple(map(str, vessel["classes"])),
            vessel["cut_off"],
            Calibration(**vessel["calibration"]),
            None if vessel.get("fusion") is None else Fusion(**vessel["fusion"]),
        ),
        slices=None if slices is None else SliceStage(_view(slices["input"]), slices["cut_off"]),
        domain=Domain(**{name: limit and tuple(limit) for name, limit in limits.items()}),
        metrics=manifest["metrics"],
        canary=canary,
    )


def _view(document: dict[str, Any]) -> NetworkView:
    for name, kinds in VIEW_KINDS.items():
        if name in document and type(document[name]) not in kinds:
            raise ValueError(f"{name} must be {kinds[-1].__name__}, got {str(document[name])[:40]!r}")
    return NetworkView.from_json(document)


def _files(entries: list[dict[str, Any]], has_slices: bool) -> tuple[BundleFile, ...]:
    """Every network once in a format, and a form of each that the stages need."""
    files = tuple(BundleFile(**entry) for entry in entries)
    for file in files:
        if not isinstance(file.role, str) or file.role not in ARCHITECTURES:
            raise ValueError(
                f"{file.path}: role must be one of {', '.join(ARCHITECTURES)}, got {str(file.role)[:40]!r}"
            )
    pairs = [(file.role, file.format) for file in files]
    if len(set(pairs)) != len(pairs) or len({file.path for file in files}) != len(files):
        raise ValueError("two files for one network in one format, or one file twice")
    for role in (VESSEL, SLICES) if has_slices else (VESSEL,):
        if role not in {file.role for file in files}:
            raise ValueError(f"no file for {role}")
    return files


def _require_known(bundle: Bundle) -> None:
    """Refuse a network that nothing here can run."""
    for file in bundle.files:
        known, name = ARCHITECTURES[file.role], file.architecture.get("name")
        has_onnx = any(other.format == "onnx" and other.role == file.role for other in bundle.files)
        if file.format == "safetensors" and not has_onnx and name not in known:
            raise InputRefused(
                "input",
                f"{file.path}: unknown architecture {str(name)[:40]!r}; this version knows {', '.join(known)}; "
                "update HeartLens",
            )


def _no_number(text: str) -> None:
    raise ValueError(f"{text}, which is no number")


def _require_numbers(what: str, *values: object) -> None:
    for value in values:
        if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
            raise ValueError(f"{what} must be numbers, got {str(value)[:40]!r}")


def _check_cut_off(cut_off: float) -> None:
    _require_numbers("cut-off", cut_off)
    if not 0 <= cut_off <= 1:
        raise ValueError(f"cut-off {cut_off}, expected 0 to 1")
