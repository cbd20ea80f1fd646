"""SEG, SR, key page and PDF in OHIF over a real Orthanc, in headless Chromium. `test_ohif.py` runs this.

The small chest was scored by hand and stored; the chests of the node came by DIMSE, were scored by the node and stored
by it. Each object is opened once: a view costs ten seconds or more without a graphics card.
"""

from __future__ import annotations

import os
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import node_chest
import pytest
import small_chest
from ohif_gateway import LEAST_PIXELS, OHIF, Viewer, pixels_of
from orthanc_archive import PROFILES, Orthanc, send
from pydicom import dcmread
from running_node import LIBRARY, RunningNode, chest

from heartlens.core.lesions import ARTERY_COLORS, Artery
from heartlens.pacs.node.rules import Phase
from heartlens.pipeline import Request, score_series
from heartlens.report.outputs import write_outputs

DRAFT_COLOR = "8a4b00"
"""Of the band, as in report.css."""

LAD_COLOR = ARTERY_COLORS[Artery.LAD].removeprefix("#")

STEPS = {
    "report.dcm": ["otal Agatston score"],
    "segmentation.dcm": ["Do you want to open this Segmentation?", "click=Yes", f"color={LAD_COLOR}"],
    "key-page.dcm": ["I:1 (1/", f"color={DRAFT_COLOR}"],
    "report-pdf.dcm": [f"color={DRAFT_COLOR}"],
}
"""What to wait for, by the object that is opened."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("viewer")


@pytest.fixture(scope="module")
def archive(folder):
    archive = Orthanc(folder)
    yield archive
    archive.end()


@pytest.fixture(scope="module")
def by_hand(folder, archive):
    """Result folder of the small chest with its labels, which was stored."""
    paths = small_chest.write_series(folder / "ct")
    given = small_chest.write_labels(folder / "labels.nrrd")
    assert write_outputs(score_series(folder / "ct", Request(segmentation=given)), folder / "out") == []
    archive.store([*paths, *sorted((folder / "out").glob("*.dcm"))])
    return folder / "out"


@pytest.fixture(scope="module")
def node(folder, archive):
    (folder / "pacs.toml").write_text(PROFILES)
    node = RunningNode(folder / "home", folder / "pacs.toml")
    yield node
    assert node.end() == 0
    assert "SECRET" not in node.log


@pytest.fixture(scope="module")
def received(folder, archive, node):
    """Scans that came to archive and node by DIMSE, by name: the study, and the result that the node made of it."""
    found = {}
    for number, (name, changes, images, state) in enumerate(
        (
            ("node-some", {}, slice(None), Phase.SENT),
            ("node-zero", {"plaques": ()}, slice(None), Phase.SENT),
            ("node-held", {"PatientID": "SECRET-8"}, slice(20), Phase.HELD),
        ),
        40,
    ):
        study, series, paths = chest(folder, number, **changes)
        archive.store(paths[images])
        assert set(send(paths[images])) == {0}
        row = node.until(series, state)
        found[name] = study, node.home / "results" / row.key / "0001"
    return found


class Screens:
    """What the viewer shows of the objects of a scan; each is opened once, when it is asked for."""

    def __init__(self, viewer, outs, studies):
        self.viewer, self.outs, self.studies = viewer, outs, studies
        self.seen = {}

    def text(self, name, file=""):
        return self._look(name, file)["text"]

    def pixels(self, name, file, color):
        """How many pixels of a screen have a color."""
        return pixels_of(Path(self._look(name, file)["picture"]).read_bytes(), color)

    def _look(self, name, file):
        if (name, file) not in self.seen:
            if file:
                one = dcmread(self.outs[name] / file, stop_before_pixels=True)
                study, series, steps = one.StudyInstanceUID, one.SeriesInstanceUID, STEPS[file]
            else:
                study, series, steps = self.studies[name], "", ["I:"]  # the number of the slice: an image is shown
            self.seen[name, file] = self.viewer.look(f"{name}-{Path(file).stem or 'study'}", study, series, steps)
        return self.seen[name, file]


@pytest.fixture(scope="module")
def screens(folder, by_hand, received):
    outs = {"by-hand": by_hand, **{name: out for name, (_, out) in received.items()}}
    with Viewer(OHIF, folder) as viewer:
        yield Screens(viewer, outs, {name: study for name, (study, _) in received.items()})
        assert viewer.elsewhere == []
        assert viewer.errors == []


def test_the_structured_report_says_score_and_arteries(screens):
    text = screens.text("by-hand", "report.dcm")
    lad, rca, total = small_chest.AGATSTON[Artery.LAD], small_chest.AGATSTON[Artery.RCA], small_chest.TOTAL
    assert f"Estimated total Agatston score {total:.0f} (heartlens: high, range >400)." in text
    assert f"LM 0, LAD {lad:.0f}, LCX 0, RCA {rca:.0f}." in text
    assert f"Coronary artery calcium score: {total:.2f} {{score}}" in text
    assert f"Coronary artery calcium score: {rca:.2f} {{score}}" in text  # on the slice that is shown


def test_what_the_node_made_of_what_it_was_sent_says_score_and_arteries(screens):
    text = screens.text("node-some", "report.dcm")
    total = node_chest.agatston()
    assert f"Estimated total Agatston score {total:.0f} (heartlens: high, range >400)." in text
    assert f"LM 0, LAD {total / 2:.0f}, LCX 0, RCA {total / 2:.0f}." in text  # two plaques of one size
    for shown in (total, total / 2):  # rounded for display; the plaque on the slice that is shown
        assert f"Coronary artery calcium score: {shown:.0f}.00 {{score}}" in text


def test_a_score_of_zero_never_reads_as_one(screens):
    """OHIF leaves a 0 out and prints the unit, which was "1" once; the sentence beside it says 0."""
    text = screens.text("node-zero", "report.dcm")
    assert "Estimated total Agatston score 0 (heartlens: absent, range 0)." in text
    assert "score: 1" not in text
    assert "score: {score}" in text


def test_a_held_scan_is_in_the_viewer_without_any_number_and_is_named_by_the_node(screens, archive, received, node):
    study, out = received["node-held"]
    assert (out / "report.dcm").is_file()  # there is a result, and it has not left
    text = screens.text("node-held")
    assert "CT" in text
    for word in ("Agatston", "SEG", "SR\n", "calcium"):
        assert word not in text, word
    assert {dcmread(BytesIO(data)).Modality for data in archive.find(StudyInstanceUID=study)} == {"CT"}
    said = subprocess.run(
        [sys.executable, "-m", "heartlens", "node", "status", "--home", str(node.home)], capture_output=True, text=True,
        check=True, env={**os.environ, "PYTHONPATH": str(LIBRARY)},
    ).stdout  # fmt: skip
    (line,) = [line for line in said.splitlines() if f"{study}.1" in line]
    assert line.startswith("held")
    assert "short-scan" in line


def test_the_segmentation_lies_on_the_scan_in_the_color_of_its_artery(screens):
    assert screens.pixels("node-some", "segmentation.dcm", LAD_COLOR) > LEAST_PIXELS
    assert screens.pixels("node-some", "report.dcm", LAD_COLOR) < LEAST_PIXELS


@pytest.mark.parametrize("file", ["key-page.dcm", "report-pdf.dcm"])
def test_page_and_document_show_the_band_of_a_draft(screens, file):
    assert screens.pixels("node-some", file, DRAFT_COLOR) > 5000
    assert screens.pixels("node-some", "report.dcm", DRAFT_COLOR) < LEAST_PIXELS


@pytest.mark.parametrize("name", ["node-some", "node-zero"])
def test_what_the_viewer_shows_is_what_the_node_made_bit_for_bit(archive, received, name):
    out = received[name][1]
    files = sorted(out.glob("*.dcm"))
    assert {"report.dcm", "key-page.dcm", "report-pdf.dcm"} <= {path.name for path in files}
    for path in files:
        uid = str(dcmread(path, stop_before_pixels=True).SOPInstanceUID)
        assert archive.find(SOPInstanceUID=uid) == [path.read_bytes()], path.name
