"""The weights of a bundle as the start of a training: what ships can be trained on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from heartlens.core.errors import InputRefused
from heartlens.networks.bundle import SLICES, VESSEL, Bundle, load_bundle
from training.deploy.credits import keep_credits
from training.engine.checkpoint import write_torch
from training.engine.config import as_dict
from training.engine.distributed import Ranks, barrier
from training.segmentation.recipe import WEIGHTS_SCHEMA, SegmentationRecipe
from training.slice_classifier.weights import SCHEMA as SLICES_SCHEMA
from training.slice_classifier.weights import WEIGHTS as SLICE_WEIGHTS

START = "start.pt"
"""In the folder of a run: the weights of the bundle that it began with."""


def vessel_start(folder: Path, recipe: SegmentationRecipe, run: Path, ranks: Ranks) -> Path:
    """Lay the vessel network of a bundle into the folder of a run, as a run of `training.train_unet` leaves one.

    Parameters
    ----------
    folder
        Of the bundle.
    recipe
        Of the run that begins.
    run
        Its folder.

    Returns
    -------
    Path
        Of the weights, which `training.segmentation.training.read_start` takes, or refuses when the recipe has another
        network, view or classes.

    Raises
    ------
    InputRefused
        No bundle, or one without torch weights for a U-Net, or the run was begun with another one.
    """
    if ranks.is_first:
        bundle = load_bundle(folder)
        _require_same_start(bundle, run / START)
        file = bundle.file(VESSEL, "safetensors")
        shape = file.architecture
        try:
            network = replace(
                recipe.network, name=shape["name"], base=shape["base"], depth=shape["depth"], groups=shape["groups"]
            )
        except KeyError as lost:
            raise InputRefused(
                "input", f"{folder}: its vessel network says nothing of {lost}; export it again"
            ) from None
        of_bundle = replace(
            recipe,
            view=bundle.vessel.view,
            network=network,
            samples=replace(recipe.samples, classes=bundle.vessel.classes[1:]),
        )
        content = {
            "schema": WEIGHTS_SCHEMA,
            "step": 0,
            "network": state_of(bundle, VESSEL),
            "recipe": as_dict(of_bundle),
            "judgement": {},
            "bundle": {"title": bundle.title, "files": bundle.checksums()},
        }
        write_torch(content, run / START)
    barrier()
    return run / START


def _require_same_start(bundle: Bundle, start: Path) -> None:
    """Refuse to go on in a run that is begun from another bundle: its weights would be called those of this one."""
    if start.exists():
        begun = torch.load(start, map_location="cpu", weights_only=True)["bundle"]
        if begun["files"] != bundle.checksums():
            raise InputRefused(
                "input",
                f"{start.parent} was begun with the weights of {begun['title']}, and these are of {bundle.title}; give "
                "the bundle that it began with, or another folder",
            )


def slices_start(folder: Path, run: Path) -> Path:
    """Lay the slice classifier of a bundle into a folder, as a run of `training.train_slices` leaves one.

    Parameters
    ----------
    folder
        Of the bundle.
    run
        Folder to write into, which is made.

    Returns
    -------
    Path
        `run`, for ``--from`` of `training.finetune_slices` and ``--slices`` of `training.export`.

    Raises
    ------
    InputRefused
        No bundle, or one without a slice stage.
    """
    bundle = load_bundle(folder)
    if bundle.slices is None:
        raise InputRefused("input", f"{folder} has no slice stage; train one with training.train_slices")
    shape = {k: v for k, v in bundle.file(SLICES, "safetensors").architecture.items() if k != "name"}
    content: dict[str, Any] = {
        "schema": SLICES_SCHEMA,
        "cut_off": bundle.slices.cut_off,
        "view": bundle.slices.view.to_json(),
        "backbone": shape,
        "step": 0,
        "state": state_of(bundle, SLICES),
    }
    run.mkdir(parents=True, exist_ok=True)
    write_torch(content, run / SLICE_WEIGHTS)
    keep_credits(run, folder)
    return run


def state_of(bundle: Bundle, role: str) -> dict[str, torch.Tensor]:
    """The weights of one network of a bundle, as 32-bit numbers.

    Parameters
    ----------
    bundle
        With torch weights.
    role
        Of the network.
    """
    path = bundle.folder / bundle.file(role, "safetensors").path
    return {name: tensor.float() for name, tensor in load_file(path).items()}
