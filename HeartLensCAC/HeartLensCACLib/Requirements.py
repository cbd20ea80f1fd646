"""Libraries that a run needs and Slicer may lack: asked for when Score is pressed, never before, never without consent.

PyTorch is never installed from here: the extension PyTorch chooses the build for the computer's GPU.
"""

from importlib import metadata
from typing import Any

import slicer
from slicer.i18n import tr as _

from HeartLensCACLib.Words import TITLE

ALWAYS = ("jinja2>=3.1", "highdicom>=0.27")
"""For the page and for SEG and SR; without them a run is still scored, and says what it left out."""

NETWORKS = ("onnxruntime>=1.17",)
"""For networks on the CPU."""

_declined: "set[str]" = set()


def areSatisfied(bundle: str, device: str) -> bool:
    """Whether the run can start; asks once for what is missing.

    Parameters
    ----------
    bundle : "none" is the rules
    device : "cuda" needs PyTorch
    """
    usesNetworks = bundle != "none"
    if usesNetworks and device == "cuda" and not _isInstalled("torch"):
        _tellAboutTorch()
        return False
    missing = [need for need in (*ALWAYS, *(NETWORKS if usesNetworks else ())) if not _isInstalled(_name(need))]
    missing = [need for need in missing if need not in _declined]
    if not missing:
        return True
    question = _("This run uses libraries that are not installed yet: {names}.\n\nInstall them into Slicer's Python?")
    if slicer.util.confirmOkCancelDisplay(question.format(names=", ".join(missing)), windowTitle=TITLE):
        _install(missing)
    else:
        _declined.update(missing)
    return not (
        usesNetworks and any(_name(need) == "onnxruntime" for need in missing) and not _isInstalled("onnxruntime")
    )


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


def _isInstalled(name: str) -> bool:
    """By its metadata: nothing is imported into Slicer's process."""
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _name(requirement: str) -> str:
    return requirement.partition(">=")[0]


def _tellAboutTorch() -> None:
    text = _(
        "The GPU is used through PyTorch, which is not installed.\n\nInstall the extension PyTorch with the Extensions "
        "Manager, then PyTorch itself with its module PyTorch Utils, or choose the device CPU."
    )
    slicer.util.errorDisplay(text, windowTitle=TITLE)
