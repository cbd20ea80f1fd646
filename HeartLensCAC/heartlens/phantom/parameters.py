"""What a phantom is made of: one frozen record, drawn from a seed or set by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

FIELDS_OF_VIEW = ("chest", "heart")

COVERS = ("field", "heart")
"""How far a scan reaches along z: as its field of view usually does, or the heart alone whatever its width."""

CATEGORIES = ("0", "1-10", "11-100", "101-400", ">400")
"""Coronary burden that a phantom can be asked for; Agatston, rounded (spec `heartlens` scheme)."""

KERNEL_FWHM_MM = {"soft": 1.35, "standard": 1.1, "sharp": 0.85}
"""In-plane point spread of each reconstruction kernel, mm; QRM insert scans of four vendors span about 0.8 to 1.4."""

NEAREST_DECOY_MM = 2.0
"""Between an artery's centerline and the surface of a decoy beside it: about the vessel's own radius."""

ANATOMIES = (1, 2)
"""1 is the person that bundles 1 and 2 were trained on, and stays as it is; 2 follows published measurements
(docs/phantom.md): vessels in their true relation, disease and traps as in people."""

LUNGS = ("clear", "filled")
"""Filled lungs are consolidated, collapsed or under fluid in parts, which then have the HU of soft tissue."""

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

LATE_TRAP_KINDS = ("bronchial_wall", "atrial_node", "catheter", "surgical_clip", "graft_marker")
"""More of them, which nothing draws for anatomy 1; for any anatomy they can be asked for."""

ASKED_TRAP_KINDS = ("mitral_annulus_heavy",)
"""Those that no seed draws: whoever wants one asks for it."""


@dataclass(frozen=True)
class PhantomParameters:
    """Everything that decides a phantom. The same parameters give the same bits.

    Parameters
    ----------
    seed
        Decides the person (habitus, heart, vessels) and the noise.
    field_of_view
        "chest" (lung apex to diaphragm) or "heart" (carina to below the apex, lungs cut)
    matrix
        Rows and columns.
    pixel_mm
        (row, column) distance, mm
    slice_thickness_mm, increment_mm
        Nominal thickness and distance of slices; an increment below it is overlap.
    kvp
        Tube voltage; contrast of calcium follows it.
    noise_hu
        Standard deviation at the center of the body.
    kernel
        One of `KERNEL_FWHM_MM`.
    is_gated
        A gated scan has no motion of the heart.
    motion_mm
        How far the right coronary artery travels during one rotation; the others move less.
    category
        Coronary burden, one of `CATEGORIES`; None takes `plaques`.
    plaques
        Number of plaques in LM, LAD, LCX, RCA when no category is asked for.
    traps
        Kinds from `TRAP_KINDS`, `LATE_TRAP_KINDS` and `ASKED_TRAP_KINDS`.
    sex, age_years, bmi
        Of the person.
    cover
        One of `COVERS`.
    view_shift_mm
        (x, y), how far the field of view lies from where it is usually put
    heart_turn_deg
        Added to the azimuth and the descent of the heart's long axis.
    heart_shift_mm
        To the left.
    heart_scale
        Factor on the size of the heart.
    matched_burden
        Category of the decoys that are drawn as coronary plaques are and laid elsewhere; None for none.
    decoys_within_mm
        How far from an artery the surface of a decoy may lie; None leaves decoys where they were drawn.
    anatomy
        One of `ANATOMIES`.
    overshoot
        How much a sharp kernel overdoes edges, as a share of the detail that it lifts; 0 for none.
    lungs
        One of `LUNGS`.
    draw
        Another draw of plaques, decoys and noise for the same person on the same scanner.
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
    # Not in `repr`, of which UIDs are made: phantoms from before these fields keep theirs (`late_text`).
    cover: str = field(default="field", repr=False)
    view_shift_mm: tuple[float, float] = field(default=(0.0, 0.0), repr=False)
    heart_turn_deg: tuple[float, float] = field(default=(0.0, 0.0), repr=False)
    heart_shift_mm: float = field(default=0.0, repr=False)
    heart_scale: float = field(default=1.0, repr=False)
    matched_burden: str | None = field(default=None, repr=False)
    decoys_within_mm: float | None = field(default=None, repr=False)
    anatomy: int = field(default=1, repr=False)
    overshoot: float = field(default=0.0, repr=False)
    lungs: str = field(default="clear", repr=False)
    draw: int = field(default=0, repr=False)

    def __post_init__(self) -> None:
        for name in ("pixel_mm", "view_shift_mm", "heart_turn_deg"):
            object.__setattr__(self, name, tuple(float(p) for p in np.broadcast_to(getattr(self, name), 2)))
        object.__setattr__(self, "plaques", tuple(int(n) for n in self.plaques))
        object.__setattr__(self, "traps", tuple(self.traps))
        _one_of("field_of_view", self.field_of_view, FIELDS_OF_VIEW)
        _one_of("kernel", self.kernel, tuple(KERNEL_FWHM_MM))
        _one_of("sex", self.sex, ("M", "F"))
        _one_of("cover", self.cover, COVERS)
        _one_of("lungs", self.lungs, LUNGS)
        if self.anatomy not in ANATOMIES:
            raise ValueError(f"anatomy must be one of {ANATOMIES}, got {self.anatomy!r}")
        for name in ("category", "matched_burden"):
            if getattr(self, name) is not None:
                _one_of(name, getattr(self, name), CATEGORIES)
        for trap in self.traps:
            _one_of("traps", trap, TRAP_KINDS + LATE_TRAP_KINDS + ASKED_TRAP_KINDS)
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
        for shift in (*self.view_shift_mm, self.heart_shift_mm):
            _within("view_shift_mm and heart_shift_mm", shift, -40, 40)
        for turn in self.heart_turn_deg:
            _within("heart_turn_deg", turn, -20, 20)
        _within("heart_scale", self.heart_scale, 0.8, 1.25)
        if self.decoys_within_mm is not None:
            _within("decoys_within_mm", self.decoys_within_mm, NEAREST_DECOY_MM, 20)
        _within("overshoot", self.overshoot, 0, 2)
        _within("draw", self.draw, 0, 10_000)

    @property
    def diameter_mm(self) -> float:
        """Reconstruction diameter: the smaller side of the image, mm."""
        return self.matrix * min(self.pixel_mm)

    def generator(self, purpose: str) -> np.random.Generator:
        """A stream of its own for each purpose, so that changing the noise leaves the person as it is."""
        return np.random.default_rng([self.seed, *purpose.encode()])

    def draw_generator(self, purpose: str) -> np.random.Generator:
        """The same for what differs between the draws of one person."""
        return self.generator(f"{purpose} draw {self.draw}" if self.draw else purpose)

    @property
    def late_text(self) -> str:
        """What `repr` leaves out and is not the default, for UIDs; empty for most phantoms."""
        late = {
            f.name: getattr(self, f.name) for f in fields(self) if not f.repr and getattr(self, f.name) != f.default
        }
        return repr(late) if late else ""

    def to_json(self) -> dict[str, Any]:
        """Every field, as JSON values; `from_json` gives the same parameters back."""
        record = asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in record.items()}

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> PhantomParameters:
        """Parameters from a JSON object of their fields; lists become tuples."""
        values: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in document.items()}
        return cls(**values)

    @classmethod
    def from_text(cls, seed: int, settings: Sequence[str]) -> PhantomParameters:
        """Draw from a seed, with ``KEY=VALUE`` settings as a user types them.

        Examples
        --------
        >>> PhantomParameters.from_text(3, ["traps=aortic_valve,stent", "noise_hu=12", "category=11-100"]).traps
        ('aortic_valve', 'stent')
        """
        kinds = {f.name: f.type for f in fields(cls)}
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
        seed
            0 or more
        **overrides
            Fields that are set instead of drawn; the rest does not change with them.

        Raises
        ------
        ValueError
            An override that is no field, or a value outside its range.
        """
        known = {f.name for f in fields(cls)} - {"seed"}
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

    @classmethod
    def varied(cls, seed: int, **overrides: Any) -> PhantomParameters:
        """Draw as widely as networks are trained and judged on: any scanner, any heart, and decoys.

        Thickness 1 to 5 mm, 80 to 140 kVp, every kernel, fields of 150 to 420 mm that need not be centered, motion,
        hearts turned, moved and scaled; besides `TRAP_KINDS`, decoys like coronary plaques in number, size and density.

        Parameters
        ----------
        seed, **overrides
            As for `random`, which draws sex, age, body-mass index and `traps`.
        """
        rng = np.random.default_rng([seed, 5])
        field_of_view = overrides.get("field_of_view", FIELDS_OF_VIEW[int(rng.random() < 0.6)])
        matrix = int(overrides.get("matrix", rng.choice((320, 384, 512), p=(0.6, 0.2, 0.2))))
        drawn: dict[str, Any] = {"field_of_view": field_of_view, "matrix": matrix}
        drawn |= _draw_varied_scan(rng, field_of_view, matrix) | _draw_varied_heart(rng)
        drawn["category"] = str(rng.choice(CATEGORIES, p=(0.26, 0.16, 0.22, 0.2, 0.16)))
        # Independent of the burden: much or little that is bright says nothing about the arteries.
        drawn["matched_burden"] = str(rng.choice(CATEGORIES, p=(0.12, 0.18, 0.25, 0.25, 0.2)))
        if "plaques" in overrides:
            del drawn["category"]
        return cls.random(seed, **{**drawn, **overrides})


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


def _draw_varied_scan(rng: np.random.Generator, field_of_view: str, matrix: int) -> dict[str, Any]:
    is_gated = bool(rng.random() < (0.9 if field_of_view == "heart" else 0.25))
    diameter_mm = rng.uniform(150, 270) if field_of_view == "heart" else rng.uniform(280, 420)
    thickness_mm = float(
        rng.choice((1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0), p=(0.06, 0.06, 0.08, 0.1, 0.18, 0.3, 0.08, 0.14))
    )
    overlap = rng.choice((1.0, 0.8, 0.5), p=(0.7, 0.15, 0.15)) if thickness_mm >= 2 else 1.0
    pixel_mm = float(np.round(diameter_mm / matrix, 6))
    noise_hu = float(np.round(rng.uniform(6, 22) * math.sqrt(3.0 / max(thickness_mm, 2.0)), 1))
    motion_mm = rng.uniform(0, 3) * (rng.random() < 0.4) if is_gated else rng.uniform(0.5, 9)
    return {
        "pixel_mm": (pixel_mm, pixel_mm),
        "slice_thickness_mm": thickness_mm,
        "increment_mm": float(np.round(thickness_mm * overlap, 3)),
        "kvp": float(rng.choice((80.0, 100.0, 110.0, 120.0, 130.0, 140.0), p=(0.04, 0.12, 0.06, 0.62, 0.08, 0.08))),
        "noise_hu": noise_hu,
        "kernel": str(rng.choice(tuple(KERNEL_FWHM_MM), p=(0.4, 0.4, 0.2))),
        "is_gated": is_gated,
        "motion_mm": float(np.round(motion_mm, 1)),
        "cover": "heart" if field_of_view == "chest" and rng.random() < 0.75 else "field",
        "view_shift_mm": tuple(np.round(rng.normal(0, 6, 2).clip(-15, 15), 1).tolist()),
    }


def _draw_varied_heart(rng: np.random.Generator) -> dict[str, Any]:
    return {
        "heart_turn_deg": tuple(np.round(rng.uniform(-9, 9, 2), 1).tolist()),
        "heart_shift_mm": float(np.round(rng.uniform(-9, 9), 1)),
        "heart_scale": float(np.round(rng.uniform(0.9, 1.12), 3)),
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
