"""What a phantom is made of: one frozen record, drawn from a seed or set by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

FIELDS_OF_VIEW = ("chest", "heart")

CATEGORIES = ("0", "1-10", "11-100", "101-400", ">400")
"""Coronary burden that a phantom can be asked for; Agatston, rounded (spec `heartlens` scheme)."""

KERNEL_FWHM_MM = {"soft": 1.35, "standard": 1.1, "sharp": 0.85}
"""In-plane point spread of each reconstruction kernel, mm; QRM insert scans of four vendors span about 0.8 to 1.4."""

TRAP_KINDS = (
    "aortic_wall_ascending",
    "aortic_wall_arch",
    "aortic_wall_descending",
    "aortic_valve",
    "mitral_annulus",
    "hilar_node",
    "airway_ring",
    "pericardium",
    "stent",
    "pacing_wire",
    "sternal_wire",
    "costal_cartilage",
    "osteophyte",
)
"""Things brighter than the threshold that are not coronary plaque."""


@dataclass(frozen=True)
class PhantomParameters:
    """Everything that decides a phantom. The same parameters give the same bits.

    Parameters
    ----------
    seed : decides the person (habitus, heart, vessels) and the noise
    field_of_view : "chest" (lung apex to diaphragm) or "heart" (carina to below the apex, lungs cut)
    matrix : rows and columns
    pixel_mm : (row, column) distance, mm
    slice_thickness_mm, increment_mm : nominal thickness and distance of slices; an increment below it is overlap
    kvp : tube voltage; contrast of calcium follows it
    noise_hu : standard deviation at the center of the body
    kernel : one of `KERNEL_FWHM_MM`
    is_gated : a gated scan has no motion of the heart
    motion_mm : how far the right coronary artery travels during one rotation; the others move less
    category : coronary burden, one of `CATEGORIES`; None takes `plaques`
    plaques : number of plaques in LM, LAD, LCX, RCA when no category is asked for
    traps : kinds from `TRAP_KINDS`
    sex, age_years, bmi : of the person
    """

    seed: int = 0
    field_of_view: str = "heart"
    matrix: int = 512
    pixel_mm: tuple[float, float] = (0.39, 0.39)
    slice_thickness_mm: float = 3.0
    increment_mm: float = 3.0
    kvp: float = 120.0
    noise_hu: float = 16.0
    kernel: str = "standard"
    is_gated: bool = True
    motion_mm: float = 0.0
    category: str | None = "101-400"
    plaques: tuple[int, int, int, int] = (0, 0, 0, 0)
    traps: tuple[str, ...] = ()
    sex: str = "M"
    age_years: int = 62
    bmi: float = 27.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "pixel_mm", tuple(float(p) for p in np.broadcast_to(self.pixel_mm, 2)))
        object.__setattr__(self, "plaques", tuple(int(n) for n in self.plaques))
        object.__setattr__(self, "traps", tuple(self.traps))
        _one_of("field_of_view", self.field_of_view, FIELDS_OF_VIEW)
        _one_of("kernel", self.kernel, tuple(KERNEL_FWHM_MM))
        _one_of("sex", self.sex, ("M", "F"))
        if self.category is not None:
            _one_of("category", self.category, CATEGORIES)
        for trap in self.traps:
            _one_of("traps", trap, TRAP_KINDS)
        if len(self.plaques) != 4 or min(self.plaques) < 0:
            raise ValueError(f"plaques must be four counts (LM, LAD, LCX, RCA), got {self.plaques}")
        _within("seed", self.seed, 0, 2**63 - 1)
        _within("matrix", self.matrix, 32, 1024)
        for pixel in self.pixel_mm:
            _within("pixel_mm", pixel, 0.15, 6)
        _within("slice_thickness_mm", self.slice_thickness_mm, 0.4, 10)
        _within("increment_mm", self.increment_mm, 0.3, 10)
        _within("kvp", self.kvp, 70, 150)
        _within("noise_hu", self.noise_hu, 0, 100)
        _within("motion_mm", self.motion_mm, 0, 25)
        _within("age_years", self.age_years, 18, 100)
        _within("bmi", self.bmi, 15, 55)

    @property
    def diameter_mm(self) -> float:
        """Reconstruction diameter: the smaller side of the image, mm."""
        return self.matrix * min(self.pixel_mm)

    def generator(self, purpose: str) -> np.random.Generator:
        """A stream of its own for each purpose, so that changing the noise leaves the person as it is."""
        return np.random.default_rng([self.seed, *purpose.encode()])

    def to_json(self) -> dict[str, Any]:
        """Every field, as JSON values; `from_json` gives the same parameters back."""
        record = asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in record.items()}

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> PhantomParameters:
        fields: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in document.items()}
        return cls(**fields)

    @classmethod
    def from_text(cls, seed: int, settings: Sequence[str]) -> PhantomParameters:
        """Draw from a seed, with ``KEY=VALUE`` settings as a user types them.

        Examples
        --------
        >>> PhantomParameters.from_text(3, ["traps=aortic_valve,stent", "noise_hu=12", "category=11-100"]).traps
        ('aortic_valve', 'stent')
        """
        kinds = {field.name: field.type for field in fields(cls)}
        overrides: dict[str, Any] = {}
        for setting in settings:
            name, equals, text = setting.partition("=")
            if not equals or name not in kinds or name == "seed":
                known = ", ".join(sorted(set(kinds) - {"seed"}))
                raise ValueError(f"expected KEY=VALUE with a key among {known}; got {setting!r}")
            overrides[name] = _parsed(name, kinds[name], text)
        return cls.random(seed, **overrides)

    @classmethod
    def random(cls, seed: int, **overrides: Any) -> PhantomParameters:
        """Draw person, scan, burden and traps from a seed.

        Parameters
        ----------
        seed : 0 or more
        overrides : fields that are set instead of drawn; the rest does not change with them

        Raises
        ------
        ValueError : an override that is no field, or a value outside its range
        """
        known = {field.name for field in fields(cls)} - {"seed"}
        if unknown := sorted(set(overrides) - known):
            raise ValueError(f"phantom parameters must be among {sorted(known)}, got {unknown}")
        drawn = _draw_person(np.random.default_rng([seed, 1])) | _draw_traps(np.random.default_rng([seed, 2]))
        scan = np.random.default_rng([seed, 3])
        drawn["field_of_view"] = overrides.get("field_of_view", FIELDS_OF_VIEW[int(scan.random() < 0.6)])
        drawn |= _draw_scan(scan, drawn["field_of_view"], int(overrides.get("matrix", 512)))
        drawn["category"] = CATEGORIES[np.random.default_rng([seed, 4]).choice(5, p=(0.3, 0.14, 0.22, 0.2, 0.14))]
        if "plaques" in overrides:
            drawn["category"] = None
        return cls(**{"seed": seed, **drawn, **overrides})


def _draw_person(rng: np.random.Generator) -> dict[str, Any]:
    return {
        "sex": "M" if rng.random() < 0.55 else "F",
        "age_years": int(np.clip(rng.normal(61, 11), 30, 90)),
        "bmi": float(np.round(np.clip(rng.normal(27, 4.5), 18, 42), 1)),
    }


def _draw_traps(rng: np.random.Generator) -> dict[str, Any]:
    # Roughly how often each is met in adults who are sent for a calcium scan; rare hardware is kept rare.
    chance = dict(
        zip(TRAP_KINDS, (0.15, 0.3, 0.35, 0.25, 0.12, 0.2, 0.25, 0.04, 0.05, 0.06, 0.06, 0.4, 0.3), strict=True)
    )
    return {"traps": tuple(kind for kind in TRAP_KINDS if rng.random() < chance[kind])}


def _draw_scan(rng: np.random.Generator, field_of_view: str, matrix: int) -> dict[str, Any]:
    is_gated = field_of_view == "heart" or rng.random() < 0.1
    if field_of_view == "heart":
        diameter_mm = rng.uniform(164, 243)
        thickness_mm, increment_mm = ((3.0, 3.0), (2.5, 2.5), (3.0, 1.5))[rng.choice(3, p=(0.7, 0.22, 0.08))]
    else:
        diameter_mm = rng.uniform(340, 400)
        thickness_mm, increment_mm = ((5.0, 5.0), (3.0, 3.0), (2.5, 2.5), (2.0, 1.5))[
            rng.choice(4, p=(0.3, 0.4, 0.2, 0.1))
        ]
    pixel_mm = float(np.round(diameter_mm / matrix, 6))
    return {
        "pixel_mm": (pixel_mm, pixel_mm),
        "slice_thickness_mm": thickness_mm,
        "increment_mm": increment_mm,
        "matrix": matrix,
        "kvp": float(rng.choice((120.0, 100.0, 130.0), p=(0.9, 0.06, 0.04))),
        "noise_hu": float(np.round(rng.uniform(10, 24) * math.sqrt(3.0 / max(thickness_mm, 2.0)), 1)),
        "kernel": str(rng.choice(tuple(KERNEL_FWHM_MM), p=(0.45, 0.47, 0.08))),
        "is_gated": bool(is_gated),
        "motion_mm": 0.0 if is_gated and rng.random() < 0.8 else float(np.round(rng.uniform(1, 9), 1)),
    }


def _parsed(name: str, kind: Any, text: str) -> Any:
    """A field's value from its text."""
    try:
        if kind == "bool":
            return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[text.lower()]
        if kind in ("int", "float"):
            return int(text) if kind == "int" else float(text)
        if kind.startswith("tuple"):
            items = [item for item in text.split(",") if item]
            number = float if "float" in kind else int if "int" in kind else str
            return tuple(number(item) for item in items)
        return None if "None" in kind and text.lower() == "none" else text
    except (KeyError, ValueError):
        raise ValueError(f"{name} must be {kind}, got {text!r}") from None


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")


def _within(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name} must lie in {low:g} to {high:g}, got {value!r}")


Point = NDArray[np.float64]
"""(3,) or (n, 3) body coordinates, mm: x to the left, y to the back, z to the head, 0 at the heart's crux."""
