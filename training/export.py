"""From training runs to a bundle that HeartLens can load: the same weights as safetensors and ONNX, and a manifest.

python -m training.export UNET_RUN [--slices SLICES_RUN] --out BUNDLE --name NAME --shards DIR --splits FILE
    [--text trained_on="..."] [--domain kvp=80,140] [--cut-off P] [--slope A --intercept B]

The bundle is written only when both files of each network say the same: logits and slice probabilities within rounding,
every slice on the same side of the cut-off, and, on whole scans of the validation split, the same scores.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import nn

from heartlens.anatomy import heart_region
from heartlens.ct import CTVolume
from heartlens.inference import Network, classify_slices, segment_vessels, slices_to_ask
from heartlens.models.bundle import (
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
from heartlens.models.networks import OnnxNetwork
from heartlens.models.slice_classifier import SliceClassifier
from heartlens.protocol import ScoringProtocol
from heartlens.refusal import Refused
from heartlens.scoring.report import ScoreReport, score_lesions
from heartlens.whole_file import whole_folder
from training.command import DONE, run_command
from training.config import from_dict
from training.data import Splits, scans_of
from training.networks import build_network
from training.shards import ShardSet
from training.train_slices import WEIGHTS as SLICE_WEIGHTS
from training.train_slices import load_classifier
from training.train_unet import BEST, WEIGHTS_SCHEMA, SegmentationRecipe

LOGIT_TOLERANCE = 1e-3
"""Largest difference of a logit between torch and ONNX Runtime that rounding explains."""

PROBABILITY_TOLERANCE = 1e-3
"""The same for the probability of a slice."""

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


@dataclass(frozen=True)
class TrainedSlices:
    """A slice classifier as a run left it, and how it is used."""

    network: SliceClassifier
    stage: SliceStage


def read_trained_slices(run: Path) -> TrainedSlices:
    """The classifier of a run of training.train_slices.

    Raises
    ------
    Refused : "unreadable": there is none
    """
    network, view, cut_off = load_classifier(Path(run) / SLICE_WEIGHTS)
    return TrainedSlices(network, SliceStage(view, cut_off))


@dataclass(frozen=True)
class Said:
    """What a bundle says that is not in the runs.

    Parameters
    ----------
    texts : see `heartlens.models.bundle.TEXTS`
    domain : scans that the training data looked like
    cut_off, calibration : of the vessel stage, as they were fitted on validation patients
    metrics : figures of an evaluation, beside those of the runs
    """

    texts: Mapping[str, str]
    domain: Domain = field(default_factory=Domain)
    cut_off: float = 0.5
    calibration: Calibration = field(default_factory=Calibration)
    metrics: Mapping[str, Any] = field(default_factory=dict)


def export_bundle(
    trained: Trained, out: Path, said: Said, scans: Sequence[CTVolume], slices: TrainedSlices | None = None
) -> Bundle:
    """Write a bundle, whole or not at all, and prove that both files of each network are one network.

    Parameters
    ----------
    scans : to compare scores on; at least one
    slices : the slice stage; None makes a bundle without one

    Raises
    ------
    Refused : "output" the folder; "input" a network that names no arteries, no scan to compare on, or files that differ
    """
    recipe = trained.recipe
    if recipe.samples.outputs == 1:
        raise Refused("input", "this network says calcium or not and names no artery; a bundle needs one that does")
    if not scans:
        raise Refused("input", "no scan to compare scores on; give --shards and --splits")
    unknown = sorted(set(said.texts) - set(TEXTS))
    if unknown:
        raise Refused("input", f"unknown text {unknown[0]}; a manifest has {', '.join(TEXTS)}")
    vessel = VesselStage(recipe.view, ("none", *recipe.samples.classes), said.cut_off, said.calibration)
    networks: dict[str, tuple[str, nn.Module, dict[str, Any]]] = {
        VESSEL: ("vessel", trained.network, _vessel_architecture(recipe))
    }
    if slices is not None:
        network = _at_size(slices)
        networks[SLICES] = ("slices", network, {"name": "vit", **network.backbone.shape.to_json()})
    with whole_folder(out) as folder:
        files = []
        for role, (name, network, architecture) in networks.items():
            state = {k: v.contiguous() for k, v in network.state_dict().items()}
            (folder / f"{name}.safetensors").write_bytes(save(state))  # save_file would keep it from other users
            write_onnx(network, _example(role, vessel, slices), folder / f"{name}.onnx")
            for form in ("safetensors", "onnx"):
                files.append(_file_entry(folder / f"{name}.{form}", role, form, architecture))
        manifest = _manifest(said, vessel, None if slices is None else slices.stage, trained, files)
        _write_manifest(folder, manifest)
        manifest["parity"] = require_parity(
            {role: network for role, (_, network, _) in networks.items()}, load_bundle(folder), scans
        )
        _write_manifest(folder, manifest)
    return load_bundle(out)


def _at_size(slices: TrainedSlices) -> SliceClassifier:
    """A copy whose position embedding is that of its view: the graph then has nothing to interpolate."""
    network = copy.deepcopy(slices.network).eval()
    network.backbone.fix_size(slices.stage.view.size)
    return network


def _example(role: str, vessel: VesselStage, slices: TrainedSlices | None) -> torch.Tensor:
    if role == VESSEL or slices is None:
        return torch.zeros(2, vessel.view.channels, vessel.view.size_px, vessel.view.size_px)
    return torch.zeros(2, 1, slices.stage.view.size, slices.stage.view.size)


def write_onnx(network: nn.Module, example: torch.Tensor, path: Path) -> None:
    """Any number of slices of the example's size; operators of opset 20, weights inside the file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's exporter warns of its own parts, which no user can change
        program = torch.onnx.export(
            network,
            (example,),
            input_names=["image"],
            output_names=["told"],
            dynamic_shapes=({0: torch.export.Dim("slices", min=1, max=4096)},),
            opset_version=20,
            external_data=False,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    program.save(str(path), external_data=False)


def require_parity(networks: Mapping[str, nn.Module], bundle: Bundle, scans: Sequence[CTVolume]) -> dict[str, float]:
    """Refuse files that are not one network: by what they say of noise, and by the scores of whole scans.

    Parameters
    ----------
    networks : in torch, by role

    Returns
    -------
    {"logits", "slice_probability": largest differences, "scans": how many, "agatston": largest difference, always 0}
    """
    by_onnx = {role: OnnxNetwork(bundle, role, threads=1) for role in networks}
    by_torch = {role: _torch_network(network) for role, network in networks.items()}
    rng = np.random.default_rng(0)
    view = bundle.vessel.view
    noise = rng.random((3, view.channels, view.size_px, view.size_px), np.float32)
    logits = _difference(by_torch[VESSEL], by_onnx[VESSEL], noise)
    if not logits <= LOGIT_TOLERANCE:
        raise Refused("input", f"torch and ONNX differ by {logits:g} in a logit, expected at most {LOGIT_TOLERANCE:g}")
    found = {"logits": logits}
    if bundle.slices is not None:
        size = bundle.slices.view.size
        found["slice_probability"] = _difference(
            by_torch[SLICES], by_onnx[SLICES], 2 * rng.random((5, 1, size, size), np.float32) - 1
        )
    for n, ct in enumerate(scans):
        (p, one, one_map), (q, other, other_map) = (_scored(ct, bundle, networks) for networks in (by_torch, by_onnx))
        where = f"scan {n + 1} of {len(scans)}: torch and ONNX"
        if bundle.slices is not None:
            asked = ~np.isnan(p)
            found["slice_probability"] = max(found["slice_probability"], float(np.abs(p - q)[asked].max(initial=0.0)))
            across = ((p >= bundle.slices.cut_off) != (q >= bundle.slices.cut_off))[asked].sum()
            if across:
                raise Refused("input", f"{where} put {across} slices on different sides of the cut-off; choose another")
        if one.total != other.total or one.arteries != other.arteries or not np.array_equal(one_map, other_map):
            raise Refused(
                "input",
                f"{where} give different scores, {one.total.agatston:g} and {other.total.agatston:g}; "
                "the export is not faithful",
            )
    worst = found.get("slice_probability", 0.0)
    if not worst <= PROBABILITY_TOLERANCE:
        raise Refused(
            "input",
            f"torch and ONNX differ by {worst:g} in the probability of a slice, "
            f"expected at most {PROBABILITY_TOLERANCE:g}",
        )
    return {**found, "scans": len(scans), "agatston": 0.0}


def _torch_network(network: nn.Module) -> Network:
    def run(image: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return np.asarray(network(torch.from_numpy(image)))

    return run


def _difference(one: Network, other: Network, image: np.ndarray) -> float:
    return float(np.abs(one(image) - other(image)).max())


def _scored(
    ct: CTVolume, bundle: Bundle, networks: Mapping[str, Network]
) -> tuple[np.ndarray, ScoreReport, np.ndarray]:
    """(k,) slice probabilities, the report, and the artery of every voxel."""
    protocol, region, vessel = ScoringProtocol(), heart_region(ct), bundle.vessel
    chosen, p = None, np.full(ct.shape[0], np.nan)
    if bundle.slices is not None:
        p = classify_slices(ct, region, networks[SLICES], bundle.slices.view, slices_to_ask(ct, region, protocol))
        chosen = np.nan_to_num(p, nan=-1.0) >= bundle.slices.cut_off
    lesions = segment_vessels(
        ct, region, networks[VESSEL], vessel.view, vessel.classes, protocol, coronary_cut_off=vessel.cut_off,
        calibration=vessel.calibration, slices=chosen,
    )  # fmt: skip
    return p, score_lesions(ct, lesions, protocol), lesions.artery_map()


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
    said: Said, vessel: VesselStage, slices: SliceStage | None, trained: Trained, files: list[dict[str, Any]]
) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        **DEFAULT_TEXTS,
        **said.texts,
        "vessel": {
            "input": asdict(vessel.view),
            "classes": list(vessel.classes),
            "cut_off": vessel.cut_off,
            "calibration": asdict(vessel.calibration),
        },
        "slices": None if slices is None else {"input": slices.view.to_json(), "cut_off": slices.cut_off},
        "domain": asdict(said.domain),
        "metrics": {
            "vessel": {
                "data": "validation split of the training data, per pixel",
                "step": trained.step,
                **trained.judgement,
            },
            **said.metrics,
        },
        "files": files,
    }


def _write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m training.export", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("trained", type=Path, metavar="RUN", help="folder of a run of training.train_unet")
    parser.add_argument("--slices", type=Path, metavar="RUN", help="folder of a run of training.train_slices")
    parser.add_argument("--out", type=Path, required=True, help="folder to make")
    parser.add_argument("--name", required=True)
    parser.add_argument("--shards", type=Path, nargs="+", required=True, action="extend")
    parser.add_argument("--splits", type=Path, required=True, metavar="FILE.json")
    parser.add_argument("--text", action="append", default=[], metavar="KEY=TEXT", help=f"of {', '.join(TEXTS[1:])}")
    limits = ", ".join(one.name for one in fields(Domain))
    parser.add_argument("--domain", action="append", default=[], metavar="KEY=LOW,HIGH", help=f"of {limits}")
    parser.add_argument("--cut-off", type=float, default=0.5, metavar="P", help="of islands (default 0.5)")
    parser.add_argument("--slope", type=float, default=1.0, help="of the calibration (default 1)")
    parser.add_argument("--intercept", type=float, default=0.0, help="of the calibration (default 0)")
    parser.add_argument("--metrics", type=Path, metavar="FILE.json", help="figures of an evaluation, for the manifest")
    parser.add_argument("--compare", type=int, default=2, help="validation scans whose scores are compared (default 2)")
    parser.set_defaults(run=_run)
    return run_command(parser, arguments)


def _run(options: argparse.Namespace) -> int:
    trained = read_trained(options.trained)
    slices = None if options.slices is None else read_trained_slices(options.slices)
    shards = ShardSet.open(*options.shards)
    scans = scans_of(shards, Splits.load(options.splits).validation)[: options.compare]
    said = _said(options)
    bundle = export_bundle(trained, options.out, said, [shards.ct(n) for n in scans], slices)
    print(f"Bundle: {bundle.folder}")
    return DONE


def _said(options: argparse.Namespace) -> Said:
    texts = {"name": options.name, **dict(_pair(text, "--text", "KEY=TEXT") for text in options.text)}
    limits = {}
    for text in options.domain:
        key, value = _pair(text, "--domain", "KEY=LOW,HIGH")
        low, comma, high = value.partition(",")
        if key not in Domain.__dataclass_fields__ or not comma:
            known = ", ".join(Domain.__dataclass_fields__)
            raise Refused("input", f"--domain: expected one of {known}, such as kvp=80,140; found {text!r}")
        limits[key] = (low, high)
    try:
        domain = Domain(**{key: (float(low), float(high)) for key, (low, high) in limits.items()})
        metrics = {} if options.metrics is None else json.loads(options.metrics.read_text(encoding="utf-8"))
        return Said(texts, domain, options.cut_off, Calibration(options.slope, options.intercept), metrics)
    except (OSError, ValueError) as error:
        raise Refused("input", f"cannot export with these settings: {error}") from None


def _pair(text: str, option: str, form: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise Refused("input", f"{option}: expected {form}, found {text!r}")
    return key, value


if __name__ == "__main__":
    sys.exit(main())
