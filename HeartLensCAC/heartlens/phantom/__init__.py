"""A synthetic chest CT without contrast whose calcium is known: for the demo, tests, evaluation and training.

>>> from heartlens.phantom import PhantomParameters, make_phantom
>>> phantom = make_phantom(PhantomParameters.random(7, matrix=128))  # doctest: +SKIP
"""

from heartlens.phantom.parameters import CATEGORIES, FIELDS_OF_VIEW, KERNEL_FWHM_MM, TRAP_KINDS, PhantomParameters
from heartlens.phantom.scan import Phantom, make_phantom

__all__ = [
    "CATEGORIES",
    "FIELDS_OF_VIEW",
    "KERNEL_FWHM_MM",
    "TRAP_KINDS",
    "Phantom",
    "PhantomParameters",
    "make_phantom",
]
