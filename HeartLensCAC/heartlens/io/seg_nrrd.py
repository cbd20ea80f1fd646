"""Segmentations as Slicer keeps them: ``.seg.nrrd``, voxels with named, colored and coded segments.

Keys as written by Slicer's vtkMRMLSegmentationStorageNode. Slicer takes the extent of a layer from the first segment
on it, so every segment here declares the whole grid.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from heartlens.core.codes import CALCIFICATION, CATEGORY, PLAQUE, REGIONS
from heartlens.core.ct import CTVolume
from heartlens.core.errors import InputRefused
from heartlens.core.grid import ijk_of, index_map
from heartlens.core.lesions import ARTERY_COLORS, CORONARY, Artery, LesionMap, LesionNote
from heartlens.core.provenance import LabelSource
from heartlens.core.segment_names import put_artery, segment_artery
from heartlens.io.nrrd import Nrrd, read_nrrd, write_nrrd

_CATEGORIES = "Segmentation category and type - 3D Slicer General Anatomy list"
_REGIONS = "Anatomic codes - DICOM master list"
_TOO_SMALL_IN_0_1 = "below the minimum area"
"""Version 0.1 said in its sentence alone that a piece is too small."""

_LESION_TAG = "HeartLens.Lesion"

_KEY = re.compile(r"Segment(\d+)_\w")
"""Any key of a segment, whatever its number: numbers may have gaps, and a line may have been lost."""


@dataclass(frozen=True)
class Segment:
    """One segment of a ``.seg.nrrd``.

    Parameters
    ----------
    id, name
        As in the file.
    layer
        Which label map of the file holds its voxels.
    value
        Of its voxels in `layer`.
    tags
        Slicer's segment tags, TerminologyEntry among them
    """

    id: str
    name: str
    layer: int
    value: int
    tags: Mapping[str, str]


def write_seg_nrrd(path: str | Path, ct: CTVolume, codes: NDArray[np.uint8]) -> None:
    """Write one segment per artery; the voxel values are `Artery` codes, so it is a label map as well.

    Parameters
    ----------
    path
        File to write.
    ct
        The scan that is segmented.
    codes
        (k, j, i) `Artery` codes on the grid of `ct`, 0 where nothing is labeled
    """
    _check_shape(codes, ct)
    present = {Artery(int(code)) for code in np.flatnonzero(np.bincount(codes[codes != 0]))}  # of few voxels
    keys = _file_keys()
    arteries = [artery for artery in Artery if artery in CORONARY or artery in present]
    for n, artery in enumerate(arteries):
        keys |= _segment_keys(n, artery.name, artery.name, artery, int(artery), ct, {})
    write_nrrd(Path(path), codes, ct.affine, keys)


def write_lesion_map(path: str | Path, ct: CTVolume, lesions: LesionMap) -> None:
    """Write one segment per lesion, with its artery and note; `read_lesion_map` gives the same map back."""
    _check_shape(lesions.labels, ct)
    keys = _file_keys()
    for n, (lesion_id, artery) in enumerate(sorted(lesions.arteries.items())):
        note = lesions.notes[lesion_id]
        facts = {
            "id": lesion_id,
            "artery": artery.name,
            "probability": note.probability,
            "source": note.source.value,
            "why": note.why,
            "undecided": note.undecided,
            "counts": note.counts,
        } | ({} if note.site is None else {"site": note.site.value})
        name = f"{artery.name}-{lesion_id:02d}"
        keys |= _segment_keys(n, f"Lesion_{lesion_id}", name, artery, lesion_id, ct, {_LESION_TAG: json.dumps(facts)})
    small = max(lesions.arteries, default=0) < 256
    write_nrrd(Path(path), lesions.labels.astype(np.uint8) if small else lesions.labels, ct.affine, keys)


def read_lesion_map(path: str | Path, ct: CTVolume) -> LesionMap:
    """Read what `write_lesion_map` wrote.

    Raises
    ------
    InputRefused
        ``unreadable``, ``truncated`` or ``grid``
    """
    path = Path(path)
    image = read_nrrd(path)
    labels = np.zeros(ct.shape, np.uint16)
    arteries: dict[int, Artery] = {}
    notes: dict[int, LesionNote] = {}
    try:
        segments = segments_of(image, path)
        layers = _labeled_layers(image)
        _refuse_undeclared(layers, segments, path)
        for segment in segments:
            facts = json.loads(segment.tags[_LESION_TAG])
            lesion_id = int(facts["id"])
            labels.reshape(-1)[_voxels(image, layers, segment, ct, path)] = lesion_id
            arteries[lesion_id] = Artery[facts["artery"]]
            notes[lesion_id] = LesionNote(
                facts["probability"],
                LabelSource(facts["source"]),
                facts["why"],
                undecided=facts.get("undecided", facts.get("review", False)),  # the name in version 0.1
                counts=facts.get("counts", not facts["why"].startswith(_TOO_SMALL_IN_0_1)),
                site=facts.get("site"),
            )
        return LesionMap(labels, arteries, notes)
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise InputRefused(
            "unreadable",
            f"{path}: expected the lesions that HeartLens wrote, found other segments ({error}); score again",
        ) from None


def artery_codes(image: Nrrd, ct: CTVolume, path: Path) -> NDArray[np.uint8]:
    """(k, j, i) `Artery` codes of a segmentation, on the grid of `ct`.

    Raises
    ------
    InputRefused
        ``grid``; ``labels``, when a segment with voxels names no artery or two arteries share voxels
    """
    codes = np.zeros(ct.shape, np.uint8)
    flat_codes = codes.reshape(-1)
    segments = segments_of(image, path)
    layers = _labeled_layers(image)
    _refuse_undeclared(layers, segments, path)
    for segment in segments:
        flat = _voxels(image, layers, segment, ct, path)
        if flat.size:
            artery = segment_artery(path, segment.name, segment_codes(segment.tags))
            put_artery(flat_codes, flat, artery, path)
    return codes


def is_segmentation(image: Nrrd, path: Path) -> bool:
    """Whether a file says what its values mean, by any key of a segment or by its name."""
    return path.name.lower().endswith(".seg.nrrd") or any(_KEY.match(key) for key in image.keys)


def segments_of(image: Nrrd, path: Path) -> list[Segment]:
    """The segments of a ``.seg.nrrd``; files of Slicer before 5.0 have one layer and value 1 for each.

    Raises
    ------
    InputRefused
        ``unreadable``; ``labels``, where it is not said which voxels a segment has
    """
    numbers = sorted({int(match[1]) for match in map(_KEY.match, image.keys) if match})
    if not numbers and image.values.any():
        raise InputRefused(
            "labels",
            f"{path}: expected segments in a .seg.nrrd, found voxels and no key that says what they are; export it "
            "again, or call it .nrrd if its values are 1 LM, 2 LAD, 3 LCX, 4 RCA, 5 OTHER, 6 UNASSIGNED",
        )
    segments: list[Segment] = []
    is_old = not any(key.endswith(("_Layer", "_LabelValue")) and _KEY.match(key) for key in image.keys)
    for n in numbers:
        key = f"Segment{n}_"
        tags = dict(tag.split(":", 1) for tag in image.keys.get(key + "Tags", "").split("|") if ":" in tag)
        name = image.keys.get(key + "Name", image.keys.get(key + "ID", f"Segment{n}"))
        found = {
            k: image.keys.get(f"{key}{k}", old if is_old else None)
            for k, old in (("Layer", str(n)), ("LabelValue", "1"))
        }
        missing = [key + k for k, value in found.items() if value is None]
        if missing:
            raise InputRefused(
                "labels",
                f"{path}: {' and '.join(missing)} of segment {name!r} are missing: its voxels are not known; "
                "export it again",
            )
        layer, value = (str(text) for text in found.values())
        if not (layer.isdecimal() and value.isdecimal()):
            raise InputRefused(
                "unreadable", f"{path}: expected numbers for layer and value of segment {n}, found {layer!r}, {value!r}"
            )
        segments.append(Segment(image.keys.get(key + "ID", name), name, int(layer), int(value), tags))
    return segments


def _labeled_layers(image: Nrrd) -> list[tuple[NDArray[np.int64], NDArray]]:
    """Of each layer the C-order indices of the voxels that are not 0, and their values: a small part of a scan."""
    values = image.values if image.values.ndim == 4 else image.values[..., None]
    layers = []
    for n in range(values.shape[3]):
        layer = values[..., n].reshape(-1)
        flat = np.flatnonzero(layer)
        layers.append((flat, layer[flat]))
    return layers


def _refuse_undeclared(layers: list[tuple[NDArray[np.int64], NDArray]], segments: list[Segment], path: Path) -> None:
    """Refuse voxels that no segment claims: dropping them would lower the score without a word."""
    for segment in segments:
        if segment.layer >= len(layers):
            raise InputRefused(
                "unreadable",
                f"{path}: segment {segment.name!r} lies on layer {segment.layer}, the file has {len(layers)}",
            )
    for layer, (_, values) in enumerate(layers):
        declared = {segment.value for segment in segments if segment.layer == layer}
        unknown = [f"{value:g}" for value in np.unique(values).tolist() if value not in declared]
        if unknown:
            where = f" of layer {layer}" if len(layers) > 1 else ""
            more = f" and {len(unknown) - 12} more" if len(unknown) > 12 else ""
            raise InputRefused(
                "labels",
                f"{path}: expected every value{where} in a declared segment, found {', '.join(unknown[:12])}{more}, "
                "which no segment has; export it again with all its segments",
            )


def _voxels(
    image: Nrrd,
    layers: list[tuple[NDArray[np.int64], NDArray]],
    segment: Segment,
    ct: CTVolume,
    path: Path,
) -> NDArray[np.int64]:
    """C-order indices on the CT grid of a segment's voxels; value 0 is no voxel's."""
    flat, values = layers[segment.layer]
    where = flat[values == segment.value]
    if where.size == 0:
        return where
    k, j, i = image.values.shape[:3]
    mapping = index_map((k, j, i), image.affine, ct, str(path))
    return mapping.flat(ijk_of(where, (k, j, i)), ct, f"{path}, segment {segment.name!r}")


def terminology_entry(artery: Artery) -> str:
    """What a segment of this artery is, in Slicer's notation; Slicer writes its DICOM SEG from it."""
    region = REGIONS.get(artery)
    kind = CALCIFICATION if region is None else PLAQUE
    where = "~^^" if region is None else f"~SCT^{region.value}^{region.meaning}"
    what = f"~SCT^{CATEGORY.value}^{CATEGORY.meaning}~SCT^{kind.value}^{kind.meaning}~^^"
    return f"{_CATEGORIES}{what}~{_REGIONS}{where}~^^"


def segment_codes(tags: Mapping[str, str]) -> list[tuple[str, str]]:
    """Scheme and value of type and anatomic region in a TerminologyEntry, each with its modifier.

    Slicer divides the entry by tildes: context, category, type, its modifier, context of regions, region, its modifier.
    """
    fields = tags.get("TerminologyEntry", "").split("~")
    codes = [field.split("^") for field in (*fields[2:4], *fields[5:7])]
    return [(code[0], code[1]) for code in codes if len(code) > 1 and code[1]]


def _check_shape(values: NDArray, ct: CTVolume) -> None:
    if values.shape != ct.shape:
        raise ValueError(f"labels must have the shape of the CT, {ct.shape}, got {values.shape}")


def _file_keys() -> dict[str, str]:
    return {
        "Segmentation_ContainedRepresentationNames": "Binary labelmap|",
        "Segmentation_ConversionParameters": "",
        "Segmentation_MasterRepresentation": "Binary labelmap",
        "Segmentation_ReferenceImageExtentOffset": "0 0 0",
    }


def _segment_keys(
    n: int, segment_id: str, name: str, artery: Artery, value: int, ct: CTVolume, tags: Mapping[str, str]
) -> dict[str, str]:
    k, j, i = ct.shape
    color = " ".join(f"{int(ARTERY_COLORS[artery][at : at + 2], 16) / 255:.6g}" for at in (1, 3, 5))
    all_tags = {"TerminologyEntry": terminology_entry(artery), **tags}
    return {
        f"Segment{n}_ID": segment_id,
        f"Segment{n}_Name": name,
        f"Segment{n}_NameAutoGenerated": "0",
        f"Segment{n}_Color": color,
        f"Segment{n}_ColorAutoGenerated": "0",
        f"Segment{n}_Extent": f"0 {i - 1} 0 {j - 1} 0 {k - 1}",
        f"Segment{n}_Layer": "0",
        f"Segment{n}_LabelValue": str(value),
        # "|" ends a tag in Slicer's format; inside JSON it can be written as its code point.
        f"Segment{n}_Tags": "".join(f"{key}:{text.replace('|', chr(92) + 'u007c')}|" for key, text in all_tags.items()),
    }
