"""A model bundle: a folder with networks and a manifest that says what they are, verified before anything is used."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heartlens.core.ct import CTVolume
from heartlens.core.errors import InputRefused, WarningRecord
from heartlens.core.lesions import Artery
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

RULES = "none"
"""The word for no bundle."""

LEAST_ODDS = 1e-6
"""Probabilities are kept this far from 0 and 1 before their logit is taken."""


@dataclass(frozen=True)
class BundleFile:
    """One file of weights.

    Parameters
    ----------
    path
        Within the bundle.
    role
        What the network is for: `VESSEL` or `SLICES`.
    format
        "onnx" or "safetensors"
    architecture
        {"name", and its numbers}
    sha256, bytes
        Of the file.
    """

    path: str
    role: str
    format: str
    architecture: Mapping[str, Any]
    sha256: str
    bytes: int


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
    """

    view: NetworkView
    classes: tuple[str, ...]
    cut_off: float
    calibration: Calibration = field(default_factory=Calibration)

    def __post_init__(self) -> None:
        if self.classes[:1] != ("none",) or any(name not in Artery.__members__ for name in self.classes[1:]):
            raise ValueError(f"classes {list(self.classes)}, expected none and names of arteries")
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
    """

    folder: Path
    texts: Mapping[str, str]
    files: tuple[BundleFile, ...]
    vessel: VesselStage
    slices: SliceStage | None
    domain: Domain
    metrics: Mapping[str, Any]

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
    """Read a bundle and verify every file in it.

    Raises
    ------
    InputRefused
        "input" no bundle, or an unknown architecture; "unreadable" a damaged manifest; "checksum" a file that is
        missing or not what was exported
    """
    path = Path(folder) / MANIFEST
    try:
        bundle = _read_manifest(Path(folder), json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise InputRefused(
            "input", f"{folder} is no bundle: cannot read {MANIFEST}: {error.strerror or error}"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputRefused(
            "unreadable", f"{path}: expected a bundle's manifest, found {error}; export it again"
        ) from None
    for file in bundle.files:
        _verify(bundle, file)
    return bundle


def _read_manifest(folder: Path, manifest: dict[str, Any]) -> Bundle:
    if manifest["schema"] != SCHEMA:
        raise ValueError(f"schema {manifest['schema']!r}, expected {SCHEMA}")
    vessel, slices = manifest["vessel"], manifest["slices"]
    limits = {one.name: manifest["domain"][one.name] for one in fields(Domain)}
    return Bundle(
        folder=folder,
        texts={name: str(manifest[name]) for name in TEXTS},
        files=tuple(BundleFile(**entry) for entry in manifest["files"]),
        vessel=VesselStage(
            NetworkView.from_json(vessel["input"]),
            tuple(map(str, vessel["classes"])),
            vessel["cut_off"],
            Calibration(**vessel["calibration"]),
        ),
        slices=None if slices is None else SliceStage(NetworkView.from_json(slices["input"]), slices["cut_off"]),
        domain=Domain(**{name: limit and (float(limit[0]), float(limit[1])) for name, limit in limits.items()}),
        metrics=manifest["metrics"],
    )


def _check_cut_off(cut_off: float) -> None:
    if not 0 <= cut_off <= 1:
        raise ValueError(f"cut-off {cut_off}, expected 0 to 1")


def _verify(bundle: Bundle, file: BundleFile) -> None:
    if Path(file.path).name != file.path:
        raise InputRefused("unreadable", f"{bundle.folder / MANIFEST}: a file lies outside the bundle: {file.path!r}")
    known = ARCHITECTURES.get(file.role, ())
    if (
        file.format == "safetensors"
        and known
        and not any(f.format == "onnx" and f.role == file.role for f in bundle.files)
        and file.architecture.get("name") not in known
    ):
        raise InputRefused(
            "input",
            f"{file.path}: unknown architecture {file.architecture.get('name')!r}; this version knows "
            f"{', '.join(known)}; update HeartLens",
        )
    try:
        content = (bundle.folder / file.path).read_bytes()
    except OSError as error:
        raise InputRefused(
            "checksum", f"{bundle.folder / file.path}: {error.strerror or error}; copy the whole bundle again"
        ) from None
    digest = hashlib.sha256(content).hexdigest()
    if (len(content), digest) != (file.bytes, file.sha256):
        raise InputRefused(
            "checksum",
            f"{bundle.folder / file.path}: expected SHA-256 {file.sha256[:12]}… and {file.bytes} bytes, found "
            f"{digest[:12]}… and {len(content)}; copy the bundle again",
        )
