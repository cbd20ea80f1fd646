"""Lets timm be imported where torchvision's compiled operators are missing, as beside a CPU build of torch.

timm needs torchvision only to be importable. torchvision from the package index is built for CUDA and stops at import
because `torchvision::nms` does not exist; declaring its schema is enough, nothing here ever calls it.
"""

from __future__ import annotations

import torch

_library: torch.library.Library | None = None  # must live as long as the process, or the schema goes away


def declare_missing_operators() -> bool:
    """Declare `torchvision::nms` and `qnms` if torchvision cannot load them; call before importing timm.

    Returns
    -------
    bool
        Whether it was needed.
    """
    global _library
    if _library is not None:
        return True
    try:
        import torchvision  # noqa: F401
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
    else:
        return False
    _library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        _library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return True
