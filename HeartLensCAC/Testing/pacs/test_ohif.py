"""SEG, SR, key page and PDF in the viewer that most people have: OHIF over a real Orthanc, in headless Chromium."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import ohif_gateway
import pytest
import small_chest
from conftest import REPOSITORY
from ohif_gateway import LEAST_PIXELS, pixels_of
from pydicom import dcmread

from heartlens.core.lesions import ARTERY_COLORS, Artery
from heartlens.pipeline import Request, score_series
from heartlens.report.outputs import More, write_outputs

pytestmark = pytest.mark.slow

OHIF = REPOSITORY / ".ohif" / "package" / "dist"
"""Where `make pacs` puts it: npm pack @ohif/app@3.13.2, unpacked."""

DRAFT_COLOR = "8a4b00"
"""Of the band, as in report.css."""

LAD_COLOR = ARTERY_COLORS[Artery.LAD].removeprefix("#")
LIMIT_S = 900


def missing() -> str:
    """What is not installed here."""
    programs = ("chromium", "unshare", "ip")
    what = [name for name in programs if shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") is None]
    what += [] if Path("/usr/sbin/Orthanc").exists() or shutil.which("Orthanc") else ["orthanc"]
    what += [] if Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so").exists() else ["orthanc-dicomweb"]
    what += [] if importlib.util.find_spec("playwright") else ["playwright"]
    what += [] if (OHIF / "index.html").is_file() else [f"OHIF in {OHIF}"]
    return ", ".join(what)


def alone() -> list[str]:
    """A command before another one that leaves it no network but its own; empty where the system gives none."""
    for words in (["unshare", "--net"], ["unshare", "--net", "--user", "--map-root-user"]):
        command = [*words, "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
        if subprocess.run([*command, "true"], capture_output=True, check=False, timeout=30).returncode == 0:
            return command
    return []


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """What the viewer shows of two results: the small chest, and the same with nothing labeled."""
    if what := missing():
        pytest.skip(f"OHIF in a browser needs {what}; make pacs")
    work = tmp_path_factory.mktemp("pacs")
    looks, stores = [], []
    for name, labels in (("some", small_chest.codes()), ("zero", np.zeros(small_chest.SHAPE, np.uint8))):
        folder = work / name
        folder.mkdir()
        small_chest.write_series(folder / "ct")
        given = small_chest.write_labels(folder / "labels.nrrd", labels)
        result = score_series(folder / "ct", Request(segmentation=given))
        assert write_outputs(result, folder / "out", more=(More.KEY_PAGE, More.PDF)) == []
        stores += [str(folder / "ct"), str(folder / "out")]
        for kind, file, steps in (
            ("sr", "report.dcm", "otal Agatston score"),
            ("seg", "segmentation.dcm", f"Do you want to open this Segmentation?|click=Yes|color={LAD_COLOR}"),
            ("key", "key-page.dcm", f"I:1 (1/|color={DRAFT_COLOR}"),
            ("pdf", "report-pdf.dcm", f"color={DRAFT_COLOR}"),
        ):
            if (folder / "out" / file).is_file() and (name == "some" or kind == "sr"):
                one = dcmread(folder / "out" / file, stop_before_pixels=True)
                looks.append(f"{name}-{kind}={one.StudyInstanceUID},{one.SeriesInstanceUID}={steps}")
    command = [sys.executable, ohif_gateway.__file__, "--ohif", str(OHIF), "--work", str(work)]
    command = [*alone(), *command, "--store", *stores, "--look", *looks]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LIMIT_S)
    assert run.returncode == 0, run.stderr[-3000:]
    return json.loads(run.stdout)


def shown(seen, name, color):
    """How many pixels of a screen have a color."""
    return pixels_of(Path(seen["seen"][name]["picture"]).read_bytes(), color)


def test_the_viewer_stays_at_home_and_meets_no_error(seen):
    assert seen["elsewhere"] == []
    assert seen["errors"] == []


def test_the_structured_report_says_score_and_arteries(seen):
    text = seen["seen"]["some-sr"]["text"]
    lad, rca, total = small_chest.AGATSTON[Artery.LAD], small_chest.AGATSTON[Artery.RCA], small_chest.TOTAL
    assert f"Estimated total Agatston score {total:.0f} (heartlens: high, range >400)." in text
    assert f"LM 0, LAD {lad:.0f}, LCX 0, RCA {rca:.0f}." in text
    assert f"Coronary artery calcium score: {total:.2f} {{score}}" in text
    assert f"Coronary artery calcium score: {rca:.2f} {{score}}" in text  # on the slice that is shown


def test_a_score_of_zero_never_reads_as_one(seen):
    """OHIF leaves a 0 out and prints the unit, which was "1" once; the sentence beside it says 0."""
    text = seen["seen"]["zero-sr"]["text"]
    assert "Estimated total Agatston score 0 (heartlens: absent, range 0)." in text
    assert "score: 1" not in text
    assert "score: {score}" in text


def test_the_segmentation_lies_on_the_scan_in_the_color_of_its_artery(seen):
    assert shown(seen, "some-seg", LAD_COLOR) > LEAST_PIXELS
    assert shown(seen, "some-sr", LAD_COLOR) < LEAST_PIXELS


@pytest.mark.parametrize("kind", ["key", "pdf"])
def test_page_and_document_show_the_band_of_a_draft(seen, kind):
    assert shown(seen, f"some-{kind}", DRAFT_COLOR) > 5000
    assert shown(seen, "some-sr", DRAFT_COLOR) < LEAST_PIXELS
