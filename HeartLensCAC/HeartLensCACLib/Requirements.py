"""Libraries that a run needs and Slicer may lack: asked for when Score is pressed, never before, never without consent.

PyTorch is never installed from here: the extension PyTorch chooses the build for the computer's GPU.
"""

from typing import Any

import slicer
from slicer.i18n import tr as _

from heartlens.app.requirements import is_installed, missing
from HeartLensCACLib.Words import asks, tell

NEEDED = ("numpy", "scipy", "pydicom")
"""Without them, or with older ones, nothing can be scored. Slicer 5.12 brings them; 5.10 an older pydicom."""

OPTIONAL = ("jinja2", "highdicom")
"""For the page and for SEG and SR; without them a run is still scored, and says what it left out."""

NETWORKS = ("onnxruntime",)
"""For networks on the CPU."""

_declined: "set[str]" = set()


def areSatisfied(bundle: str, device: str) -> bool:
    """Whether the run can start; asks once for what is missing.

    Parameters
    ----------
    bundle
        "none" is the rules
    device
        "cuda" needs PyTorch
    """
    usesNetworks = bundle != "none"
    if usesNetworks and device == "cuda" and not is_installed("torch"):
        _tellAboutTorch()
        return False
    vital = (*NEEDED, *(NETWORKS if usesNetworks else ()))
    wanted = [need for need in missing((*vital, *OPTIONAL)) if need.name not in _declined]
    if not wanted:
        return not missing(vital)
    question = _("This run uses libraries that are not installed yet: {names}.\n\nInstall them into Slicer's Python?")
    if asks(question.format(names=", ".join(n.word for n in wanted))):
        _install([need.word for need in wanted])
    else:
        _declined.update(need.name for need in wanted if need.name in OPTIONAL)  # what is vital is asked for again
    return not missing(vital)


def _install(requirements: "list[str]") -> None:
    packaging = _packaging()
    if packaging is not None:  # Slicer 5.11 and later
        packaging.pip_install(requirements)
    else:
        slicer.util.pip_install(requirements)


def _packaging() -> Any:
    try:
        import slicer.packaging
    except ImportError:
        return None
    return slicer.packaging


def _tellAboutTorch() -> None:
    text = _(
        "The GPU is used through PyTorch, which is not installed.\n\nInstall the extension PyTorch with the Extensions "
        "Manager, then PyTorch itself with its module PyTorch Utils, or choose the device CPU."
    )
    tell(text)
