"""Writes a bundle: safetensors and ONNX of the same weights, and a manifest, when both say the same."""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import nn

from heartlens.core.atomic import atomic_folder
from heartlens.core.ct import CTVolume
from heartlens.core.errors import InputRefused
from heartlens.networks.bundle import (
    MANIFEST,
    SCHEMA,
    SLICES,
    TEXTS,
    VESSEL,
    Bundle,
    Calibration,
    Domain,
    SliceStage,
    VesselStage,
    load_bundle,
)
from heartlens.networks.slice_classifier import SliceClassifier
from training.deploy.credits import CREDITS
from training.deploy.onnx_file import half_state, rounded_to_half, store_as_half, write_onnx
from training.deploy.parity import largest_change, recorded_canary, require_parity
from training.engine.config import as_dict, from_dict
from training.metrics.cutoff import DEFAULT
from training.segmentation.networks import build_network
from training.segmentation.recipe import BEST, WEIGHTS_SCHEMA, SegmentationRecipe
from training.slice_classifier.weights import WEIGHTS as SLICE_WEIGHTS
from training.slice_classifier.weights import load_classifier

DEFAULT_TEXTS = {
    "version": "0",
    "licence": "unspecified",
    "trained_on": "not said",
    "intended_use": "Research. Not for diagnosis; every lesion is to be checked by a reader.",
    "field_of_view": "not said",
}


FILE_NAMES = {VESSEL: "vessel", SLICES: "slices"}


@dataclass(frozen=True)
class Trained:
    """A network as a run left it.

    Parameters
    ----------
    islands
        Cut-off and calibration as the run froze them, see `training.segmentation.islands.evaluate_votes`; empty before.
    """

    network: nn.Module
    recipe: SegmentationRecipe
    step: int
    validation_metrics: dict[str, float]
    islands: Mapping[str, float] = field(default_factory=dict)


def read_trained(run: Path) -> Trained:
    """The best weights of a run.

    Raises
    ------
    InputRefused
        "input" or "unreadable": there are none
    """
    if not (Path(run) / BEST).is_file():
        raise InputRefused("input", f"{run}: expected {BEST}, found none; the run must have been validated once")
    return trained_from(Path(run) / BEST)


def trained_from(path: Path) -> Trained:
    """A network by the file of its weights.

    Raises
    ------
    InputRefused
        "unreadable": it is none
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a dozen kinds for a damaged file
        raise InputRefused(
            "unreadable", f"{path}: {str(error).splitlines()[0][:120]}; continue training or retrain"
        ) from None
    if not isinstance(checkpoint, dict) or checkpoint.get("schema") != WEIGHTS_SCHEMA:
        raise InputRefused("unreadable", f"{path}: expected weights with schema {WEIGHTS_SCHEMA}")
    recipe = from_dict(SegmentationRecipe, checkpoint["recipe"], str(path))
    network = build_network(recipe.network, recipe.view.channels, recipe.samples.outputs)
    network.load_state_dict(checkpoint["network"])
    return Trained(
        network.eval(), recipe, int(checkpoint["step"]), dict(checkpoint["judgement"]), checkpoint.get("islands", {})
    )


@dataclass(frozen=True)
class TrainedSlices:
    """A slice classifier as a run left it, and how it is used."""

    network: SliceClassifier
    stage: SliceStage


def read_trained_slices(run: Path) -> TrainedSlices:
    """The classifier of a run of training.train_slices.

    Raises
    ------
    InputRefused
        "unreadable": there is none
    """
    network, view, cut_off = load_classifier(Path(run) / SLICE_WEIGHTS)
    return TrainedSlices(network, SliceStage(view, cut_off))


@dataclass(frozen=True)
class BundleMetadata:
    """What a bundle says that is not in the runs.

    Parameters
    ----------
    texts
        See `heartlens.networks.bundle.TEXTS`.
    domain
        Scans that the training data looked like.
    cut_off, calibration
        Of the vessel stage, in the place of those that the run froze.
    metrics
        Figures of an evaluation, beside those of the runs.
    lineage
        What it was made of, see `training.deploy.lineage`.
    half
        Store large weights as 16-bit numbers, so that the bundle is half as large.
    attribution
        Whom the licences of what it learned from ask to name, see `training.deploy.credits`.
    """

    texts: Mapping[str, str]
    domain: Domain = field(default_factory=Domain)
    cut_off: float | None = None
    calibration: Calibration | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    lineage: Mapping[str, Any] = field(default_factory=dict)
    half: bool = False
    attribution: Sequence[Mapping[str, Any]] = ()


def export_bundle(
    trained: Trained,
    out: Path,
    metadata: BundleMetadata,
    scans: Sequence[CTVolume],
    slices: TrainedSlices | None = None,
) -> Bundle:
    """Write a bundle, whole or not at all, and prove that both files of each network are one network.

    Parameters
    ----------
    scans
        To compare scores on; at least one.
    slices
        The slice stage; None makes a bundle without one.

    Raises
    ------
    InputRefused
        "output" the folder; "input" a network that names no arteries, no scan to compare on, or files that differ
    """
    recipe = trained.recipe
    if recipe.samples.outputs == 1:
        raise InputRefused(
            "input", "this network says calcium or not and names no artery; a bundle needs one that does"
        )
    if not scans:
        raise InputRefused("input", "no scan to compare scores on; give --shards and --splits")
    unknown = sorted(set(metadata.texts) - set(TEXTS))
    if unknown:
        raise InputRefused("input", f"unknown text {unknown[0]}; a manifest has {', '.join(TEXTS)}")
    vessel = _vessel_stage(trained, metadata)
    networks: dict[str, nn.Module] = {VESSEL: copy.deepcopy(trained.network).eval()}
    architectures = {VESSEL: _vessel_architecture(recipe)}
    if slices is not None:
        networks[SLICES] = network = _at_size(slices)
        architectures[SLICES] = {"name": "vit", **network.backbone.shape.to_json()}
    plain = {role: copy.deepcopy(network) for role, network in networks.items()}
    if metadata.half:
        for network in networks.values():
            rounded_to_half(network)
    with atomic_folder(out) as folder:
        files = []
        for role, network in networks.items():
            name = FILE_NAMES[role]
            state = half_state(network) if metadata.half else network.state_dict()
            content = save({k: v.contiguous() for k, v in state.items()})
            (folder / f"{name}.safetensors").write_bytes(content)  # save_file would keep it from other users
            write_onnx(network, _example(role, vessel, slices), folder / f"{name}.onnx")
            if metadata.half:
                store_as_half(folder / f"{name}.onnx")
            files += [
                _file_entry(folder / f"{name}.{form}", role, form, architectures[role])
                for form in ("safetensors", "onnx")
            ]
        manifest = _manifest(metadata, vessel, None if slices is None else slices.stage, trained, files)
        _write_manifest(folder, manifest)
        bundle = load_bundle(folder)
        manifest["parity"] = require_parity(networks, bundle, scans)
        manifest["canary"] = recorded_canary(networks, bundle)
        if metadata.half:
            manifest["parity"]["rounding"] = largest_change(plain, networks, bundle, scans)
        _write_manifest(folder, manifest)
    return load_bundle(out)


def ship_bundle(candidate: Path, out: Path, said: Mapping[str, Any]) -> Bundle:
    """Write a finished bundle under its name, whole or not at all.

    Parameters
    ----------
    candidate
        Its folder until now.
    out
        Folder to make.
    said
        More for the manifest, by key.
    """
    with atomic_folder(out) as folder:
        for path in candidate.iterdir():
            shutil.copyfile(path, folder / path.name)
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        _write_manifest(folder, {**manifest, **said})
        load_bundle(folder)
    return load_bundle(out)


def _vessel_stage(trained: Trained, metadata: BundleMetadata) -> VesselStage:
    frozen = trained.islands
    cut_off = frozen.get("cut_off", DEFAULT) if metadata.cut_off is None else metadata.cut_off
    calibration = metadata.calibration or Calibration(frozen.get("slope", 1.0), frozen.get("intercept", 0.0))
    return VesselStage(trained.recipe.view, ("none", *trained.recipe.samples.classes), cut_off, calibration)


def _at_size(slices: TrainedSlices) -> SliceClassifier:
    """A copy whose position embedding is that of its view: the graph then has nothing to interpolate."""
    network = copy.deepcopy(slices.network).eval()
    network.backbone.fix_size(slices.stage.view.size_px)
    return network


def _example(role: str, vessel: VesselStage, slices: TrainedSlices | None) -> torch.Tensor:
    if role == VESSEL or slices is None:
        return torch.zeros(2, vessel.view.channels, vessel.view.size_px, vessel.view.size_px)
    return torch.zeros(2, 1, slices.stage.view.size_px, slices.stage.view.size_px)


def _vessel_architecture(recipe: SegmentationRecipe) -> dict[str, Any]:
    network = recipe.network
    return {
        "name": network.name,
        "in_channels": recipe.view.channels,
        "classes": recipe.samples.outputs,
        "base": network.base,
        "depth": network.depth,
        "groups": network.groups,
    }


def _file_entry(path: Path, role: str, form: str, architecture: dict[str, Any]) -> dict[str, Any]:
    content = path.read_bytes()
    return {
        "path": path.name,
        "role": role,
        "format": form,
        "architecture": architecture,
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
    }


def _manifest(
    metadata: BundleMetadata,
    vessel: VesselStage,
    slices: SliceStage | None,
    trained: Trained,
    files: list[dict[str, Any]],
) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        **DEFAULT_TEXTS,
        **metadata.texts,
        "vessel": {
            "input": vessel.view.to_json(),
            "classes": list(vessel.classes),
            "cut_off": vessel.cut_off,
            "calibration": asdict(vessel.calibration),
        },
        "slices": None if slices is None else {"input": slices.view.to_json(), "cut_off": slices.cut_off},
        "domain": asdict(metadata.domain),
        "metrics": {
            "vessel": {
                "data": "validation split of the training data, per pixel",
                "step": trained.step,
                **trained.validation_metrics,
                "islands": dict(trained.islands),
            },
            **metadata.metrics,
        },
        "lineage": {**metadata.lineage, "vessel": {"recipe": as_dict(trained.recipe), "step": trained.step}},
        "files": files,
        **({CREDITS: list(metadata.attribution)} if metadata.attribution else {}),
    }


def _write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
