"""Segmentations: an artery per voxel into segments, and segments, whoever painted them, into arteries."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import slicer
import vtk
from numpy.typing import NDArray

from heartlens.core.ct import CTVolume
from heartlens.core.errors import InputRefused
from heartlens.core.grid import IndexMap, ijk_of, index_map
from heartlens.core.lesions import ARTERY_COLORS, Artery
from heartlens.core.segment_names import artery_of_name, segment_artery
from heartlens.io.seg_nrrd import segment_codes, terminology_entry
from heartlens.scene.geometry import array_of, lps_affine, require_untransformed
from heartlens.scoring.counted import Labeled

BINARY = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()

ARTERY_TAG = "HeartLens.Artery"
ALGORITHM_NAME = "HeartLens"


def labels_of(segmentation: Any, ct: CTVolume) -> NDArray[np.uint8]:
    """`Artery` code of every voxel of a segmentation node, whatever program or tool made it.

    A segment's artery is that of its name and anatomic region (as in `--segmentation`), or of its HeartLens tag.
    Empty segments are ignored. The node is not changed.

    Returns
    -------
    NDArray[np.uint8]
        (k, j, i) codes on the grid of `ct`; to score them, give them to `calcium.extract_lesions`

    Raises
    ------
    InputRefused
        ``input`` (no segmentation, a transform on it, no binary labelmap); ``grid`` (its voxels are not those of the
        CT); ``labels`` (a segment with voxels names no artery, or two arteries share voxels)
    """
    labels = labeled_voxels(segmentation, ct)
    codes = np.zeros(ct.shape, np.uint8)
    codes.reshape(-1)[labels.flat] = labels.codes
    return codes


def labeled_voxels(segmentation: Any, ct: CTVolume) -> Labeled:
    """`labels_of`, the labeled voxels alone."""
    if segmentation is None or not segmentation.IsA("vtkMRMLSegmentationNode"):
        raise InputRefused("input", "expected a segmentation; choose one in the module's list")
    require_untransformed(segmentation, "the segmentation")
    parts: list[Labeled] = []
    for layer in _layers(segmentation.GetSegmentation()):
        if not layer.flat.size:
            continue
        where = index_map(layer.shape, layer.affine, ct, "the segmentation")
        flat = where.flat(ijk_of(layer.flat, layer.shape), ct, "the segmentation")
        code = np.zeros(int(layer.values.max()) + 1, np.uint8)
        for value in np.flatnonzero(np.bincount(layer.values)):
            if int(value) in layer.segments:  # what belongs to no segment any more is not shown either
                code[value] = artery_of(layer.segments[int(value)])
        codes = code[layer.values]
        parts.append(Labeled(flat[codes > 0], codes[codes > 0]))
    return _united(parts)


def _united(parts: list[Labeled]) -> Labeled:
    """The labels of several layers, ascending.

    Raises
    ------
    InputRefused
        ``labels``, when a voxel is in two arteries
    """
    if not parts:
        return Labeled(np.zeros(0, np.int64), np.zeros(0, np.uint8))
    flat = np.concatenate([part.flat for part in parts])
    codes = np.concatenate([part.codes for part in parts])
    order = np.argsort(flat, kind="stable")
    flat, codes = flat[order], codes[order]
    repeated = np.flatnonzero(flat[1:] == flat[:-1])
    clash = repeated[codes[repeated] != codes[repeated + 1]]
    if clash.size:
        first, second = (Artery(int(codes[at])).name for at in (clash[0], clash[0] + 1))
        raise InputRefused(
            "labels",
            f"the segmentation: expected every voxel in one artery, found {clash.size} in two ({first} and {second} "
            "among them); erase them from one of the two, with Overwrite all segments switched on",
        )
    return Labeled(np.delete(flat, repeated), np.delete(codes, repeated))


def artery_of(segment: Any) -> Artery:
    """The artery that a vtkSegment stands for.

    Raises
    ------
    InputRefused
        ``labels``: it names none, or its name, its tag and its anatomic region name two
    """
    name = segment.GetName() or ""
    tagged = Artery.__members__.get(tag_of(segment, ARTERY_TAG) or "")
    if tagged is not None and artery_of_name(name) in (None, tagged):
        return tagged
    terms = segment_codes({"TerminologyEntry": segment.GetTerminology() or ""})
    return segment_artery("the segmentation", name, terms)


@dataclass(frozen=True)
class Layer:
    """Segments that share one label map, without its empty voxels.

    Parameters
    ----------
    shape
        (k, j, i) of the array
    flat
        (n,) C-order indices into its array
    values
        (n,) label value of each
    affine
        (4, 4), maps (i, j, k, 1) of that array, counted from its first voxel, to LPS mm
    segments
        vtkSegment of each label value
    """

    shape: tuple[int, int, int]
    flat: NDArray[np.int64]
    values: NDArray
    affine: NDArray[np.float64]
    segments: MappingProxyType[int, Any]


def _layers(segmentation: Any) -> Iterator[Layer]:
    shared: dict[str, tuple[Any, dict[int, Any]]] = {}
    for index in range(segmentation.GetNumberOfSegments()):
        segment = segmentation.GetNthSegment(index)
        image = segment.GetRepresentation(BINARY)
        if image is None:
            raise InputRefused(
                "input",
                f"segment {segment.GetName()!r}: expected a binary labelmap, found another representation; in the "
                "Segmentations module make Binary labelmap the source representation",
            )
        shared.setdefault(image.GetAddressAsString(""), (image, {}))[1][int(segment.GetLabelValue())] = segment
    for image, segments in shared.values():
        values = array_of(image)
        flat = np.flatnonzero(values != 0)
        affine = lps_affine(image)
        affine[:3, 3] += affine[:3, :3] @ image.GetExtent()[::2]  # an image may begin at any index
        k, j, i = values.shape
        yield Layer((k, j, i), flat, values.reshape(-1)[flat], affine, MappingProxyType(segments))


def fill(segmentation: Any, labels: Labeled, ct: CTVolume, volume: Any, mapping: IndexMap, algorithm_type: str) -> None:
    """Make a vtkSegmentation hold these labels: one segment an artery, all in one label map around the labels.

    Segments that are there keep their place, visibility and selection; ones that stand for no artery of their own are
    taken out, because their voxels are in the artery's segment now.

    Parameters
    ----------
    segmentation
        vtkSegmentation
    labels
        On the grid of `ct`.
    ct
        The CT that was scored.
    volume
        Node whose grid the label map gets, so that the Segment Editor need not resample.
    mapping
        From that grid to the CT.
    algorithm_type
        AUTOMATIC or SEMIAUTOMATIC, for Slicer's DICOM SEG export
    """
    image = label_image(labels, ct, volume, mapping)
    for segment_id in segmentation.GetSegmentIDs():
        if segment_id not in Artery.__members__:
            segmentation.RemoveSegment(segment_id)
    images = {
        segmentation.GetNthSegment(n).GetRepresentation(BINARY) for n in range(segmentation.GetNumberOfSegments())
    }
    if segmentation.GetNumberOfSegments() == len(Artery) and len(images) == 1 and None not in images:
        # Written in place, as the Segment Editor does: whoever observes the label map stays with it.
        _label(segmentation, algorithm_type)
        images.pop().DeepCopy(image)
        return
    for artery in Artery:
        segment = segmentation.GetSegment(artery.name)
        if segment is not None:
            segment.RemoveRepresentation(BINARY)
            segment.AddRepresentation(BINARY, image)
        else:
            segment = slicer.vtkSegment()
            segment.AddRepresentation(BINARY, image)
            _describe(segment, artery, algorithm_type)
            segmentation.AddSegment(segment, artery.name)
    _label(segmentation, algorithm_type)


def drop_voxels(segmentation: Any) -> None:
    """Empty the label maps of a vtkSegmentation that goes.

    It takes its segments out one by one then, and would write over all of a shared label map for each of them.
    """
    for n in range(segmentation.GetNumberOfSegments()):
        image = segmentation.GetNthSegment(n).GetRepresentation(BINARY)
        if image is not None:
            image.Initialize()


def is_filled(segmentation: Any, labels: Labeled, ct: CTVolume) -> bool:
    """Whether a segmentation node holds these labels already, in the arteries' own segments."""
    if list(segmentation.GetSegmentation().GetSegmentIDs()) != [artery.name for artery in Artery]:
        return False
    try:
        held = labeled_voxels(segmentation, ct)
    except InputRefused:
        return False
    return np.array_equal(held.flat, labels.flat) and np.array_equal(held.codes, labels.codes)


def _label(segmentation: Any, algorithm_type: str) -> None:
    for artery in Artery:
        _describe(segmentation.GetSegment(artery.name), artery, algorithm_type)


def _describe(segment: Any, artery: Artery, algorithm_type: str) -> None:
    """Name, color, codes and label value; what is right already is left alone, because every change redraws."""
    color = ARTERY_COLORS[artery]
    rgb = tuple(int(color[at : at + 2], 16) / 255 for at in (1, 3, 5))
    if segment.GetName() != artery.name:
        segment.SetName(artery.name)
        segment.SetNameAutoGenerated(False)
    if segment.GetColor() != rgb:
        segment.SetColor(*rgb)
        segment.SetColorAutoGenerated(False)
    if segment.GetLabelValue() != artery:
        segment.SetLabelValue(int(artery))
    if segment.GetTerminology() != terminology_entry(artery):
        segment.SetTerminology(terminology_entry(artery))
    tags = {
        ARTERY_TAG: artery.name,
        "DICOM.SegmentAlgorithmType": algorithm_type,  # this and the next for Slicer's DICOM SEG export
        "DICOM.SegmentAlgorithmName": ALGORITHM_NAME,
    }
    for key, text in tags.items():
        if tag_of(segment, key) != text:
            segment.SetTag(key, text)


def tag_of(segment: Any, key: str) -> str | None:
    """A vtkSegment's tag, or None."""
    text = vtk.mutable("")
    return str(text) if segment.GetTag(key, text) else None


def label_image(labels: Labeled, ct: CTVolume, volume: Any, mapping: IndexMap) -> Any:
    """Labels on the volume's grid as a vtkOrientedImageData, as large as the labels need.

    Parameters
    ----------
    labels
        On the grid of `ct`.
    ct
        The CT that was scored.
    volume
        Node whose grid it gets.
    mapping
        From that grid to the CT.
    """
    image = slicer.vtkOrientedImageData()
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    image.SetGeometryFromImageToWorldMatrix(matrix)
    ijk = (ijk_of(labels.flat, ct.shape) - mapping.shift) @ mapping.turn  # a turn's inverse is its transpose
    low, high = (ijk.min(axis=0), ijk.max(axis=0)) if labels.flat.size else (np.zeros(3, int), np.full(3, -1))
    image.SetExtent(np.stack([low, high], axis=1).reshape(-1).tolist())
    image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
    if labels.flat.size:
        values = array_of(image)
        values[:] = 0
        values[tuple((ijk - low).T[::-1])] = labels.codes
    return image
