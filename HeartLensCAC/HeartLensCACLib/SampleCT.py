"""Sample data "HeartLens phantom": a synthetic CT with known calcium, made here; nothing is downloaded."""

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _

from HeartLensCACLib.Scan import FOLDER_ATTRIBUTE, showCalciumWindow
from HeartLensCACLib.Timers import meanwhile

NAME = "HeartLens phantom"
"""As Sample Data shows it, and finds it by."""

SEED = 1
SETTINGS = {
    "field_of_view": "heart", "category": "101-400", "kvp": 120.0, "slice_thickness_mm": 3.0, "increment_mm": 3.0,
    "is_gated": True, "motion_mm": 0.0,
}  # fmt: skip
"""A calcium-scoring protocol; the person, the plaques and the traps follow from the seed."""


def register(iconPath: str) -> None:
    """Tell the module Sample Data; done when Slicer has started."""
    import SampleData

    logic = SampleData.SampleDataLogic
    logic.registerCustomSampleDataCategory("HeartLens", _("HeartLens"))
    logic.registerCustomSampleDataSource(
        category="HeartLens",
        sampleName=NAME,
        uris="",  # nothing is downloaded; a source without any is refused
        thumbnailFileName=iconPath,
        customDownloader=lambda source: [load()],
    )


def load(folder: "Path | None" = None, seed: int = SEED, **settings: Any) -> Any:
    """Make the phantom as DICOM and load it.

    Parameters
    ----------
    folder
        To make; None is a temporary one.
    settings
        Fields of `PhantomParameters`, instead of those of the sample.

    Returns
    -------
    Any
        vtkMRMLScalarVolumeNode that knows its DICOM files
    """
    from heartlens.phantom import PhantomParameters, make_phantom
    from heartlens.phantom.files import write_phantom

    phantom = meanwhile(partial(make_phantom, PhantomParameters.random(seed, **{**SETTINGS, **settings})))
    if folder is None:
        folder = Path(tempfile.mkdtemp(prefix="HeartLens-", dir=slicer.app.temporaryPath)) / "phantom"
    meanwhile(partial(write_phantom, folder, phantom, format="dicom"))
    volume = loadSeries(folder / "ct", name=NAME)
    showCalciumWindow(volume)
    return volume


def loadSeries(folder: Path, name: str, allow: frozenset[str] = frozenset()) -> Any:
    """A DICOM series as a volume node, without the DICOM database.

    Parameters
    ----------
    allow
        Refusals that do not matter for looking at it.
    """
    from heartlens.dicom.read import read_series
    from heartlens.dicom.series import choose_series, find_series, rank_series
    from heartlens.scene.geometry import RAS_LPS

    series = meanwhile(lambda: choose_series(rank_series(find_series(folder))))
    ct, _cautions = meanwhile(partial(read_series, series, allow=allow))
    volume = slicer.util.addVolumeFromArray(ct.hu, ijkToRAS=RAS_LPS @ ct.affine, name=name)
    volume.SetAttribute("DICOM.instanceUIDs", " ".join(ct.header.sop_instance_uids))
    volume.SetAttribute(FOLDER_ATTRIBUTE, str(folder))
    slicer.util.setSliceViewerLayers(background=volume, fit=True)
    return volume
