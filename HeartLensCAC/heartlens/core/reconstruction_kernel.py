"""What a reconstruction kernel's name says about its sharpness, as data from the vendors' naming."""

from __future__ import annotations

import re
from collections.abc import Sequence

# Siemens names carry their sharpness: letter(s), two digits, a smoothness letter ("B35f", "Br40d", "Qr36", "Sa36f").
_SIEMENS = re.compile(r"(?:b|bf|bl|br|bv|bu|d|h|hc|hf|hr|hu|hv|hp|hs|i|j|q|qr|sa|sd|t|th|tr|u|ub|uh|ur|ud)(\d\d)[a-z]?")
# Toshiba/Canon: FC01-19 body, 20-29 and 60-79 head, 30-39 bone, 40-49 head, 50-59 and 80-89 lung and bone.
_CANON = re.compile(r"fc(\d\d).*")
_SOFT_NAMES = frozenset({"soft", "standard", "stnd", "std", "smooth", "tissue"})  # GE and generic
_SHARP_NAMES = frozenset(
    {"lung", "bone", "boneplus", "bone+", "edge", "ultra", "sharp", "bonypl", "chst_lung", "detail"}
)
_PHILIPS_SOFT = frozenset({"a", "b", "sa", "sb", "xca", "xcb", "ca", "cb"})  # Brilliance/iCT/Ingenuity filters
_PHILIPS_SHARP = frozenset({"c", "d", "e", "l", "la", "ya", "yb", "yc", "yd", "xcc", "xcd", "xce"})


def kernel_class(kernel: str | Sequence[str] | None) -> str | None:
    """Class of a kernel: "soft", "sharp" (lung, bone, edge) or None when it is neither or not known.

    Parameters
    ----------
    kernel
        ConvolutionKernel (0018,1210); only its first value counts

    Examples
    --------
    >>> [kernel_class(k) for k in ("B35f", "Br40d", "FC12", "STANDARD", "B", "B46f", None)]
    ['soft', 'soft', 'soft', 'soft', 'soft', None, None]
    >>> [kernel_class(k) for k in ("B70f", "LUNG", "FC52", "YC")]
    ['sharp', 'sharp', 'sharp', 'sharp']
    """
    if not kernel:
        return None
    name = (kernel if isinstance(kernel, str) else kernel[0]).split("\\")[0].strip().lower()
    if match := _SIEMENS.fullmatch(name):
        sharpness = int(match[1])
        return "soft" if sharpness <= 45 else "sharp" if sharpness >= 50 else None
    if match := _CANON.fullmatch(name):
        number = int(match[1])
        return "soft" if 1 <= number <= 19 else "sharp" if number // 10 in (3, 5, 8) else None
    if name in _SOFT_NAMES or name in _PHILIPS_SOFT:
        return "soft"
    if name in _SHARP_NAMES or name in _PHILIPS_SHARP:
        return "sharp"
    return None
