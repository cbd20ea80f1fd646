"""A synthetic chest CT without contrast whose calcium is known: for the demo, tests, evaluation and training.

>>> from heartlens.phantom import PhantomParameters, make_phantom
>>> phantom = make_phantom(PhantomParameters.random(7, matrix=128))  # doctest: +SKIP
"""

from heartlens.phantom.lifelike import lifelike
from heartlens.phantom.parameters import (
    ANATOMIES,
    ASKED_TRAP_KINDS,
    CATEGORIES,
    FIELDS_OF_VIEW,
    KERNEL_FWHM_MM,
    LATE_TRAP_KINDS,
    TRAP_KINDS,
    PhantomParameters,
)
from heartlens.phantom.scan import Phantom, make_draws, make_phantom

__all__ = [
    "ANATOMIES",
    "ASKED_TRAP_KINDS",
    "CATEGORIES",
    "FIELDS_OF_VIEW",
    "KERNEL_FWHM_MM",
    "LATE_TRAP_KINDS",
    "TRAP_KINDS",
    "Phantom",
    "PhantomParameters",
    "lifelike",
    "make_draws",
    "make_phantom",
]
