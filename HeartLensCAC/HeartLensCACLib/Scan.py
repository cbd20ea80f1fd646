"""What can be known of a volume before it is scored: where its DICOM files are, and what they say."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import slicer

from heartlens.core.ct import CTHeader
from heartlens.core.errors import WarningRecord
from HeartLensCACLib.Timers import meanwhile

FOLDER_ATTRIBUTE = "HeartLens.DicomFolder"
"""On volumes that were not loaded through the DICOM database, such as the sample: where their files lie."""

HEADERS_READ = 5
"""Headers read for the panel, spread over the series; the worker reads all of them."""

UNKNOWN = CTHeader()


@dataclass(frozen=True)
class Scan:
    """A volume node and what belongs to it.

    Parameters
    ----------
    files
        DICOM files of its slices; empty when it did not come from DICOM, or they are gone
    header
        What the files say, or the case that the volume was made from, and the reader where these do not.
    decoder
        Library without which the files cannot be decoded here; "" where nothing is missing.
    cautions
        What to know before trusting a score.
    refusal
        Why it cannot be scored; "" when nothing is known to speak against it.
    """

    volume: Any
    files: tuple[Path, ...] = ()
    header: CTHeader = UNKNOWN
    decoder: str = ""
    facts: tuple[str, ...] = ()
    cautions: tuple[WarningRecord, ...] = ()
    refusal: str = ""


def scanOf(volume: Any, method: Any, known: "CTHeader | None" = None) -> Scan:
    """Look at a volume node; nothing is changed, and voxels are only looked at.

    Parameters
    ----------
    volume
        vtkMRMLScalarVolumeNode
    method
        MethodSection: how it would be scored, and what the reader says of it.
    known
        What the case says that the volume belongs to, for a volume whose files are not here.
    """
    from heartlens.anatomy.quality import acquisition_cautions
    from heartlens.core.errors import OVERRIDABLE, InputRefused
    from heartlens.scene import case_ct

    files = dicomFiles(volume)
    instances = instancesOf(files)
    header = method.told(headerOf(instances) if instances else known or UNKNOWN)
    decoder = decoderOf(instances)
    told = {"kvp": header.kvp, "slice_thickness_mm": header.slice_thickness_mm}
    try:
        ct, assumed = case_ct(volume, **told, allow=OVERRIDABLE, is_kept=False)
    except InputRefused as refused:
        return Scan(volume, files, header, decoder, refusal=refused.text)
    ct = replace(ct, header=replace(header, sop_instance_uids=ct.header.sop_instance_uids))
    cautions = [*assumed, *acquisition_cautions(ct, method.protocol(header.kvp))]
    return Scan(volume, files, header, decoder, factsOf(ct), tuple(cautions))


def dicomFiles(volume: Any) -> tuple[Path, ...]:
    """The DICOM files of a volume's slices, or none at all where one is missing."""
    folder = volume.GetAttribute(FOLDER_ATTRIBUTE)
    if folder and Path(folder).is_dir():
        return tuple(sorted(path for path in Path(folder).rglob("*") if path.is_file()))
    uids = (volume.GetAttribute("DICOM.instanceUIDs") or "").split()
    database = getattr(slicer, "dicomDatabase", None)
    if not uids or database is None or not database.isOpen:
        return ()
    files = tuple(Path(database.fileForInstance(uid) or "") for uid in uids)
    return files if all(path.is_file() for path in files) else ()


def instancesOf(files: tuple[Path, ...]) -> "list[Any]":
    """Headers of some of the files, spread over the series; none where there are no files."""
    if not files:
        return []
    from heartlens.dicom.header import Instance

    step = max(1, (len(files) - 1) // (HEADERS_READ - 1))
    return [instance for path in files[::step] if (instance := Instance.read(path)) is not None]


def headerOf(instances: "list[Any]") -> CTHeader:
    """What the headers say, on whatever they agree."""
    from heartlens.dicom.acquisition import ct_header

    frames = [frame for instance in instances for frame in instance.frames[:1]]
    return ct_header(frames, sop_instance_uids=(), frame_numbers=()) if frames else UNKNOWN


def decoderOf(instances: "list[Any]") -> str:
    """Library that is not installed and without which these files cannot be decoded."""
    if not instances:
        return ""
    from heartlens.dicom.pixels import lacking_decoder

    return next((name for instance in instances if (name := lacking_decoder(instance))), "")


def factsOf(ct: Any) -> tuple[str, ...]:
    """Two lines: the grid, and how it was acquired. What is unknown is said to be unknown."""
    slices, rows, columns = ct.shape
    dz, dy, dx = ct.spacing_mm
    header = ct.header
    pixel = f"{dx:.3g} mm" if abs(dx - dy) < 1e-3 else f"{dx:.3g} x {dy:.3g} mm"
    thickness = "unknown thickness" if header.slice_thickness_mm is None else f"{header.slice_thickness_mm:g} mm thick"
    voltage = "unknown tube voltage" if header.kvp is None else f"{header.kvp:g} kVp"
    kernel = f"kernel {header.kernel}" if header.kernel else "unknown kernel"
    gating = {True: "ECG-gated", False: "not ECG-gated", None: "gating unknown"}[header.is_gated]
    contrast = {None: "contrast not stated", "": "no contrast"}.get(header.contrast, f"contrast: {header.contrast}")
    return (
        f"{columns} x {rows} pixels of {pixel}, {slices} slices every {dz:.3g} mm, {thickness}",
        f"{voltage}, {kernel}, {gating}, {contrast}",
    )


def showCalciumWindow(volume: Any) -> None:
    """Give a CT a window for calcium instead of the automatic one, in which it is hardly brighter than muscle.

    A window that somebody chose, or that came with the images, stays.
    """
    from heartlens.scene import SCENE_WINDOW_HU

    display = volume.GetDisplayNode()
    if display is not None and display.GetAutoWindowLevel():
        display.SetAutoWindowLevel(False)
        display.SetWindowLevelMinMax(*SCENE_WINDOW_HU)


def volumeOf(reading: Any) -> Any:
    """The volume of the scene that was loaded from the case's DICOM images and still shows them, or None."""
    from heartlens.scene import dicom_instances, shows_ct

    ct = reading.case.source_ct
    for volume in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode"):
        uids = dicom_instances(volume)
        if uids and set(uids) == set(ct.header.sop_instance_uids) and shows_ct(volume, ct, aside=meanwhile):
            return volume
    return None
