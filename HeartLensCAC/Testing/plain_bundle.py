"""A bundle whose networks can be worked out by hand, so that running one is tested without torch and without training.

The vessel network looks at one pixel: LAD when it is bright, sigmoid((HU - 400) / 100), at 600 HU 0.88; it is
written as two logits, 0 for none and (HU - 400) / 100 for LAD. The slice classifier looks at the brightest pixel of its
view: sigmoid((HU - 400) / 50). `python HeartLensCAC/Testing/plain_bundle.py` writes `data/plain_bundle`; it needs onnx.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "data" / "plain_bundle"

VESSEL_VIEW = {"size_px": 80, "spacing_mm": 2.8, "window_hu": [-200.0, 1000.0], "neighbors": 0, "with_mask": True,
               "threshold_hu": 130.0}  # fmt: skip
SLICE_VIEW = {"field_mm": 100.8, "size": 36, "window_hu": [0.0, 1000.0], "center": "heart"}


def make(folder: Path) -> None:
    """Write the networks and the manifest."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    def save(name: str, nodes: list[Any], weights: dict[str, Any], shapes: tuple[list[Any], list[Any]]) -> None:
        graph = helper.make_graph(
            nodes,
            name,
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, shapes[0])],
            [helper.make_tensor_value_info("told", TensorProto.FLOAT, shapes[1])],
            [numpy_helper.from_array(np.asarray(value), key) for key, value in weights.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
        onnx.checker.check_model(model, full_check=True)
        (folder / f"{name}.onnx").write_bytes(model.SerializeToString(deterministic=True))

    folder.mkdir(parents=True, exist_ok=True)
    # The view's channel is (HU + 200) / 1200, so (HU - 400) / 100 is 12 times it, less 6. The mask has no say.
    weight = np.zeros((2, 2, 1, 1), np.float32)
    weight[1, 0] = 12
    save(
        "vessel",
        [helper.make_node("Conv", ["image", "weight", "bias"], ["told"])],
        {"weight": weight, "bias": np.array([0, -6], np.float32)},
        (["slices", 2, 80, 80], ["slices", 2, 80, 80]),
    )
    # -1 to 1 is 0 to 1000 HU, so (HU - 400) / 50 is 10 times it, plus 2.
    save(
        "slices",
        [
            helper.make_node("ReduceMax", ["image", "axes"], ["brightest"], keepdims=0),
            helper.make_node("Mul", ["brightest", "slope"], ["scaled"]),
            helper.make_node("Add", ["scaled", "intercept"], ["odds"]),
            helper.make_node("Sigmoid", ["odds"], ["told"]),
        ],
        {"axes": np.array([1, 2, 3]), "slope": np.float32(10), "intercept": np.float32(2)},
        (["slices", 1, 36, 36], ["slices"]),
    )
    (folder / "manifest.json").write_text(json.dumps(manifest(folder), indent=1) + "\n", encoding="utf-8")


def manifest(folder: Path, **changes: Any) -> dict[str, Any]:
    """What the bundle says of itself, with the checksums of the files that are there."""
    files = []
    for name, role in (("vessel.onnx", "vessel-unet"), ("slices.onnx", "slice-classifier")):
        content = (folder / name).read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        files.append({"path": name, "role": role, "format": "onnx", "architecture": {"name": "by-hand"},
                      "sha256": digest, "bytes": len(content)})  # fmt: skip
    return {
        "schema": "heartlens.bundle/1",
        "name": "plain",
        "version": "1",
        "licence": "Apache-2.0",
        "trained_on": "nothing: its two formulas are written by hand",
        "intended_use": "Tests only",
        "field_of_view": "100 to 400 mm",
        "vessel": {"input": VESSEL_VIEW, "classes": ["none", "LAD"], "cut_off": 0.5,
                   "calibration": {"slope": 1.0, "intercept": 0.0}},
        "slices": {"input": SLICE_VIEW, "cut_off": 0.5},
        "domain": {"pixel_mm": [0.3, 3.0], "increment_mm": [0.5, 5.0], "kvp": [80, 140],
                   "field_of_view_mm": [100, 400]},
        "metrics": {},
        "files": files,
        **changes,
    }  # fmt: skip


if __name__ == "__main__":
    make(FOLDER)
