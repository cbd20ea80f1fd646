"""Plan, train and predict with nnU-Net v2, in the environment that has it and without HeartLens.

python nnunet_program.py SETTINGS.json IMAGES PREDICTIONS

The folders nnUNet_raw, nnUNet_preprocessed and nnUNet_results come from the environment. What is done is left as it is.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

PLANS = "nnUNetPlans"
FOLD = 0


def declare_missing_operators() -> None:
    """Let nnU-Net import torchvision beside a CPU build of torch; see `training.engine.torchvision_shim`."""
    path = Path(__file__).resolve().parents[2] / "engine" / "torchvision_shim.py"
    spec = importlib.util.spec_from_file_location("torchvision_shim", path)
    assert spec is not None
    assert spec.loader is not None
    shim = importlib.util.module_from_spec(spec)
    sys.modules["torchvision_shim"] = shim  # the schema lives as long as the module
    spec.loader.exec_module(shim)
    shim.declare_missing_operators()


declare_missing_operators()  # here and not in `main`: the processes that nnU-Net starts import this file alone


def plan(settings: dict[str, Any], number: int, preprocessed: Path) -> None:
    """Fingerprint, plans, preprocessing, and which cases validate."""
    api = import_module("nnunetv2.experiment_planning.plan_and_preprocess_api")
    processes, configuration = max(settings["processes"], 1), settings["configuration"]
    api.extract_fingerprints([number], num_processes=processes, check_dataset_integrity=True)
    api.plan_experiments([number])
    plans = json.loads((preprocessed / f"{PLANS}.json").read_text())
    if configuration not in plans["configurations"]:
        raise SystemExit(f"nnU-Net planned {', '.join(plans['configurations'])}, not {configuration}")
    api.preprocess([number], PLANS, configurations=(configuration,), num_processes=(processes,))
    shutil.copyfile(settings["fold_file"], preprocessed / "splits_final.json")


def train(settings: dict[str, Any], number: int, device: torch.device) -> Path:
    """Train, or go on with it; gives the folder of the model."""
    run = import_module("nnunetv2.run.run_training")
    trainer = run.get_trainer_from_args(str(number), settings["configuration"], FOLD, device=device)
    # Its planner takes no 0, its trainer does.
    os.environ["nnUNet_n_proc_DA"] = str(settings["processes"])  # noqa: SIM112  - nnU-Net's spelling
    folder = Path(trainer.output_folder)
    if not (folder / "checkpoint_final.pth").exists():
        trainer.num_epochs = settings["epochs"]
        trainer.num_iterations_per_epoch = settings["iterations"]
        trainer.num_val_iterations_per_epoch = settings["validation_iterations"]
        is_begun = any((folder / f"checkpoint_{name}.pth").exists() for name in ("latest", "best"))
        run.maybe_load_checkpoint(trainer, is_begun, False, None)
        trainer.run_training()
    return folder.parent


def predict(settings: dict[str, Any], model: Path, images: Path, predictions: Path, device: torch.device) -> None:
    """A label map of every image, on its grid; those that are there stay."""
    predictions.mkdir(exist_ok=True)
    names = [path.name.replace("_0000.", ".") for path in images.iterdir()]
    if all((predictions / name).exists() for name in names):
        return
    predictor = import_module("nnunetv2.inference.predict_from_raw_data").nnUNetPredictor(
        use_mirroring=settings["mirroring"], perform_everything_on_device=device.type == "cuda", device=device,
        allow_tqdm=False,
    )  # fmt: skip
    predictor.initialize_from_trained_model_folder(str(model), (FOLD,), "checkpoint_final.pth")
    predictor.predict_from_files_sequential(str(images), str(predictions), overwrite=False)


def main() -> None:
    """Run all three."""
    settings = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    images, predictions = Path(sys.argv[2]), Path(sys.argv[3])
    paths = import_module("nnunetv2.paths")
    preprocessed = Path(str(paths.nnUNet_preprocessed)) / settings["dataset"]
    number, device = int(settings["dataset"][7:10]), torch.device(settings["device"])
    if not (preprocessed / "splits_final.json").exists():
        plan(settings, number, preprocessed)
    model = train(settings, number, device)
    predict(settings, model, images, predictions, device)


if __name__ == "__main__":
    main()
