"""Body, lungs, bone, heart, aorta: where coronary calcium can be, found without a network."""

from heartlens.anatomy.metal import METAL_HU, find_metal
from heartlens.anatomy.region import HeartRegion, heart_region
from heartlens.anatomy.territories import COURSES_MM, MITRAL_RING_MM, artery_likelihood, course_fit

__all__ = [
    "COURSES_MM",
    "METAL_HU",
    "MITRAL_RING_MM",
    "HeartRegion",
    "artery_likelihood",
    "course_fit",
    "find_metal",
    "heart_region",
]
