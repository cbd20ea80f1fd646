"""From a training run to a bundle that HeartLens can load: the same weights as safetensors and ONNX, and a manifest.

python -m training.export RUN --out BUNDLE --name NAME --shards DIR --splits FILE [--text trained_on="..."]

The bundle is written only when both files give the same logits and, on scans of the validation split, the same scores.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from heartlens.anatomy import heart_region
from heartlens.ct import CTVolume
from heartlens.inference import segment_vessels
from heartlens.models.bundle import MANIFEST, SCHEMA, TEXTS, VESSEL, Bundle, OnnxNetwork, load_bundle
from heartlens.protocol import ScoringProtocol
from heartlens.refusal import Refused
from heartlens.scoring.report import score_lesions
from heartlens.whole_file import whole_folder
from training.command import DONE, run_command
from training.config import from_dict
from training.data import Splits, scans_of
from training.networks import build_network
from training.shards import ShardSet
from training.train_unet import BEST, WEIGHTS_SCHEMA, SegmentationRecipe

LOGIT_TOLERANCE = 1e-3
"""Largest difference of a logit between torch and ONNX Runtime that rounding explains."""

DEFAULT_TEXTS = {
    "version": "0",
    "licence": "unspecified",
    "trained_on": "not said",
    "intended_use": "Research. Not for diagnosis; every lesion is to be checked by a reader.",
    "field_of_view": "not said",
}


@dataclass(frozen=True)
class Trained:
    """A network as a run left it."""

    network: nn.Module
    recipe: SegmentationRecipe
    step: int
    judgement: dict[str, float]


def read_trained(run: Path) -> Trained:
    """The best weights of a run.

    Raises
    ------
    Refused : "input" or "unreadable": there are none
    """
    path = Path(run) / BEST
    try:
        told = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise Refused("input", f"{run}: expected {BEST}, found none; the run must have been validated once") from None
    except Exception as error:  # torch raises a dozen kinds for a damaged file
        raise Refused("unreadable", f"{path}: {str(error).splitlines()[0][:120]}; train on, or anew") from None
    if not isinstance(told, dict) or told.get("schema") != WEIGHTS_SCHEMA:
        raise Refused("unreadable", f"{path}: expected weights with schema {WEIGHTS_SCHEMA}")
    recipe = from_dict(SegmentationRecipe, told["recipe"], str(path))
    network = build_network(recipe.network, recipe.view.channels, recipe.samples.outputs)
    network.load_state_dict(told["network"])
    return Trained(network.eval(), recipe, int(told["step"]), dict(told["judgement"]))


def export_bundle(trained: Trained, out: Path, texts: dict[str, str], scans: Sequence[CTVolume]) -> Bundle:
    """Write a bundle, whole or not at all, and prove that both files are one network.

    Parameters
    ----------
    texts : see `heartlens.models.bundle.TEXTS`
    scans : to compare scores on; at least one

    Raises
    ------
    Refused : "output" the folder; "input" a network that names no arteries, no scan to compare on, or files that differ
    """
    recipe = trained.recipe
    if recipe.samples.outputs == 1:
        raise Refused("input", "this network says calcium or not and names no artery; a bundle needs one that does")
    if not scans:
        raise Refused("input", "no scan to compare scores on; give --shards and --splits")
    unknown = sorted(set(texts) - set(TEXTS))
    if unknown:
        raise Refused("input", f"unknown text {unknown[0]}; a manifest has {', '.join(TEXTS)}")
    with whole_folder(out) as folder:
        save_file({k: v.contiguous() for k, v in trained.network.state_dict().items()}, folder / "vessel.safetensors")
        write_onnx(trained, folder / "vessel.onnx")
        manifest = _manifest(trained, {**DEFAULT_TEXTS, **texts}, folder)
        (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
        bundle = load_bundle(folder)
        manifest["parity"] = require_parity(trained, bundle, scans)
        (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    return load_bundle(out)


def write_onnx(trained: Trained, path: Path) -> None:
    """Any number of slices of the recipe's size; operators of opset 20, weights inside the file."""
    view = trained.recipe.view
    example = torch.zeros(2, view.channels, view.size_px, view.size_px)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's exporter warns of its own parts, which no user can change
        program = torch.onnx.export(
            trained.network,
            (example,),
            input_names=["image"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("slices", min=1, max=4096)},),
            opset_version=20,
            external_data=False,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    program.save(str(path), external_data=False)


def require_parity(trained: Trained, bundle: Bundle, scans: Sequence[CTVolume]) -> dict[str, float]:
    """Refuse files that are not one network: by logits on noise, and by the scores of whole scans.

    Returns
    -------
    {"logits": largest difference, "scans": how many, "agatston": largest difference, always 0}
    """
    onnx = OnnxNetwork(bundle, threads=1)
    view = bundle.view
    noise = np.random.default_rng(0).random((3, view.channels, view.size_px, view.size_px), np.float32)
    worst = float(np.abs(_by_torch(trained.network, noise) - onnx(noise)).max())
    if not worst <= LOGIT_TOLERANCE:
        raise Refused("input", f"torch and ONNX differ by {worst:g} in a logit, expected at most {LOGIT_TOLERANCE:g}")
    protocol = ScoringProtocol()
    for n, ct in enumerate(scans):
        region = heart_region(ct)
        documents = []
        for network in (lambda image: _by_torch(trained.network, image), onnx):
            lesions = segment_vessels(
                ct, region, network, view, bundle.classes, protocol, coronary_cut_off=bundle.cut_offs["coronary"]
            )
            documents.append((score_lesions(ct, lesions, protocol), lesions.artery_map()))
        (one, one_map), (other, other_map) = documents
        if one.total != other.total or one.arteries != other.arteries or not np.array_equal(one_map, other_map):
            raise Refused(
                "input",
                f"scan {n + 1} of {len(scans)}: torch and ONNX give different scores, "
                f"{one.total.agatston:g} and {other.total.agatston:g}; the export is not faithful",
            )
    return {"logits": worst, "scans": len(scans), "agatston": 0.0}


def _by_torch(network: nn.Module, image: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return np.asarray(network(torch.from_numpy(image)))


def _manifest(trained: Trained, texts: dict[str, str], folder: Path) -> dict[str, Any]:
    recipe = trained.recipe
    network = recipe.network
    architecture: dict[str, Any] = {"name": network.name, "in_channels": recipe.view.channels}
    architecture |= {"classes": recipe.samples.outputs, "base": network.base, "depth": network.depth}
    architecture["groups"] = network.groups
    files = []
    for name, form in (("vessel.safetensors", "safetensors"), ("vessel.onnx", "onnx")):
        content = (folder / name).read_bytes()
        files.append(
            {
                "path": name,
                "role": VESSEL,
                "format": form,
                "architecture": architecture,
                "sha256": hashlib.sha256(content).hexdigest(),
                "bytes": len(content),
            }
        )
    return {
        "schema": SCHEMA,
        **texts,
        "input": asdict(recipe.view),
        "classes": ["none", *recipe.samples.classes],
        "cut_offs": {"coronary": 0.5},
        "metrics": {
            "data": "validation split of the training data, per pixel",
            "step": trained.step,
            **trained.judgement,
        },
        "files": files,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m training.export", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("trained", type=Path, metavar="RUN", help="folder of a run of training.train_unet")
    parser.add_argument("--out", type=Path, required=True, help="folder to make")
    parser.add_argument("--name", required=True)
    parser.add_argument("--shards", type=Path, nargs="+", required=True, action="extend")
    parser.add_argument("--splits", type=Path, required=True, metavar="FILE.json")
    parser.add_argument("--text", action="append", default=[], metavar="KEY=TEXT", help=f"of {', '.join(TEXTS[1:])}")
    parser.add_argument("--compare", type=int, default=2, help="validation scans whose scores are compared (default 2)")
    parser.set_defaults(run=_run)
    return run_command(parser, arguments)


def _run(options: argparse.Namespace) -> int:
    trained = read_trained(options.trained)
    shards = ShardSet.open(*options.shards)
    scans = scans_of(shards, Splits.load(options.splits).validation)[: options.compare]
    texts = {"name": options.name}
    for text in options.text:
        key, equals, value = text.partition("=")
        if not equals:
            raise Refused("input", f"--text: expected KEY=TEXT, found {text!r}")
        texts[key] = value
    bundle = export_bundle(trained, options.out, texts, [shards.ct(n) for n in scans])
    print(f"Bundle: {bundle.folder}")
    return DONE


if __name__ == "__main__":
    sys.exit(main())
