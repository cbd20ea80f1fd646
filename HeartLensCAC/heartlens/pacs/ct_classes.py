"""Which objects a receiver of ours takes: CT images, in the transfer syntaxes that can be read without loss."""

from __future__ import annotations

from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    LegacyConvertedEnhancedCTImageStorage,
    RLELossless,
)
from pynetdicom import AE
from pynetdicom.sop_class import Verification

CT_CLASSES = (CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage)

SYNTAXES = (
    ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGLSLossless, JPEG2000Lossless, JPEGLosslessSV1, JPEGLossless,
    RLELossless, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian,
)  # fmt: skip
"""In the order in which they are preferred."""


def offer_ct(ae: AE) -> None:
    """Let an application entity take CT images and answer C-ECHO; what else is offered to it is declined."""
    for kind in CT_CLASSES:
        ae.add_supported_context(kind, list(SYNTAXES))
    ae.add_supported_context(Verification)
