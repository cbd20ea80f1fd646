"""Where nodes stand in Slicer's subject hierarchy, the tree of the Data module: all of a case in one study."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import slicer


def put_in_study(scene: Any, volume: Any, nodes: Iterable[Any], study_uid: str | None) -> None:
    """Put nodes under the study of a volume; a volume without one gets one.

    Parameters
    ----------
    scene
        vtkMRMLScene
    volume
        vtkMRMLScalarVolumeNode
    nodes
        What to put there; the volume may be among them.
    study_uid
        Of the volume's study, where it is known.
    """
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    top = hierarchy.GetSceneItemID()
    item = _item_of(hierarchy, volume)
    if hierarchy.GetItemParent(item) in (top, hierarchy.GetInvalidItemID()):
        uid_name = slicer.vtkMRMLSubjectHierarchyConstants.GetDICOMUIDName()
        study = hierarchy.GetItemByUID(uid_name, study_uid) if study_uid else hierarchy.GetInvalidItemID()
        if study == hierarchy.GetInvalidItemID():
            study = hierarchy.CreateStudyItem(top, f"{volume.GetName()} study")
            if study_uid:
                hierarchy.SetItemUID(study, uid_name, study_uid)
        hierarchy.SetItemParent(item, study)
    for node in nodes:
        if node is not volume:
            put_beside(scene, volume, node)


def put_beside(scene: Any, volume: Any, node: Any) -> None:
    """Put a node under what the volume is under."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    hierarchy.SetItemParent(_item_of(hierarchy, node), hierarchy.GetItemParent(_item_of(hierarchy, volume)))


def _item_of(hierarchy: Any, node: Any) -> int:
    """The node's item; the desktop makes one for every node, a scene without an application does not."""
    item = hierarchy.GetItemByDataNode(node)
    if item == hierarchy.GetInvalidItemID():
        item = hierarchy.CreateItem(hierarchy.GetSceneItemID(), node)
    return int(item)
