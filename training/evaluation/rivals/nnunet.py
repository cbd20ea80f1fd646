"""nnU-Net v2 on the scans of shards: its raw dataset by our split, and its program in an environment of its own."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from heartlens.core.atomic import atomic_folder
from heartlens.core.errors import InputRefused
from training.datasets.labels.export import export_labels
from training.datasets.labels.nifti import write_image
from training.datasets.labels.nnunet import DATASET, ENDING
from training.datasets.scans import UNREVIEWED, LabeledScan
from training.datasets.shards import ShardSet
from training.datasets.splits import Splits, check_splits, scans_of
from training.deploy.lineage import lineage_of
from training.engine.json_records import write_json
from training.engine.run_log import begin_folder

PROGRAM = Path(__file__).with_name("nnunet_program.py")

RAW, PREPROCESSED, RESULTS = "nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"
"""Folders of a run; nnU-Net finds them by environment variables of these names."""

TESTED, REFERENCE, PREDICTIONS = "imagesTs", "reference", "predictions"
SETTINGS = "settings.json"
FOLD = "splits_final.json"
"""Which cases train and which validate; nnU-Net takes it in the place of its own five folds."""


@dataclass(frozen=True)
class Size:
    """How long nnU-Net trains.

    Parameters
    ----------
    configuration
        "2d", "3d_fullres" or another one of its plans.
    epochs, iterations, validation_iterations
        Of the training, and steps of each epoch; nnU-Net's own are 1000, 250 and 50.
    processes
        That prepare scans and vary samples; 0 is none beside the one that trains.
    mirroring
        Average over mirrored views where it predicts, as nnU-Net does.
    """

    configuration: str = "3d_fullres"
    epochs: int = 1000
    iterations: int = 250
    validation_iterations: int = 50
    processes: int = 8
    mirroring: bool = True


SIZES = {
    "full": Size(),
    "smoke": Size("2d", epochs=1, iterations=2, validation_iterations=1, processes=0, mirroring=False),
}
"""As published; and two steps, to see that all parts fit."""


def begin(shards: ShardSet, splits: Splits, out: Path, size: Size) -> None:
    """Begin a run, or refuse to go on with one of other data or another size: what it has made would be taken for this.

    Parameters
    ----------
    shards, splits
        Of the scans and their patients.
    out
        Folder of the run, which is made.
    size
        Of the training.

    Raises
    ------
    InputRefused
        ``input``: the folder holds another run
    """
    lineage = lineage_of(shards, splits)
    settings = {"data": lineage["data"], "splits_sha256": lineage["splits_sha256"], **asdict(size)}
    begin_folder(out / SETTINGS, settings, "run")


def write_dataset(shards: ShardSet, splits: Splits, out: Path) -> None:
    """Write what nnU-Net trains on and is asked, and the reference that its label maps are held against.

    Training and validation patients are its one fold; test patients lie in imagesTs and, with labels, in reference.
    What nobody reviewed is its label "ignore".

    Parameters
    ----------
    shards
        Of the scans.
    splits
        Of their patients.
    out
        Folder of the run; what is there already is left as it is.

    Raises
    ------
    InputRefused
        The splits do not fit the shards, or the disk does not take it.
    """
    check_splits(shards, splits)
    fold = {"train": scans_of(shards, splits.train), "val": scans_of(shards, splits.validation)}
    if not (out / RAW).exists():
        export_labels(out / RAW, _labeled(shards, [n for scans in fold.values() for n in scans]), "nnunet")
    path = out / RAW / DATASET / "dataset.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    write_json(path, {**document, "labels": {**document["labels"], "ignore": UNREVIEWED}})
    write_json(out / FOLD, [{part: [case_name(shards, n) for n in scans] for part, scans in fold.items()}])
    write_questions(shards, splits, out)


def write_questions(shards: ShardSet, splits: Splits, out: Path) -> None:
    """Write what any program is asked, the scans of test patients, and with labels what its answer is held against.

    Parameters
    ----------
    shards
        Of the scans.
    splits
        Of their patients.
    out
        Folder of the run; what is there already is of the same patients, or it is refused.

    Raises
    ------
    InputRefused
        ``input``: the folder holds other patients' scans; or the disk does not take it
    """
    check_splits(shards, splits)
    asked = {case_name(shards, n) for n in scans_of(shards, splits.test)}
    if (out / REFERENCE).exists() and {path.name for path in (out / REFERENCE).iterdir()} != asked:
        raise InputRefused("input", f"{out / REFERENCE} holds scans of another split; choose another --out")
    if not (out / REFERENCE).exists():
        with atomic_folder(out / TESTED) as images:
            for n in scans_of(shards, splits.test):
                ct = shards.ct(n)
                write_image(images / f"{case_name(shards, n)}_0000{ENDING}", ct.hu, ct)
        with atomic_folder(out / REFERENCE) as reference:
            for n in scans_of(shards, splits.test):
                ct, labels = shards.ct(n), np.array(shards.labels(n))
                labels[labels == UNREVIEWED] = 0
                (reference / case_name(shards, n)).mkdir()
                write_image(reference / case_name(shards, n) / f"ct{ENDING}", ct.hu, ct)
                write_image(reference / case_name(shards, n) / f"labels{ENDING}", labels, ct)


def case_name(shards: ShardSet, scan: int) -> str:
    """What a scan is called in nnU-Net's folders."""
    return shards.scans[scan].name.replace("/", "-")


def _labeled(shards: ShardSet, scans: Sequence[int]) -> Iterator[LabeledScan]:
    for n in scans:
        record = shards.scans[n]
        yield LabeledScan(
            record.name, record.patient, record.source, shards.ct(n), np.array(shards.labels(n)),
            provenance=record.provenance,
        )  # fmt: skip


def run_nnunet(python: Path, out: Path, size: Size, device: str) -> None:
    """Plan, train and predict, each as far as it is not done; training goes on from nnU-Net's last checkpoint.

    Parameters
    ----------
    python
        Of the environment that has nnU-Net.
    out
        Folder of the run, with the dataset.
    size
        Of the training.
    device
        "cpu" or "cuda".

    Raises
    ------
    InputRefused
        ``input``: there is no such environment, or nnU-Net ended with an error; its log is named
    """
    if not python.exists():
        raise InputRefused("input", f"no such file: {python}; make .venv-nnunet/installed, or give --python")
    settings = out / SETTINGS
    begun = json.loads(settings.read_text(encoding="utf-8"))
    write_json(settings, {**begun, **asdict(size), "device": device, "dataset": DATASET, "fold_file": str(out / FOLD)})
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {name: str(out / name) for name in (RAW, PREPROCESSED, RESULTS)}
    environment |= {"nnUNet_n_proc_DA": str(max(size.processes, 1)), "nnUNet_compile": str(device == "cuda")}
    log = out / "nnunet.log"
    with open(log, "a", encoding="utf-8") as file:
        command = [str(python), str(PROGRAM), str(settings), str(out / TESTED), str(out / PREDICTIONS)]
        code = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, check=False
        ).returncode
    if code:
        lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
        raise InputRefused("input", f"nnU-Net ended with {code}: {last[:200]}; see {log}, and type the same to go on")
