"""Damage of every kind to a small chest and its labels, drawn from a seed, and what may come of it.

A damaged input may end in the right score, in a refusal by its name, or in the right score with a warning. Never in a
traceback, a wait, a folder that is half written, or another number without a word. `make fuzz` runs thousands.
"""

from __future__ import annotations

import gzip
import random
import re
import shutil
import signal
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import highdicom as hd
import numpy as np
import small_chest
from pydicom import config, dcmread
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code
from pydicom.tag import Tag

from heartlens.core.ct import CTVolume
from heartlens.core.errors import InputRefused
from heartlens.core.grid import GRID_TOLERANCE
from heartlens.core.lesions import Artery
from heartlens.io.volumes import write_seg_nrrd, write_volume
from heartlens.pipeline import Request, score_series
from heartlens.report.outputs import write_outputs
from heartlens.risk.evaluable import Evaluable

SECONDS = 60
"""No damaged input may take longer."""

KINDS = ("dicom attribute", "dicom file", "nrrd", "nifti", "mha", "seg", "seg.nrrd")

ATTRIBUTES = (
    "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "Modality",
    "ImageType", "PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex", "PatientAge",
    "PatientWeight", "StudyDate", "StudyTime", "AccessionNumber", "StudyID", "StudyDescription",
    "ReferringPhysicianName", "SeriesNumber", "InstanceNumber", "AcquisitionNumber", "KVP", "SliceThickness",
    "ConvolutionKernel", "Manufacturer", "ManufacturerModelName", "SoftwareVersions", "ReconstructionDiameter",
    "GantryDetectorTilt", "PatientPosition", "PositionReferenceIndicator", "ImagePositionPatient",
    "ImageOrientationPatient", "PixelSpacing", "SliceLocation", "SpacingBetweenSlices", "Rows", "Columns",
    "SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation",
    "RescaleSlope", "RescaleIntercept", "RescaleType", "PixelPaddingValue", "PixelPaddingRangeLimit",
    "LossyImageCompression", "ContrastBolusAgent", "CardiacSynchronizationTechnique", "TriggerTime",
    "NominalPercentageOfCardiacPhase", "SpecificCharacterSet", "NumberOfFrames",
)  # fmt: skip

CRUCIAL = (
    "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns", "BitsAllocated", "BitsStored",
    "HighBit", "PixelRepresentation", "RescaleSlope", "RescaleIntercept", "RescaleType", "PixelPaddingValue",
    "PixelPaddingRangeLimit", "ImageType", "SliceThickness", "GantryDetectorTilt", "SOPInstanceUID",
)  # fmt: skip
"""Of the attributes those on which the number depends, drawn every second time."""

HOW = ("deleted", "empty", "doubled", "garbled", "comma", "other number", "another's")


SAME_SHARE = 2 * GRID_TOLERANCE / small_chest.SHAPE[1]
"""Of a score: a volume file says its spacing once, and what moves no voxel of 40 by a twentieth is the same grid."""


class Outcome(NamedTuple):
    """What came of one case.

    Parameters
    ----------
    what
        The damage, in words.
    end
        "right", "warned", "withheld" (another number, of which nothing is said), "refused CODE"; or
        "SILENT", "TRACEBACK", "HANG", "HALF FOLDER", which must not be
    said
        The refusal, the warnings, or the exception.
    """

    what: str
    end: str
    said: str = ""

    @property
    def is_bad(self) -> bool:
        """Whether it must not be."""
        return self.end.isupper()


class Originals:
    """The undamaged inputs, made once.

    Parameters
    ----------
    folder
        Where they are written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ct = folder / "ct"
        small_chest.write_series(
            self.ct, StudyInstanceUID="1.2.3", SeriesInstanceUID="1.2.3.4", FrameOfReferenceUID="1.2.9"
        )
        self.labels = small_chest.write_labels(folder / "labels.nrrd")
        volume = CTVolume(small_chest.hu(), small_chest.affine())
        self.volumes = {}
        for kind, name in (("nrrd", "ct.nrrd"), ("nifti", "ct.nii.gz"), ("mha", "ct.mha")):
            self.volumes[kind] = folder / name
            write_volume(folder / name, volume)
        self.seg = folder / "labels.dcm"
        structure = Code("123037004", "SCT", "Anatomical Structure")
        kinds = {Artery.LAD: Code("59438005", "SCT", "LAD"), Artery.RCA: Code("13647002", "SCT", "RCA")}
        described = [
            hd.seg.SegmentDescription(n, artery.name, structure, code, "MANUAL")
            for n, (artery, code) in enumerate(kinds.items(), 1)
        ]
        planes = np.stack([small_chest.codes() == artery for artery in kinds], -1).astype(np.uint8)
        hd.seg.Segmentation(
            [dcmread(path) for path in sorted(self.ct.iterdir())], planes, "BINARY", described, hd.UID(), 300,
            hd.UID(), 1, "nobody", "none", "1", "0",
        ).save_as(self.seg)  # fmt: skip
        self.seg_nrrd = folder / "labels.seg.nrrd"
        write_seg_nrrd(self.seg_nrrd, volume, small_chest.codes())
        self.usual = {
            kind: frozenset(c.code for c in score_series(source, Request(segmentation=self.labels)).case.cautions)
            for kind, source in (("dicom", self.ct), *self.volumes.items())
        }


def run_case(originals: Originals, kind: str, draw: random.Random) -> Outcome:
    """Damage, score, judge.

    Parameters
    ----------
    originals
        What is damaged.
    kind
        One of `KINDS`.
    draw
        Says what and where.
    """
    with tempfile.TemporaryDirectory() as place, _past_every_check():
        folder = Path(place)
        source, labels = originals.ct, originals.labels
        usual = originals.usual.get(kind, originals.usual["dicom"])
        if kind == "dicom attribute":
            source, what = _attribute(originals, folder, draw)
        elif kind == "dicom file":
            source, what = _files(originals, folder, draw)
        elif kind in originals.volumes:
            source, what = _volume(originals.volumes[kind], folder, draw)
        elif kind == "seg":
            labels, what = _dataset(originals.seg, folder, draw)
        else:
            labels, what = _text(originals.seg_nrrd, folder, draw)
        out = folder / "out" if draw.random() < 0.1 else None
        return _judged(what, source, labels, usual, out)


def _judged(what: str, source: Path, labels: Path, usual: frozenset[str], out: Path | None) -> Outcome:
    try:
        with _no_longer_than(SECONDS):
            result = score_series(source, Request(segmentation=labels))
            notes = [] if out is None else write_outputs(result, out)
    except InputRefused as refusal:
        if out is not None and out.exists():
            return Outcome(what, "HALF FOLDER", str(refusal))
        return Outcome(what, f"refused {refusal.code}", refusal.text)
    except TimeoutError:
        return Outcome(what, "HANG")
    except Exception as error:
        return Outcome(what, "TRACEBACK", f"{type(error).__name__}: {error}")
    if any("Error in" in note for note in notes):
        return Outcome(what, "TRACEBACK", "; ".join(notes))
    scores = {artery: result.case.report.arteries[artery].agatston for artery in small_chest.AGATSTON}
    pairs = [(scores[a], value) for a, value in small_chest.AGATSTON.items()]
    pairs.append((result.case.report.total.agatston, small_chest.TOTAL))
    right = all(abs(found - value) <= SAME_SHARE * value for found, value in pairs)
    more = sorted({c.code for c in result.case.cautions} - usual)
    if right:
        return Outcome(what, "warned" if more else "right", ", ".join(more))
    if result.case.assessment.evaluable is Evaluable.NO:
        return Outcome(what, "withheld", ", ".join(more))
    return Outcome(what, "SILENT", f"{scores}; warnings {more}")


def _attribute(originals: Originals, folder: Path, draw: random.Random) -> tuple[Path, str]:
    """One attribute of one slice, of every second one, or of all."""
    shutil.copytree(originals.ct, folder / "ct")
    paths = sorted((folder / "ct").iterdir())
    keyword, how, where = (
        draw.choice(draw.choice((ATTRIBUTES, CRUCIAL))),
        draw.choice(HOW),
        draw.choice(("one", "half", "all")),
    )
    chosen = {"one": [draw.choice(paths)], "half": paths[::2], "all": paths}[where]
    other = dcmread(draw.choice(paths))
    factor = draw.choice((-1, 0, 0.1, 0.5, 0.98, 1.001, 1.5, 10, 1e6))
    for path in chosen:
        dataset = dcmread(path)
        _change(dataset, keyword, how, other, factor)
        with suppress(ValueError, TypeError, AttributeError):  # what pydicom cannot write is left undamaged
            made = BytesIO()
            dataset.save_as(made)
            path.write_bytes(made.getvalue())
    return folder / "ct", f"{keyword} {how} in {where}" + (f" x{factor}" if how == "other number" else "")


def _change(dataset: Dataset, keyword: str, how: str, other: Dataset, factor: float) -> None:
    tag, vr = Tag(keyword), dictionary_VR(Tag(keyword)).split(" ")[0]
    old = dataset[tag].value if tag in dataset else None
    values = list(old) if isinstance(old, (list, tuple)) or type(old).__name__ == "MultiValue" else [old]
    text = "\\".join("" if v is None else str(v) for v in values)
    if tag in dataset:
        del dataset[tag]
    if how == "another's" and tag in other:
        dataset.add(other[tag])
        return
    numbers = re.findall(r"-?\d+\.?\d*", text)
    if how == "other number" and numbers:
        if vr == "US":
            setattr(dataset, keyword, int(abs(float(numbers[0]) * factor)) % 65536)
            return
        text = "\\".join(f"{float(number) * factor:.8g}" for number in numbers)
    made = {
        "deleted": None, "empty": "", "doubled": f"{text}\\{text}", "garbled": draw_garbage(text),
        "comma": text.replace(".", ","),
    }.get(how, text)  # fmt: skip
    if made is not None:
        value = made.encode("latin-1", "replace") if vr != "US" else made.encode("latin-1", "replace")[:3]
        dataset._dict[tag] = RawDataElement(tag, vr, len(value), value, 0, False, True)


def draw_garbage(text: str) -> str:
    """Something that was a value once: other letters between what there was."""
    return f"{text[: len(text) // 2]}\xff?x{text[len(text) // 2 :]}"


def _files(originals: Originals, folder: Path, draw: random.Random) -> tuple[Path, str]:
    """What happens to files and folders."""
    shutil.copytree(originals.ct, folder / "ct")
    paths = sorted((folder / "ct").iterdir())
    one, two = draw.sample(paths, 2)
    what = draw.choice((
        "cut", "bytes of a header", "removed", "copied", "emptied", "junk beside", "broken .dcm beside", "scout beside",
        "names shuffled", "in subfolders", "linked", "uncovered tail", "zeros after the pixels", "no preamble",
        "its own series", "every one its own series", "swapped contents", "another transfer syntax",
    ))  # fmt: skip
    data = one.read_bytes()
    if what == "cut":
        one.write_bytes(data[: draw.randrange(len(data))])
    elif what == "bytes of a header":
        changed = bytearray(data)
        for _ in range(draw.randint(1, 4)):
            changed[draw.randrange(132, len(data) - 2 * 40 * 40 - 12)] = draw.randrange(256)
        one.write_bytes(bytes(changed))
    elif what == "removed":
        one.unlink()
    elif what == "copied":
        shutil.copy(one, folder / "ct" / "copy")
    elif what == "emptied":
        one.write_bytes(b"")
    elif what == "junk beside":
        (folder / "ct" / draw.choice(("notes.txt", ".DS_Store", "Thumbs.db"))).write_bytes(b"junk" * 99)
    elif what == "broken .dcm beside":
        (folder / "ct" / "x.dcm").write_bytes(draw.randbytes(300))
    elif what == "scout beside":
        dataset = dcmread(one)
        dataset.ImageType, dataset.SOPInstanceUID = ["ORIGINAL", "PRIMARY", "LOCALIZER"], "1.2.77"
        dataset.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
        dataset.save_as(folder / "ct" / "scout")
    elif what == "names shuffled":
        names = draw.sample(range(1000), len(paths))
        for path, name in zip(paths, names, strict=True):
            path.rename(folder / "ct" / f"s{name:03d}")
    elif what == "in subfolders":
        for n, path in enumerate(paths):
            (folder / "ct" / str(n % 3)).mkdir(exist_ok=True)
            path.rename(folder / "ct" / str(n % 3) / path.name)
    elif what == "linked":
        (folder / "links").mkdir()
        (folder / "links" / "to").symlink_to(folder / "ct")
        return folder / "links", what
    elif what == "uncovered tail":
        one.write_bytes(data + draw.randbytes(draw.randint(1, 500)))
    elif what == "zeros after the pixels":
        dataset = dcmread(one)
        dataset.PixelData = bytes(dataset.PixelData) + bytes(2 * draw.randint(1, 2000))
        dataset.save_as(one)
    elif what == "another transfer syntax":
        syntax = draw.choice(
            (b"1.2.840.10008.1.2.2", b"1.2.840.10008.1.2.5", b"1.2.840.10008.1.2.9", b"1.2.840.10008.1.2\0\0")
        )
        one.write_bytes(data.replace(b"1.2.840.10008.1.2.1", syntax, 1))
    elif what == "no preamble":
        one.write_bytes(data[132:])
    elif what in ("its own series", "every one its own series"):
        for n, path in enumerate(paths if what.startswith("every") else [one]):
            dataset = dcmread(path)
            dataset.SeriesInstanceUID = f"1.2.88.{n}"
            dataset.save_as(path)
    else:
        other = two.read_bytes()
        one.write_bytes(other)
        two.write_bytes(data)
    return folder / "ct", what


def _volume(original: Path, folder: Path, draw: random.Random) -> tuple[Path, str]:
    """The header of a volume file, or its length; its voxels are what they are."""
    if original.name.endswith(".nii.gz"):
        data = bytearray(gzip.decompress(original.read_bytes()))
        what = draw.choice(("bytes of the header", "cut", "longer", "not zipped"))
        if what == "bytes of the header":
            for _ in range(draw.randint(1, 3)):
                at = draw.randrange(352)
                data[at] = draw.choice((0, 255, data[at] ^ (1 << draw.randrange(8))))
                what = f"{what} {at}"
        elif what == "cut":
            data = data[: draw.randrange(len(data))]
        elif what == "longer":
            data += bytes(draw.randint(1, 5000))
        target = folder / ("ct.nii" if what == "not zipped" else "ct.nii.gz")
        target.write_bytes(bytes(data) if what == "not zipped" else gzip.compress(bytes(data), 1))
        return target, f"nifti {what}"
    return _text(original, folder, draw)


def _text(original: Path, folder: Path, draw: random.Random) -> tuple[Path, str]:
    """A line of the text before the voxels."""
    data = original.read_bytes()
    end = data.index(b"\n\n") if original.suffix == ".nrrd" else data.index(b"ElementDataFile")
    head, rest = data[:end].split(b"\n"), data[end:]
    n = draw.randrange(len(head))
    name = head[n].split(b":")[0].split(b"=")[0].decode("latin-1").strip()[:30]
    how = draw.choice(("lost", "twice", "garbled", "number", "cut", "longer", "empty"))
    if how == "lost":
        del head[n]
    elif how == "twice":
        head.insert(n, head[n])
    elif how == "garbled":
        at = draw.randrange(len(head[n]) + 1)
        head[n] = head[n][:at] + draw.randbytes(2).replace(b"\n", b"?") + head[n][at + 1 :]
    elif how == "empty":
        head[n] = head[n].split(b":")[0] + b":="
    elif how == "number":
        numbers = list(re.finditer(rb"-?\d+\.?\d*", head[n]))
        if numbers:
            m = draw.choice(numbers)
            value = float(m[0]) * draw.choice((-1, 0, 0.5, 1.001, 2, 10, 1e9))
            head[n] = head[n][: m.start()] + f"{value:.8g}".encode() + head[n][m.end() :]
    elif how == "cut":
        rest = rest[: draw.randrange(2, len(rest))]
    else:
        rest += draw.randbytes(draw.randint(1, 3000))
    target = folder / original.name
    target.write_bytes(b"\n".join(head) + rest)
    return target, f"{original.name}: {name} {how}"


def _dataset(original: Path, folder: Path, draw: random.Random) -> tuple[Path, str]:
    """An element somewhere in a DICOM object, in whatever item; or its bytes."""
    target = folder / original.name
    if draw.random() < 0.2:
        data = original.read_bytes()
        target.write_bytes(data[: draw.randrange(len(data))])
        return target, "seg cut"
    dataset = dcmread(original)
    holders = [(dataset, element) for element in dataset if element.keyword != "PixelData"]
    for _, element in holders:  # grows while it is walked
        if element.VR == "SQ":
            holders += [(item, inner) for item in element.value for inner in item]
    holder, element = draw.choice(holders)
    how = draw.choice(HOW[:4])
    keyword = element.keyword
    if element.VR == "SQ":
        if how in ("deleted", "garbled"):
            del holder[element.tag]
        elif how == "empty":
            element.value = []
        else:
            element.value = [*element.value, *element.value]
    else:
        _change(holder, keyword, how, dataset, 1)
    try:
        dataset.save_as(target)
    except (ValueError, TypeError, AttributeError, KeyError):  # what pydicom cannot write
        shutil.copy(original, target)
    return target, f"seg {keyword} {how}"


@contextmanager
def _past_every_check() -> Iterator[None]:
    """Write what no library would, and read it without its complaints."""
    before = config.settings.reading_validation_mode, config.settings.writing_validation_mode
    config.settings.writing_validation_mode = config.IGNORE
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        config.settings.reading_validation_mode, config.settings.writing_validation_mode = before


@contextmanager
def _no_longer_than(seconds: int) -> Iterator[None]:
    """Raise TimeoutError in the block when it takes longer; where the system has alarms."""
    if not hasattr(signal, "SIGALRM"):
        yield
        return

    def ring(*_: object) -> None:
        raise TimeoutError

    before: Callable | int | None = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def cases(originals: Originals, count: int, seed: int) -> Iterator[tuple[int, Outcome]]:
    """So many cases in turn through the kinds, each known by its number under a seed."""
    for n in range(count):
        yield n, run_case(originals, KINDS[n % len(KINDS)], random.Random(f"{seed}/{n}"))
