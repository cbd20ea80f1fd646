"""SR, key page, PDF and SEG as DCMTK's programs show them: other people's code, nothing of pydicom or highdicom."""

from __future__ import annotations

import html
import re
import subprocess
from io import BytesIO

import numpy as np
import pytest
import small_chest
from PIL import Image
from pydicom import dcmread

from heartlens.pipeline import Request, score_series
from heartlens.report.outputs import More, write_outputs


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """The small chest with given labels, and with none."""
    folder = tmp_path_factory.mktemp("dcmtk")
    small_chest.write_series(folder / "ct")
    for name, codes in (("some", small_chest.codes()), ("zero", np.zeros(small_chest.SHAPE, np.uint8))):
        labels = small_chest.write_labels(folder / f"{name}.nrrd", codes)
        result = score_series(folder / "ct", Request(segmentation=labels))
        assert write_outputs(result, folder / name, more=(More.KEY_PAGE, More.PDF)) == []
    return folder


@pytest.fixture
def tool(require_tool):
    """Run one of DCMTK's programs on a file; returns what it writes to the terminal, as bytes."""

    def run(name, path, *words):
        command = [require_tool(name), *words, str(path)]
        done = subprocess.run(command, capture_output=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr.decode(errors="replace")
        return done.stdout

    return run


def words_of(page: bytes) -> str:
    """The text of an HTML page on one line."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", page.decode())).split())


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("some", f"Estimated total Agatston score {small_chest.TOTAL:.0f} (heartlens: high, range >400)."),
        ("zero", "Estimated total Agatston score 0 (heartlens: absent, range 0)."),
    ],
)
def test_the_rendered_report_says_the_score_in_words(out, tool, name, sentence):
    text = words_of(tool("dsr2html", out / name / "report.dcm"))
    assert sentence in text
    assert "PRELIMINARY" in text.upper()
    assert "UNVERIFIED" in text.upper()


def test_the_key_page_is_shown_pixel_by_pixel_as_it_was_written(out, tool):
    path = out / "some" / "key-page.dcm"
    drawn = np.asarray(Image.open(BytesIO(tool("dcmj2pnm", path, "+op"))))
    assert np.array_equal(drawn, dcmread(path).pixel_array)
    assert len(np.unique(drawn.reshape(-1, 3), axis=0)) > 100


def test_the_pdf_comes_out_byte_by_byte(out, require_tool, tmp_path):
    given = (out / "some" / "report.pdf").read_bytes()
    command = [require_tool("dcm2pdf"), str(out / "some" / "report-pdf.dcm"), str(tmp_path / "back.pdf")]
    subprocess.run(command, capture_output=True, check=True, timeout=60)
    assert (tmp_path / "back.pdf").read_bytes() == given
    assert given.startswith(b"%PDF-")


def test_the_segmentation_is_dumped_with_its_segments_and_their_codes(out, tool):
    text = tool("dcmdump", out / "some" / "segmentation.dcm", "+P", "SegmentLabel", "+P", "CodeMeaning").decode()
    labels = re.findall(r"\(0062,0005\) LO \[([^\]]*)\]", text)
    ours = [str(one.SegmentLabel) for one in dcmread(out / "some" / "segmentation.dcm").SegmentSequence]
    assert [label.strip() for label in labels] == ours
    assert "Calcium" in text or "alcifi" in text
