"""Real scans and slices whose coronary islands an engineer has read; nobody here is a radiologist.

They lie in a folder that is not part of HeartLens, each set with a NOTICE of its origin and licence. They judge:
nothing that ships has seen them, and the slices that serve as backgrounds for training are left out here.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from scipy import ndimage

from heartlens.core.components import label_components
from heartlens.core.ct import CTHeader, CTVolume
from heartlens.core.errors import InputRefused
from heartlens.core.reconstruction_kernel import kernel_class
from training.evaluation.answers import Known, KnownIsland
from training.evaluation.results import Failure
from training.evaluation.sources.judged import PROTOCOL, SLICE_KVP, JudgedScan, open_scan, written

HU_FACTOR = 0.866
"""The heart slices hold HU times this (their NOTICE)."""

SOFT_SIGMA_PX = 1.0
"""Of the Gaussian that gives the heart slices the noise and the look of a soft kernel (their NOTICE)."""

SLICE_PIXEL_MM, SLICE_THICKNESS_MM = 0.703, 2.5
"""Of the heart slices, which say neither (their NOTICE)."""

NEAR_PX, NEAR_MM = 4.0, 8.0
"""An island is the one that was read when its middle lies within so many pixels, or mm, of the place noted."""

ENHANCED = frozenset({"0014", "0016", "0044", "0090", "0202"})
"""Heart slices that `expected.json` lists as without contrast, and whose chambers are plainly full of it: the mode of
the heart's HU, by which they were sorted, was that of muscle. They judge nothing."""

TCGA_BACKGROUNDS = frozenset(
    {
        "0050", "0060", "0061", "0064", "0065", "0075", "0081", "0088", "0090", "0091", "0092", "0093", "0095", "0098",
    }
)  # fmt: skip
"""Slices without calcium that may serve as backgrounds for training (their NOTICE), and so judge nothing."""


@dataclass(frozen=True)
class RealSet:
    """One folder of scans.

    Parameters
    ----------
    name
        Of its group in tables.
    folder
        Below the data.
    read
        Gives its scans: (folder, folder for files that have to be made).
    """

    name: str
    folder: str
    read: Callable[[Path, Path], Iterator[JudgedScan]]

    def scans(self, data: Path, work: Path) -> Iterator[JudgedScan | Failure]:
        """Its scans, or one failure that says why there are none."""
        folder = data / self.folder
        if not folder.is_dir():
            yield Failure(self.name, f"{folder} is not there: this set is not distributed")
        elif not (folder / "NOTICE.md").is_file():
            yield Failure(self.name, f"{folder} has no NOTICE.md: nobody knows whether it may be used")
        else:
            work.mkdir(parents=True, exist_ok=True)
            yield from self.read(folder, work)


def soft_slices(folder: Path, work: Path) -> Iterator[JudgedScan]:
    """The slices of the heart set that have no contrast, smoothed to what a soft kernel shows."""
    expected, images = _heart_set(folder)
    for key in _judging(expected):
        ct = slice_ct(_hu(images[key], SOFT_SIGMA_PX), is_prone=key in expected["prone"])
        known = _known_slice(key, ct, expected)
        yield JudgedScan(f"heart-{key}-soft", written(work, f"heart-{key}-soft", ct), ct, known)


def sharp_slices(folder: Path, work: Path) -> Iterator[JudgedScan]:
    """The same slices as they are: a lung kernel with some 60 HU of noise. Islands are those read on the soft ones."""
    expected, images = _heart_set(folder)
    for key in _judging(expected):
        is_prone = key in expected["prone"]
        soft = slice_ct(_hu(images[key], SOFT_SIGMA_PX), is_prone=is_prone)
        ct = slice_ct(_hu(images[key], 0.0), is_prone=is_prone)
        known = transferred(_known_slice(key, soft, expected), ct)
        yield JudgedScan(f"heart-{key}-sharp", written(work, f"heart-{key}-sharp", ct), ct, known, is_sharp=True)


def tcga_slices(folder: Path, work: Path) -> Iterator[JudgedScan]:
    """The slices without contrast that judge."""
    expected = json.loads((folder / "expected.json").read_text())
    for name, read in expected["slices"].items():
        key = name.removeprefix("ID_")
        if key in TCGA_BACKGROUNDS:
            continue
        (path,) = folder.glob(f"{name}_*_CONTRAST_0_CT.dcm")
        ct = open_scan(path)
        islands = [
            KnownIsland(row["artery"], _nearest(ct, (*row["xy"], None), f"{name} {row['artery']}"))
            for row in read["coronary"]
        ]
        is_sharp = kernel_class(ct.header.kernel) == "sharp"
        yield JudgedScan(f"tcga-{key}", path, ct, Known(tuple(islands)), is_sharp)


NYSBU_LAD = ("cac_lad_aortic_root_GE_2p5mm.dcm", "LAD")
"""The one slice of its folder with coronary calcium, and the name of its box there."""

NYSBU_AXIAL = (
    NYSBU_LAD[0],
    "aorta_plaque_GE_5mm.dcm",
    "clean_heart_TOSHIBA_5mm.dcm",
    "metal_hilum_GE_5mm.dcm",
)


def nysbu_slices(folder: Path, work: Path) -> Iterator[JudgedScan]:
    """Four axial slices: the LAD beside a calcified root, the aorta, a clean heart, metal at the hilum."""
    expected = json.loads((folder / "expected.json").read_text())["files"]
    for name in NYSBU_AXIAL:
        ct = open_scan(folder / name)
        islands = []
        if name == NYSBU_LAD[0]:
            (box,) = (roi for roi in expected[name]["rois"] if roi["roi"] == NYSBU_LAD[1])
            inside = np.zeros(ct.shape, bool)
            inside[tuple(slice(*box[axis]) for axis in "zyx")] = True
            for flat in _islands(ct):
                if inside.reshape(-1)[flat].all():
                    islands.append(KnownIsland("LAD", flat))
            if len(islands) != box["conn8"]["n_components"]:
                raise InputRefused("input", f"{name}: expected {box['conn8']['n_components']} islands in the box of "
                                   f"the LAD, found {len(islands)}")  # fmt: skip
        is_sharp = kernel_class(ct.header.kernel) == "sharp"
        yield JudgedScan(f"nysbu-{Path(name).stem}", folder / name, ct, Known(tuple(islands)), is_sharp)


def lidc_scan(folder: Path, work: Path) -> Iterator[JudgedScan]:
    """The heart's 90 thin slices by a sharp kernel; frames of reference are made one in a copy."""
    expected = json.loads((folder / "expected.json").read_text())
    source = unify_frames(folder / "series.zip", work / "lidc-0314")
    ct = open_scan(source)
    islands = [KnownIsland(row["artery"], _nearest(ct, row["lps"], row["artery"])) for row in expected["coronary"]]
    uncertain = [_nearest(ct, row["lps"], row["artery"]) for row in expected["uncertain"]]
    known = Known(tuple(islands), np.unique(np.concatenate(uncertain)))
    yield JudgedScan("lidc-0314", source, ct, known, is_sharp=True)


SETS = (
    RealSet("heart slices, soft", "real_heart_slices", soft_slices),
    RealSet("heart slices, sharp", "real_heart_slices", sharp_slices),
    RealSet("TCGA slices", "tcga_lung_slices", tcga_slices),
    RealSet("NY-SBU slices", "covid19_nysbu_slices", nysbu_slices),
    RealSet("LIDC-0314", "lidc_idri_0314", lidc_scan),
)


def unify_frames(archive: Path, folder: Path) -> Path:
    """Lay a series out with one frame of reference for all of its slices.

    Some headers give every slice one of its own, which says that no two of them share a space.
    """
    folder.mkdir(parents=True, exist_ok=True)
    frame = None
    with zipfile.ZipFile(archive) as packed:
        for name in sorted(packed.namelist()):
            if name.endswith("/"):
                continue
            with packed.open(name) as file:
                dataset = pydicom.dcmread(file)
            frame = frame or dataset.FrameOfReferenceUID
            dataset.FrameOfReferenceUID = frame
            dataset.save_as(folder / Path(name).name)
    return folder


def slice_ct(hu: NDArray[np.float64], *, is_prone: bool = False) -> CTVolume:
    """A lone slice of the heart set as a scan. A prone person is laid on the back, as a header would do it."""
    values = np.rint(hu).clip(-32768, 32767).astype(np.int16)
    values = values[::-1, ::-1] if is_prone else values
    header = CTHeader(kvp=SLICE_KVP, slice_thickness_mm=SLICE_THICKNESS_MM)
    affine = np.diag([SLICE_PIXEL_MM, SLICE_PIXEL_MM, SLICE_THICKNESS_MM, 1.0])
    return CTVolume(np.ascontiguousarray(values)[None], affine, header)


def transferred(known: Known, ct: CTVolume) -> Known:
    """The same islands on another image of the same scan: what is dense there, up to one voxel around them."""
    dense = np.flatnonzero(ct.hu >= PROTOCOL.threshold_hu)

    def grown(flat: NDArray[np.int64]) -> NDArray[np.int64]:
        mask = np.zeros(ct.shape, bool)
        mask.reshape(-1)[flat] = True
        around = ndimage.binary_dilation(mask, np.ones((1, 3, 3), bool))
        return np.intersect1d(np.flatnonzero(around), dense, assume_unique=True)

    islands = [(island.artery, grown(island.flat)) for island in known.islands]
    kept = tuple(KnownIsland(artery, flat) for artery, flat in islands if flat.size)
    return Known(kept, grown(known.uncertain) if known.uncertain.size else known.uncertain)


def _heart_set(folder: Path) -> tuple[dict[str, Any], Any]:
    expected = json.loads((folder / "expected.json").read_text())
    return expected, np.load(folder / "slices_int16.npz", allow_pickle=False)


def _judging(expected: dict[str, Any]) -> list[str]:
    return [key for key in expected["non_contrast"] if key not in ENHANCED]


def _hu(stored: NDArray[np.int16], sigma_px: float) -> NDArray[np.float64]:
    hu = stored / HU_FACTOR
    return ndimage.gaussian_filter(hu, sigma_px) if sigma_px else hu


def _known_slice(key: str, ct: CTVolume, expected: dict[str, Any]) -> Known:
    """What was read on the soft image of one slice of the heart set."""

    def island_at(xy: list[float], what: str) -> NDArray[np.int64]:
        column, row = xy
        place = (0.0, row, column)
        if key in expected["prone"]:
            place = (0.0, ct.shape[1] - 1 - row, ct.shape[2] - 1 - column)
        return _nearest_in_pixels(ct, place, what)

    islands = [
        KnownIsland(row["artery"], island_at(row["xy_px"], f"{key} {row['artery']}"))
        for row in expected["islands"]
        if row["slice"] == key
    ]
    uncertain = [island_at(xy, f"{key} uncertain") for xy in expected["uncertain"].get(key, ())]
    return Known(tuple(islands), np.unique(np.concatenate(uncertain)) if uncertain else np.zeros(0, np.int64))


def _islands(ct: CTVolume, box: tuple[slice, ...] | None = None) -> Iterator[NDArray[np.int64]]:
    """Voxels of each island of dense voxels that touch by a face."""
    mask = ct.hu >= PROTOCOL.threshold_hu
    if box is not None:
        inside = np.zeros(ct.shape, bool)
        inside[box] = True
        mask &= inside
    flat = np.flatnonzero(mask)
    number = label_components(flat, ct.shape, connectivity=6)
    order = np.argsort(number, kind="stable")
    yield from np.split(flat[order], np.flatnonzero(np.diff(number[order])) + 1)


def _nearest_in_pixels(ct: CTVolume, place: tuple[float, ...], what: str) -> NDArray[np.int64]:
    """The island whose extent has its middle nearest to a place in voxels."""
    best, distance = None, np.inf
    for flat in _islands(ct):
        kji = np.stack(np.unravel_index(flat, ct.shape), axis=-1)
        away = float(np.linalg.norm((kji.min(axis=0) + kji.max(axis=0)) / 2 - place))
        if away < distance:
            best, distance = flat, away
    if best is None or distance > NEAR_PX:
        raise InputRefused("input", f"{what}: expected an island at {place}, the nearest is {distance:.1f} pixels away")
    return best


def _nearest(ct: CTVolume, lps_mm: tuple[float | None, ...] | list[float], what: str) -> NDArray[np.int64]:
    """The island whose middle is nearest to a place in the patient; in a lone slice z may be unknown."""
    x, y, z = lps_mm
    assert x is not None
    assert y is not None
    place = np.array([x, y, ct.affine[2, 3] if z is None else z])
    k = int(np.rint(ct.index_kji(place)[0]))
    reach = int(np.ceil(3 * NEAR_MM / ct.increment_mm))
    best, distance = None, np.inf
    for flat in _islands(ct, (slice(max(0, k - reach), k + reach + 1), slice(None), slice(None))):
        middle = ct.lps_mm(np.stack(np.unravel_index(flat, ct.shape), axis=-1)).mean(axis=0)
        away = float(np.linalg.norm(middle - place))
        if away < distance:
            best, distance = flat, away
    if best is None or distance > NEAR_MM:
        raise InputRefused("input", f"{what}: expected an island at {place}, the nearest is {distance:.1f} mm away")
    return best
