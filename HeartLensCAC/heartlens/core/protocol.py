"""How calcium is scored: every number of the method, as data with its source.

Section numbers refer to docs/method.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

NOTICE = (
    "HeartLens is research software. It is not a medical device, has not been cleared or approved by any regulator, "
    "and must not be used for diagnosis or treatment decisions."
)
"""Stands on every output."""

REFERENCE_INCREMENT_MM = 3.0
"""Agatston's protocol: contiguous 3 mm slices. Agatston et al., JACC 1990, 15:827."""

AREA_TOLERANCE_MM2 = 1e-6
"""Slack of the minimum-area test, so that four pixels of 0.25 mm2 are 1 mm2 in floating point."""

EDGES_BY_KVP_HU: Mapping[int, tuple[float, float, float, float]] = MappingProxyType(
    {
        70: (207.0, 318.0, 477.0, 636.0),  # Graeni et al., EHJ CVI 2018, 10.1093/ehjci/jey019, via CalciumScoring.jl
        80: (177.0, 271.0, 408.0, 544.0),  # the same
        90: (160.0, 245.0, 369.0, 493.0),  # HeartLens: geometric mean of 80 and 100; unvalidated
        100: (145.0, 222.0, 334.0, 446.0),  # via CalciumScoring.jl
        110: (137.0, 211.0, 317.0, 422.0),  # HeartLens: geometric mean of 100 and 120; unvalidated
        120: (130.0, 200.0, 300.0, 400.0),  # Agatston et al., JACC 1990, 15:827
        135: (119.0, 183.0, 274.0, 364.0),  # via CalciumScoring.jl
        140: (116.0, 178.0, 266.0, 353.0),  # HeartLens: log-linear extrapolation of 120 and 135; unvalidated
    }
)
"""Lower edges of density weights 1 to 4 for each tube voltage, HU. The first edge is the threshold."""

NORMALIZATIONS = ("increment", "thickness", "none")
CONNECTIVITIES = (4, 8)


@dataclass(frozen=True)
class ScoringProtocol:
    """One way to turn labeled voxels into numbers.

    Parameters
    ----------
    name
        Of the profile.
    edges_hu
        Lower edges of weights 1 to 4, ascending; a peak equal to an edge takes the higher weight.
    minimum_area_mm2, minimum_pixels
        A 2-D island smaller than either is dropped.
    connectivity
        4 or 8, within the slice
    normalisation
        "increment" (k = dz / 3 mm), "thickness" (k = T / 3 mm) or "none" (k = 1)
    volume_above_hu
        Volume and mass count labeled voxels strictly above this; None: the voxels that Agatston counts.
    isotropic_volume
        Also give the volume after interpolation along z to cubic voxels.
    mass_factor_mg_per_mm3_hu
        Calibration factor c; None: the scan's own, or no mass at all.
    slab_mm
        Average neighboring slices to slabs of about this thickness before scoring; None: never.
    source
        Where the numbers come from.
    """

    name: str = "agatston-1990"
    edges_hu: tuple[float, float, float, float] = EDGES_BY_KVP_HU[120]
    minimum_area_mm2: float = 1.0
    minimum_pixels: int = 1
    connectivity: int = 4
    normalisation: str = "increment"
    volume_above_hu: float | None = None
    isotropic_volume: bool = False
    mass_factor_mg_per_mm3_hu: float | None = None
    slab_mm: float | None = None
    source: str = (
        "Agatston et al., JACC 1990, 15:827; 4-connected as in van Praagh et al., Med Phys 2021, 10.1002/mp.14912"
    )

    def __post_init__(self) -> None:
        edges = tuple(float(e) for e in self.edges_hu)
        object.__setattr__(self, "edges_hu", edges)
        if len(edges) != 4 or not all(map(math.isfinite, edges)) or list(edges) != sorted(set(edges)):
            raise ValueError(f"edges_hu must be four ascending HU values, got {self.edges_hu}")
        if self.connectivity not in CONNECTIVITIES:
            raise ValueError(f"connectivity must be 4 or 8, got {self.connectivity}")
        if self.normalisation not in NORMALIZATIONS:
            raise ValueError(f"normalisation must be one of {', '.join(NORMALIZATIONS)}, got {self.normalisation!r}")
        if not (math.isfinite(self.minimum_area_mm2) and self.minimum_area_mm2 >= 0):
            raise ValueError(f"minimum_area_mm2 must be 0 or more, got {self.minimum_area_mm2}")
        if self.minimum_pixels < 1:
            raise ValueError(f"minimum_pixels must be 1 or more, got {self.minimum_pixels}")
        if self.slab_mm is not None and not (math.isfinite(self.slab_mm) and self.slab_mm > 0):
            raise ValueError(f"slab_mm must be positive, got {self.slab_mm}")
        factor = self.mass_factor_mg_per_mm3_hu
        if factor is not None and not (math.isfinite(factor) and 0 < factor < 0.1):
            raise ValueError(
                f"mass_factor_mg_per_mm3_hu must be positive and below 0.1 (usual: about 0.0008), got {factor}; "
                "factors in mg/cm3 per HU are 1000 times larger"
            )

    @property
    def threshold_hu(self) -> float:
        """Least HU of a candidate voxel, inclusive."""
        return self.edges_hu[0]

    @property
    def label_threshold_hu(self) -> float:
        """Least HU a labeled voxel can have and still count somewhere (volume may reach lower than Agatston)."""
        return self.threshold_hu if self.volume_above_hu is None else min(self.threshold_hu, self.volume_above_hu)

    def keeps(self, pixels: NDArray[np.integer], pixel_area_mm2: float) -> NDArray[np.bool_]:
        """Which 2-D islands are large enough to count; `pixels` (m,) is the size of each."""
        large_enough = np.asarray(pixels) * pixel_area_mm2 >= self.minimum_area_mm2 - AREA_TOLERANCE_MM2
        return large_enough & (np.asarray(pixels) >= self.minimum_pixels)

    def slice_factor(self, increment_mm: float, thickness_mm: float | None) -> float:
        """The factor k that makes a score on other slices equivalent to contiguous 3 mm slices.

        Raises
        ------
        ValueError
            Normalisation by thickness and the thickness is unknown.
        """
        if self.normalisation == "none":
            return 1.0
        if self.normalisation == "increment":
            return increment_mm / REFERENCE_INCREMENT_MM
        if thickness_mm is None:
            raise ValueError("normalisation by thickness needs the slice thickness; give --thickness-mm")
        return thickness_mm / REFERENCE_INCREMENT_MM

    def adapted_to(self, kvp: float) -> ScoringProtocol:
        """The protocol with the weight edges published for another tube voltage.

        Raises
        ------
        ValueError
            No published set within 1 kV.
        """
        nearest = min(EDGES_BY_KVP_HU, key=lambda known: abs(known - kvp))
        if abs(nearest - kvp) > 1:
            raise ValueError(f"no adapted thresholds for {kvp:g} kVp; there are sets for {sorted(EDGES_BY_KVP_HU)} kVp")
        return replace(self, edges_hu=EDGES_BY_KVP_HU[nearest])

    def to_json(self) -> dict[str, Any]:
        """Every field, as JSON values; `from_json` gives the same protocol back."""
        return {**asdict(self), "edges_hu": list(self.edges_hu), "threshold_hu": self.threshold_hu}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> ScoringProtocol:
        """A protocol from a JSON object of its fields; a `threshold_hu` in it is ignored."""
        fields = {name: value for name, value in document.items() if name != "threshold_hu"}
        return cls(**{**fields, "edges_hu": tuple(fields["edges_hu"])})


_VENDORS = "van Praagh et al., Med Phys 2021, 10.1002/mp.14912 (vendor emulation, code nwerf/FQM_Analysis)"

PROFILES: Mapping[str, ScoringProtocol] = MappingProxyType(
    {
        "agatston-1990": ScoringProtocol(),
        "siemens": ScoringProtocol(name="siemens", minimum_area_mm2=0.0, source=_VENDORS),
        # 100 mg HA/cm3, coded there as HU > 99 / 0.88
        "philips": ScoringProtocol(name="philips", minimum_area_mm2=0.5, volume_above_hu=99 / 0.88, source=_VENDORS),
        "canon": ScoringProtocol(name="canon", minimum_area_mm2=0.0, minimum_pixels=3, source=_VENDORS),
    }
)
"""Vendor conventions, section 1.3 of the method. GE and TeraRecon agree with the default."""
