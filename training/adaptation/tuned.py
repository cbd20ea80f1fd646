"""A bundle goes on from its own weights: trained, exported and calibrated again on the patients of a site."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from heartlens.core.errors import InputRefused
from heartlens.networks.bundle import SLICES, VESSEL, Bundle, Domain, load_bundle
from training.adaptation.site import Site
from training.datasets.shards import ShardSet
from training.datasets.splits import Splits, scans_of
from training.deploy.bundle_weights import slices_start, vessel_start
from training.deploy.bundle_writer import BundleMetadata, export_bundle, read_trained, read_trained_slices
from training.deploy.calibration import calibrate, read_scans, write_manifest
from training.deploy.credits import credits_of_scans, credits_of_start, merged_credits
from training.deploy.fusion import fit_fusion, read_opinions
from training.deploy.lineage import limits_of, lineage_of
from training.engine.distributed import process_group
from training.engine.run_log import make_run_folder
from training.metrics.cutoff import ENOUGH
from training.segmentation.recipe import SegmentationRecipe
from training.segmentation.training import read_data, train_segmentation

RUN, CANDIDATE = "run", "candidate"


def recipe_of(bundle: Bundle, recipe: SegmentationRecipe) -> SegmentationRecipe:
    """A recipe with the network, view and classes of a bundle, which may be trained on.

    Parameters
    ----------
    bundle
        Whose weights are gone on from.
    recipe
        How.

    Raises
    ------
    InputRefused
        ``input``: the bundle has no torch weights of a U-Net
    """
    shape = bundle.file(VESSEL, "safetensors").architecture
    try:
        network = replace(
            recipe.network, name=shape["name"], base=shape["base"], depth=shape["depth"], groups=shape["groups"]
        )
        samples = replace(recipe.samples, classes=bundle.vessel.classes[1:])
        return replace(recipe, network=network, view=bundle.vessel.view, samples=samples)
    except (KeyError, ValueError) as error:
        raise InputRefused("input", f"{bundle.folder}: its vessel network cannot be trained on: {error}") from None


def tune_bundle(
    bundle: Bundle,
    recipe: SegmentationRecipe,
    data: tuple[ShardSet, Splits],
    work: Path,
    *,
    device: str = "auto",
    deadline: float | None = None,
) -> bool:
    """Train the vessel network on, resuming what was begun.

    Parameters
    ----------
    bundle
        Whose weights are gone on from.
    recipe
        Of `recipe_of`.
    data
        Scans, and whom to learn from.
    work
        Keeps the run.
    device, deadline
        See `training.engine.cli.training_parser`.

    Returns
    -------
    bool
        Whether it is complete.

    Raises
    ------
    InputRefused
        ``input``: the run was begun with the weights of another bundle
    """
    run = work / RUN
    make_run_folder(run)
    with process_group(device) as ranks:
        slices = read_data(recipe, *data, run, ranks)
        start = vessel_start(bundle.folder, recipe, run, ranks)
        return train_segmentation(recipe, slices, run, start=start, ranks=ranks, deadline=deadline)


def export_candidate(
    bundle: Bundle, site: Site, data: tuple[ShardSet, Splits], work: Path, name: str
) -> tuple[Bundle, tuple[str, ...]]:
    """Write what was trained as a bundle, its cut-off and probabilities fitted to the site's validation patients.

    The slice stage is taken over as it is. Where validation has too few islands to fit something to, that is the old
    bundle's, and said.

    Parameters
    ----------
    bundle
        That it began with.
    site
        Whose validation patients decide.
    data
        What was learned from.
    work
        Keeps the run, and the bundle until it is judged.
    name
        Of the new bundle.

    Returns
    -------
    candidate : Bundle
        Not judged yet.
    notes : tuple[str, ...]
        What could not be fitted, a sentence each.
    """
    folder = work / CANDIDATE
    shutil.rmtree(folder, ignore_errors=True)  # what was cut short is made anew
    shards, splits = data
    validation = scans_of(site.shards, site.splits.validation)
    used = scans_of(shards, (*splits.train, *splits.validation))
    vessel = bundle.vessel
    slices = None if bundle.slices is None else read_trained_slices(slices_start(bundle.folder, work / "slices"))
    metadata = BundleMetadata(
        _texts(bundle, site, name),
        _domain(bundle, limits_of(shards, scans_of(shards, splits.train))),
        vessel.cut_off,
        vessel.calibration,
        lineage={**lineage_of(shards, splits), "from": {"title": bundle.title, "files": bundle.checksums()}},
        half=is_half(bundle),
        attribution=merged_credits(credits_of_start(bundle.folder), credits_of_scans(shards.scans[n] for n in used)),
    )
    candidate = export_bundle(
        read_trained(work / RUN), folder, metadata, [site.shards.ct(n) for n in validation[:1]], slices
    )
    changes, notes = _fitted(candidate, bundle, site.shards, validation)
    write_manifest(candidate, changes)
    return load_bundle(folder), notes


def _fitted(
    candidate: Bundle, start: Bundle, shards: ShardSet, validation: tuple[int, ...]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    notes = []
    changes: dict[str, Any] = {"vessel": {}}
    try:
        fitted = calibrate(candidate, validation, shards, cut_off="balanced")
        islands, coronary = fitted["islands"], fitted["coronary"]
        if min(coronary, islands - coronary) < ENOUGH:
            why = f"expected {ENOUGH} islands of each kind, found {coronary} coronary and {islands - coronary} other"
            raise InputRefused("input", why)
        changes = fitted
    except InputRefused as refusal:
        notes.append(f"cut-off and calibration are those of {start.title}: {refusal.text}")
    if start.vessel.fusion is not None:
        fusion = start.vessel.fusion
        try:
            fusion = fit_fusion(read_opinions(candidate, [read_scans(validation, shards)]))
        except InputRefused as refusal:
            notes.append(f"the weights of network and rules are those of {start.title}: {refusal.text}")
        changes["vessel"]["fusion"] = asdict(fusion)
    return changes, tuple(notes)


def _texts(bundle: Bundle, site: Site, name: str) -> Mapping[str, str]:
    learned = site.learned_from()
    cases, readers = learned["cases"]["taught"], len(learned["readers"])
    said = f"{cases} cases that {'a reader' if readers == 1 else f'{readers} readers'} signed"
    return {
        **bundle.texts,
        "name": name,
        "version": "1",
        "trained_on": f"{bundle.title} ({bundle.texts['trained_on']}), then {said}",
    }


def _domain(bundle: Bundle, limits: Mapping[str, tuple[float, float]]) -> Domain:
    """Of the bundle, widened to the scans that it has learned from since; what did not matter still does not."""
    wider = {}
    for one in fields(Domain):
        old, new = getattr(bundle.domain, one.name), limits.get(one.name)
        wider[one.name] = old if old is None or new is None else (min(old[0], new[0]), max(old[1], new[1]))
    return Domain(**wider)


def is_half(bundle: Bundle) -> bool:
    """Whether a network of the bundle is stored in 16 bits."""
    roles = (VESSEL,) if bundle.slices is None else (VESSEL, SLICES)
    files = [bundle.folder / bundle.file(role, "safetensors").path for role in roles]
    return any(tensor.dtype == torch.float16 for file in files for tensor in load_file(file).values())
