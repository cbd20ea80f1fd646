"""A model bundle: a folder with networks and a manifest that says what they are, verified before anything is used."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heartlens.lesions import Artery
from heartlens.models.preprocess import View
from heartlens.refusal import Refused

SCHEMA = "heartlens.bundle/1"
MANIFEST = "manifest.json"
VESSEL = "vessel-unet"
ARCHITECTURES = ("unet",)
"""What the torch door can build; other architectures run from ONNX alone."""

TEXTS = ("name", "version", "licence", "trained_on", "intended_use", "field_of_view")


@dataclass(frozen=True)
class BundleFile:
    """One file of weights.

    Parameters
    ----------
    path : within the bundle
    role : what the network is for, such as "vessel-unet"
    format : "onnx" or "safetensors"
    architecture : {"name", and its numbers}
    sha256, bytes : of the file
    """

    path: str
    role: str
    format: str
    architecture: Mapping[str, Any]
    sha256: str
    bytes: int


@dataclass(frozen=True)
class Bundle:
    """A verified bundle.

    Parameters
    ----------
    folder : where it lies
    texts : name, version, licence, trained_on, intended_use, field_of_view
    files : checked against their checksums
    view : what the vessel network sees
    classes : of its outputs, "none" first
    cut_offs : {"coronary": p, ...}; they come with the weights, not from code
    metrics : figures, with the data they were measured on
    """

    folder: Path
    texts: Mapping[str, str]
    files: tuple[BundleFile, ...]
    view: View
    classes: tuple[str, ...]
    cut_offs: Mapping[str, float]
    metrics: Mapping[str, Any]

    def file(self, role: str, form: str) -> BundleFile:
        """The file of one role in one format.

        Raises
        ------
        Refused : "input": the bundle has none
        """
        for file in self.files:
            if (file.role, file.format) == (role, form):
                return file
        raise Refused("input", f"{self.folder}: expected a {form} file for {role}, found none; export the bundle anew")

    def checksums(self) -> dict[str, str]:
        """For a report's provenance."""
        return {file.path: file.sha256 for file in self.files}


def load_bundle(folder: Path) -> Bundle:
    """Read a bundle and verify every file in it.

    Raises
    ------
    Refused : "input" no bundle, or an unknown architecture; "unreadable" a damaged manifest; "checksum" a file that is
        missing or not what was exported
    """
    path = Path(folder) / MANIFEST
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        if told["schema"] != SCHEMA:
            raise ValueError(f"schema {told['schema']!r}, expected {SCHEMA}")
        view = {**told["input"], "window_hu": tuple(told["input"]["window_hu"])}
        bundle = Bundle(
            Path(folder),
            {name: str(told[name]) for name in TEXTS},
            tuple(BundleFile(**entry) for entry in told["files"]),
            View(**view),
            tuple(map(str, told["classes"])),
            {str(name): float(value) for name, value in told["cut_offs"].items()},
            told["metrics"],
        )
        if bundle.classes[:1] != ("none",) or any(name not in Artery.__members__ for name in bundle.classes[1:]):
            raise ValueError(f"classes {list(bundle.classes)}, expected none and names of arteries")
        if not 0 <= bundle.cut_offs["coronary"] <= 1:
            raise ValueError(f"cut-off {bundle.cut_offs['coronary']}, expected 0 to 1")
    except OSError as error:
        raise Refused("input", f"{folder} is no bundle: cannot read {MANIFEST}: {error.strerror or error}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Refused("unreadable", f"{path}: expected a bundle's manifest, found {error}; export it anew") from None
    for file in bundle.files:
        _verify(bundle, file)
    return bundle


def _verify(bundle: Bundle, file: BundleFile) -> None:
    if Path(file.path).name != file.path:
        raise Refused("unreadable", f"{bundle.folder / MANIFEST}: a file lies outside the bundle: {file.path!r}")
    if (
        file.format == "safetensors"
        and file.role == VESSEL
        and not any(f.format == "onnx" and f.role == VESSEL for f in bundle.files)
        and file.architecture.get("name") not in ARCHITECTURES
    ):
        raise Refused(
            "input",
            f"{file.path}: unknown architecture {file.architecture.get('name')!r}; this version knows "
            f"{', '.join(ARCHITECTURES)}; update HeartLens",
        )
    try:
        content = (bundle.folder / file.path).read_bytes()
    except OSError as error:
        raise Refused(
            "checksum", f"{bundle.folder / file.path}: {error.strerror or error}; copy the whole bundle again"
        ) from None
    found = hashlib.sha256(content).hexdigest()
    if (len(content), found) != (file.bytes, file.sha256):
        raise Refused(
            "checksum",
            f"{bundle.folder / file.path}: expected SHA-256 {file.sha256[:12]}… and {file.bytes} bytes, found "
            f"{found[:12]}… and {len(content)}; copy the bundle again",
        )


class OnnxNetwork:
    """The vessel network on the CPU, through ONNX Runtime.

    Parameters
    ----------
    threads : of ONNX Runtime; 0 lets it choose
    """

    def __init__(self, bundle: Bundle, *, threads: int = 0) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        content = (bundle.folder / bundle.file(VESSEL, "onnx").path).read_bytes()
        self.session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        self.name = self.session.get_inputs()[0].name

    def __call__(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        logits: NDArray[np.float32] = self.session.run(None, {self.name: image})[0]
        return logits


class TorchNetwork:
    """The vessel network through torch, from the same weights.

    Raises
    ------
    Refused : "input": an architecture that this version cannot build, or weights that are not its own
    """

    def __init__(self, bundle: Bundle, *, device: str = "cpu") -> None:
        import torch
        from safetensors.torch import load_file

        from heartlens.models.vessel_unet import UNet, UNetNumbers

        self.torch, self.device = torch, device
        file = bundle.file(VESSEL, "safetensors")
        numbers = dict(file.architecture)
        if numbers.pop("name", None) not in ARCHITECTURES:
            raise Refused(
                "input",
                f"{file.path}: unknown architecture {file.architecture.get('name')!r}; torch here knows "
                f"{', '.join(ARCHITECTURES)}; use the ONNX file, or update HeartLens",
            )
        try:
            self.network = UNet(UNetNumbers(**numbers)).to(device).eval()
            self.network.load_state_dict(load_file(bundle.folder / file.path))
        except (TypeError, ValueError, RuntimeError) as error:
            first_line = str(error).splitlines()[0][:200]
            raise Refused("input", f"{file.path}: weights and architecture do not fit: {first_line}") from None

    def __call__(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        with self.torch.inference_mode():
            logits: NDArray[np.float32] = self.network(self.torch.from_numpy(image).to(self.device)).cpu().numpy()
        return logits
