"""docs/coca.md, followed word for word on a download in COCA's shape: from unzip to a score by the new bundle."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from needed import need, torch  # noqa: F401  - skips, or fails in CI, without it
from pydicom import dcmread

from heartlens.core.ct import CTVolume
from heartlens.core.lesions import Artery
from heartlens.networks.bundle import load_bundle
from heartlens.phantom import PhantomParameters, make_phantom
from training.datasets.labels.coca_plist import roi_images
from training.datasets.scans import LabeledScan
from training.datasets.shard_writer import agatston_of
from training.datasets.shards import ShardSet
from training.datasets.splits import Splits, scans_of
from training.tests.conftest import CocaFolder, make_coca_ct

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = REPOSITORY / "docs" / "coca.md"
TINY = (
    "matrix=64", "field_of_view=heart", "increment_mm=6", "slice_thickness_mm=6", "is_gated=true", "motion_mm=0",
)  # fmt: skip
LABELED = range(306, 322)


def commands() -> str:
    """Every block of the page that is to be typed, in its order."""
    return "\n".join(re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL))


def people() -> dict[int, tuple[CTVolume, np.ndarray]]:
    """Sixteen scans of four drawn people; each differs from its twin by the noise of one corner and by its UIDs."""
    drawn = [make_phantom(PhantomParameters.from_text(n, [*TINY, f"category={c}"])) for n, c in enumerate(
        (">400", "101-400", ">400", "11-100"))]  # fmt: skip
    found = {}
    for n, number in enumerate(LABELED):
        phantom = drawn[n % len(drawn)]
        hu = phantom.ct.hu.copy()
        hu[0, 0, 0] = number - 1300
        uids = tuple(f"2.25.{number}.4.{k + 1}" for k in range(len(hu)))
        header = replace(
            phantom.ct.header, study_uid=f"2.25.{number}.1", series_uid=f"2.25.{number}.2", sop_instance_uids=uids
        )
        labels = np.where(phantom.labels == Artery.OTHER, 0, phantom.labels).astype(np.uint8)
        found[number] = (replace(phantom.ct, hu=hu, header=header), labels)
    return found


def build(root: Path) -> dict[int, dict[str, float]]:
    """A download with the quirks of the real one; Agatston scores of its labeled patients."""
    download, truth = CocaFolder(root, nested=True), {}
    for number, (ct, labels) in people().items():
        folder = download.images(number, ct)
        images, _ = roi_images(LabeledScan("x", "x", "x", ct, labels))
        if number == 308:  # the counter runs the other way: positions decide
            images = [{**one, "ImageIndex": ct.shape[0] - 1 - one["ImageIndex"]} for one in images[::-1]]
        if number == 309:  # a slot without an outline
            empty = {"Name": "Right Coronary Artery", "NumberOfPoints": 0, "Point_px": [], "Point_mm": [], "Max": 0}
            images.append({"ImageIndex": 0, "NumberOfROIs": 1, "ROIs": [empty]})
        if number == 310:  # not the brightest pixel inside: no proof, no label
            images[0]["ROIs"][0]["Max"] += 7
        download.annotations(number, images)
        if number == 306:  # identifiers that are none, as after a careless removal
            for n, path in enumerate(sorted(folder.iterdir())):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    dataset = dcmread(path)
                    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.00.abc", "1.3.001.series"
                    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"1.2.00113619.{n}-x"
                    dataset.save_as(path, enforce_file_format=False)
        if number == 307:  # a slice twice
            double = dcmread(folder / "IM-6130-0002.dcm")
            double.SOPInstanceUID = double.file_meta.MediaStorageSOPInstanceUID = "2.25.99"
            double.save_as(folder / "IM-6130-0099.dcm")
        truth[number] = agatston_of(ct, labels)
    shorter = make_coca_ct(np.full((3, 32, 32), -80, np.int16), uid=9)
    download.images(311, shorter, folder="Scout (2)", series=2)
    lone = make_coca_ct(np.full((8, 64, 64), -80, np.int16), uid=330)
    download.images(330, lone)  # nobody annotated it
    download.annotations(331, [])  # its images were not downloaded
    chest = make_coca_ct(np.full((9, 64, 64), -70, np.int16), uid=400)
    download.nongated_images(1, chest, inner="CT CHEST % (1)/1")
    download.scores([(" Filename ", "LCA", "LAD", "LCX", "RCA", "Total"), ("1A", 0, 12.5, 0, 0, 12.5)])
    (root / "__MACOSX").mkdir()
    (root / "__MACOSX" / "patient").write_bytes(b"junk")
    return truth


class Followed:
    """The page, typed once."""

    def __init__(self, folder: Path) -> None:
        need("onnxscript")
        self.truth = build(folder / "made")
        archive = shutil.make_archive(str(folder / "coca"), "zip", folder / "made")
        self.work = folder / "work"
        paths = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "HeartLensCAC")])
        settings = {
            "SIZE": "smoke", "WORK": str(self.work), "COCA": archive, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "", "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "CHEW": "epochs=1 batch=4 workers=0 network.base=4 network.depth=2 network.groups=2 view.size_px=32",
        }  # fmt: skip
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", commands()], cwd=REPOSITORY, env={**os.environ, **settings},
            capture_output=True, text=True, timeout=1200, check=False,
        )  # fmt: skip
        self.said, self.errors = done.stdout, done.stderr
        assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"


@pytest.fixture(scope="module")
def followed(tmp_path_factory) -> Followed:
    return Followed(tmp_path_factory.mktemp("coca-page"))


def test_every_scan_is_read_or_listed_and_the_labels_score_what_was_drawn(followed):
    shards = ShardSet.open(followed.work / "shards")
    scans = {scan.name: scan for scan in shards.scans}
    assert [skip.name for skip in shards.skipped] == ["coca-gated/331"]
    unlabeled = {name for name, scan in scans.items() if not scan.is_labeled}
    assert unlabeled == {"coca-gated/310", "coca-gated/330", "coca-nongated/1"}
    assert scans["coca-nongated/1"].agatston["total"] == 12.5
    for number in set(LABELED) - {310}:
        assert scans[f"coca-gated/{number}"].agatston == pytest.approx(followed.truth[number])
    assert any("took the one of" in note for note in scans["coca-gated/311"].notes)
    assert any("doubled" in note for note in scans["coca-gated/307"].notes)


def test_table_2_is_printed_and_nobody_is_in_two_parts(followed):
    splits = Splits.load(followed.work / "splits.json")
    parts = [len(splits.train), len(splits.validation), len(splits.test)]
    assert sum(parts) == len(LABELED) - 1
    assert re.search(rf"^total\s+{parts[0]}\s+{parts[1]}\s+{parts[2]}$", followed.said, re.MULTILINE)


def test_the_report_holds_what_the_page_says_that_it_holds(followed):
    report = json.loads((followed.work / "report" / "report.json").read_text())
    shards, splits = ShardSet.open(followed.work / "shards"), Splits.load(followed.work / "splits.json")
    tested = {shards.scans[n].name for n in scans_of(shards, splits.test)}
    assert {patient["name"] for patient in report["patients"]} == tested
    assert set(report["backbones"]) == {"DINO", "DINO-LG"}
    html = (followed.work / "report" / "index.html").read_text()
    table = PAGE.read_text().split("| of the paper |")[1].split("\n\n")[0]
    named = re.findall(r'\| "([^"]+)" \|', table)
    assert len(named) == 5
    assert "on annotated slices" in report["stages"]
    assert "<h2>Slices with reference and prediction</h2>" in html
    assert [name for name in named if f"<h2>{name}</h2>" not in html] == []


def test_the_bundle_scores_a_scan_of_the_download_and_says_what_it_is(followed):
    bundle = load_bundle(followed.work / "bundle")
    assert bundle.title == "coca 0"
    assert (
        bundle.texts["trained_on"] == f"{len(Splits.load(followed.work / 'splits.json').train)} patients of coca-gated"
    )
    report = json.loads((followed.work / "score-306" / "report.json").read_text())
    assert report["provenance"]["bundle"] == "coca 0"
    assert report["total"]["agatston"] is not None
    assert followed.errors.count("Invalid value for VR UI") == 0


def test_chews_rows_are_printed_for_five_networks_and_two_ensembles(followed):
    table = json.loads((followed.work / "chew-table" / "table.json").read_text())
    names = [row["name"] for row in table["rows"]]
    assert names == [*(f"chew-{n}" for n in range(1, 6)), "chew-3 x chew-1²", "chew-5 x chew-1²"]
    assert len(list((followed.work / "chew-table" / "gallery").glob("*.png"))) >= 1
    assert len(re.findall(r"^\| chew-\d.* \| .* \|$", followed.said, re.MULTILINE)) == 7
