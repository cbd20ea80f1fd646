"""What a run needs and Slicer may lack: asked for when Score is pressed, never before, never without consent.

PyTorch is never installed from here: the extension PyTorch chooses the build for the computer's GPU.
"""

from collections.abc import Iterable
from subprocess import CalledProcessError

from slicer.i18n import tr as _

from heartlens.app.requirements import Requirement, is_installed, missing
from HeartLensCACLib.Words import asks, tell

RULES = "none"
"""The bundle that is no bundle: rules, which need no library beyond those that Slicer brings."""

VITAL = ("numpy", "scipy", "pydicom")
"""Without them nothing can be scored. Slicer brings them; they are never replaced under a running Slicer."""

OPTIONAL = ("jinja2", "highdicom")
"""For the page and for SEG and SR; without them a run is still scored, and says what it left out."""

NETWORKS = ("onnxruntime",)
"""For networks on the CPU."""

_declined: "set[str]" = set()


def bundleToRun(bundle: str, device: str, decoder: str = "") -> "str | None":
    """The bundle with which a run can start, after asking once for what is missing; None where none can.

    Parameters
    ----------
    bundle
        The one that was chosen; `RULES` are the rules
    device
        "cuda" needs PyTorch
    decoder
        Library that the scan's compression needs; "" for none
    """
    if bundle != RULES and device == "cuda" and not is_installed("torch"):
        _tellAboutTorch()
        return None
    if lacking := missing(VITAL):
        _tellLacking(lacking)
        return None
    networks = NETWORKS if bundle != RULES else ()
    wanted = [need for need in missing((*networks, *OPTIONAL, decoder)) if need.name not in _declined]
    if wanted:
        _install(wanted)
    if not missing(networks):
        return bundle
    question = _("The networks need {name}, which is not installed.\n\nScore by the rules, without a network?")
    return RULES if asks(question.format(name=", ".join(networks))) else None


def _install(wanted: "list[Requirement]") -> None:
    """Slicer asks for consent itself, keeps to one installation at a time, and says when it must be restarted."""
    import slicer.packaging  # not in a Slicer that is too old, which only says so

    try:
        slicer.packaging.pip_ensure([need.word for need in wanted], requester="HeartLens")
    except RuntimeError:  # declined; what the networks need is asked for again
        _declined.update(need.name for need in wanted if need.name in OPTIONAL)
    except (CalledProcessError, OSError):
        text = _(
            "These libraries could not be installed: {names}.\n\nIs this computer connected to the internet? Without "
            "it, fetch them elsewhere and install them from a folder, as docs/extension-index.md of the project says."
        )
        tell(text.format(names=", ".join(need.word for need in wanted)))


def _tellLacking(lacking: "Iterable[Requirement]") -> None:
    text = _("Nothing can be scored with the libraries of this Slicer: {names}.\n\nInstall Slicer again.")
    tell(text.format(names=", ".join(need.word for need in lacking)))


def _tellAboutTorch() -> None:
    text = _(
        "The GPU is used through PyTorch, which is not installed.\n\nInstall the extension PyTorch with the Extensions "
        "Manager, then PyTorch itself with its module PyTorch Utils, or choose the device CPU."
    )
    tell(text)
