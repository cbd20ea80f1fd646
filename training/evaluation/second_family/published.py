"""Sizes, angles and attenuations that the second family is drawn from, each with where it was published.

Numbers are quoted from the papers by memory and were not read again here. docs/second-family.md holds what is made
against them.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Measured(NamedTuple):
    """A published mean and standard deviation.

    Parameters
    ----------
    mean, sd
        In the unit of its table.
    source
        Where it stands.
    """

    mean: float
    sd: float
    source: str

    def draw(self, rng: np.random.Generator, within: float = 2.0) -> float:
        """A person's value, normal, never further than `within` standard deviations from the mean."""
        return self.mean + self.sd * float(np.clip(rng.standard_normal(), -within, within))


_DODGE = "Dodge et al., Circulation 1992, 86:232, normal right-dominant hearts, angiography"
_TOPS = "Tops et al., JACC Cardiovasc Imaging 2008, 1:321, CT"
_HAGER = "Hager et al., J Thorac Cardiovasc Surg 2002, 123:1060, CT"
_ACHENBACH = "Achenbach et al., Radiology 2000, 216:457, electron-beam CT, mean over the cardiac cycle"
_ABBARA = "Abbara et al., Eur J Radiol 2006, 57:417, CT"
_LIN = "Lin et al., J Cardiovasc Comput Tomogr 2008, 2:274, CT of healthy adults; linear sizes from its volumes"
_FOSTER = "Foster et al., Clin Physiol Funct Imaging 2005, 25:286, MRI"

SIZES_MM: Mapping[str, Measured] = MappingProxyType(
    {
        "aortic annulus diameter": Measured(24.9, 2.6, _TOPS + ", mean of coronal and sagittal"),
        "sinus of Valsalva diameter": Measured(32.0, 3.6, "Tops 2008 and Hager 2002, between the two"),
        "ascending aorta diameter": Measured(32.5, 3.6, _HAGER + " gives 30.9 of all ages; older here"),
        "aortic arch diameter": Measured(27.5, 3.0, _HAGER),
        "descending aorta diameter": Measured(25.0, 2.6, _HAGER),
        "pulmonary trunk diameter": Measured(25.8, 2.8, "Truong et al., Circ Cardiovasc Imaging 2012, 5:147, CT"),
        "left ostium above annulus": Measured(14.4, 2.2, _TOPS),
        "right ostium above annulus": Measured(16.4, 2.4, _TOPS),
        "left main length": Measured(10.8, 3.6, "Reig and Petit, Clin Anat 2004, 17:6, 100 hearts"),
        "left main diameter": Measured(4.5, 0.5, _DODGE),
        "LAD proximal diameter": Measured(3.7, 0.4, _DODGE),
        "LAD distal diameter": Measured(1.9, 0.3, _DODGE),
        "LCX proximal diameter": Measured(3.4, 0.5, _DODGE),
        "LCX distal diameter": Measured(1.8, 0.3, _DODGE),
        "RCA proximal diameter": Measured(3.9, 0.6, _DODGE),
        "RCA distal diameter": Measured(2.8, 0.4, _DODGE),
        "left ventricle length outside": Measured(92.0, 6.0, _LIN),
        "left ventricle diameter outside": Measured(68.0, 5.0, _LIN),
        "left ventricle wall": Measured(8.8, 1.2, _LIN),
        "left atrium front to back": Measured(37.0, 5.0, "Stojanovska et al., AJR 2011, 197:631, CT"),
        "left atrium side to side": Measured(62.0, 6.0, "the same"),
        "left atrium foot to head": Measured(52.0, 5.0, "the same"),
        "left atrial appendage length": Measured(42.0, 7.0, "Veinot et al., Circulation 1997, 96:3112, autopsy"),
        "epicardial fat, free wall": Measured(5.3, 1.6, _ABBARA + "; less over the left ventricle"),
        "mitral annulus diameter": Measured(34.0, 3.0, "Alkadhi et al., AJR 2007, 189:1053, CT: of its area"),
        "tricuspid annulus diameter": Measured(38.0, 3.5, "van Rosendael et al., Circ Cardiovasc Imaging 2016"),
    }
)
"""In mm, of both sexes; women's hearts are made smaller as a whole."""

ANGLES_DEGREES: Mapping[str, Measured] = MappingProxyType(
    {
        "left ventricle axis, left of the sagittal plane": Measured(47.0, 7.0, _FOSTER),
        "left ventricle axis, below the horizontal": Measured(31.0, 7.0, _FOSTER),
        "LAD from LCX": Measured(80.0, 24.0, "Pflederer et al., Invest Radiol 2006, 41:793, CT"),
    }
)

SPEEDS_MM_S: Mapping[str, Measured] = MappingProxyType(
    {
        "LAD": Measured(22.4, 4.0, _ACHENBACH),
        "LCX": Measured(48.4, 15.0, _ACHENBACH),
        "RCA": Measured(69.5, 22.5, _ACHENBACH),
    }
)
"""In the plane of a slice. A scan with a trigger catches the heart at rest, with a tenth of it or less."""

TISSUES_HU: Mapping[str, Measured] = MappingProxyType(
    {
        "blood": Measured(41, 5, "Collins et al., J Comput Assist Tomogr 2001, 25:600: rises with hematocrit"),
        "myocardium": Measured(47, 4, "Hounsfield 1980, Science 210:22; ICRU report 44, heart"),
        "muscle": Measured(54, 6, "ICRU report 44, skeletal muscle"),
        "fat": Measured(-104, 6, "Rossner et al., Int J Obes 1990, 14:893"),
        "lung": Measured(-856, 25, "Gevenois et al., AJR 1996, 167:1169, lungs filled"),
        "liver": Measured(57, 7, "Piekarski et al., Radiology 1980, 137:727"),
        "spongy bone": Measured(165, 45, "Pickhardt et al., Ann Intern Med 2013, 158:588: falls with age"),
        "compact bone": Measured(950, 160, "ICRU report 44, cortical bone, and partial volume"),
        "cartilage": Measured(105, 18, "ICRU report 44, cartilage"),
        "disk": Measured(80, 12, "ICRU report 44, cartilage, watery"),
        "pericardium": Measured(25, 8, "ICRU report 44, connective tissue, and partial volume"),
        "skin": Measured(35, 12, "ICRU report 44, skin, and partial volume"),
    }
)

ENERGIES_KEV = np.array([40.0, 50.0, 60.0, 80.0, 100.0, 150.0])
"""Of `MASS_ATTENUATION`; between them, log on log."""

MASS_ATTENUATION: Mapping[str, NDArray[np.float64]] = MappingProxyType(
    {
        "water": np.array([0.2683, 0.2269, 0.2059, 0.1837, 0.1707, 0.1505]),
        "bone": np.array([0.6655, 0.4242, 0.3148, 0.2229, 0.1855, 0.1480]),
        "aluminum": np.array([0.5685, 0.3681, 0.2778, 0.2018, 0.1704, 0.1378]),
    }
)
"""In cm2/g. Hubbell and Seltzer, NISTIR 5632 (1995)."""

FILTER_ALUMINUM_CM = 0.9
"""Of a scanner's tube and bow tie at its center, and its density below. McKenney et al., Med Phys 2011, 38:4445."""

ALUMINUM_G_CM3 = 2.70
