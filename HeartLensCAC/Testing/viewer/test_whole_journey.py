"""A scan from the first look to the third reading, in a real Chromium: open, read by keyboard and mouse, sign, SEG, SR
and PDF; the second reader, who is blind to the first; the third, who sees both; and the next case.

At every stop the totals on the page are those that a scorer without our code makes of a DICOM SEG of the case on disk,
read without our reader.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pydicom
import pytest
from viewer.page import Reader
from viewer.reviewed_chest import Server, labels_of_seg, other_hu, scored_plainly

from heartlens.case.comparison.opened import open_case
from heartlens.dicom.seg import write_seg

pytestmark = pytest.mark.slow

ARTERIES = ("LM", "LAD", "LCX", "RCA")


@pytest.fixture
def places(written_once, other_once, tmp_path) -> Path:
    """A folder with `first`, a folder of results of two scans, of which PDFs were asked for."""
    for name, place in (("a", written_once), ("b", other_once)):
        shutil.copytree(place / "result", tmp_path / "first" / name)
        (tmp_path / "first" / name / "report.pdf").write_bytes(b"")  # that it lies there says that it is wanted
    return tmp_path


def rescored(seg: Path, image: Any = None) -> dict[str, str]:
    """What the page is to show of a SEG."""
    plain = scored_plainly(labels_of_seg(seg), image)
    counted = {name: score for name, score in plain.items() if name != "OTHER"}
    shown = {name: counted[name] for name in ARTERIES} | {"total": sum(counted.values())}
    return {name: str(round(score)) for name, score in shown.items()}


def shown(reader: Reader) -> dict[str, str]:
    return {name: score for name, score in reader.totals().items() if name != "unassigned"}


def stop(reader: Reader, case: Path, **expected: int) -> None:
    """Compare the page with a SEG of the case as it lies on the disk, and with what is worked out by hand."""
    opened = open_case(case)
    seg = case.parent.parent / "stop.dcm"
    write_seg(seg, ct=opened.case.source_ct, codes=opened.case.scored_codes, sources=opened.sources)
    assert shown(reader) == rescored(seg, reader.image)
    by_hand = {name: str(expected.get(name, 0)) for name in ARTERIES}
    assert {name: score for name, score in shown(reader).items() if name != "total"} == by_hand
    seg.unlink()


def sign(reader: Reader, observer: str, out: Path) -> None:
    """Sign, and look into every output."""
    page = reader.page
    page.get_by_label("Observer").fill(observer)
    page.get_by_label("Organization").fill("Clinic")
    page.locator("#confirm").check()
    page.locator("#sign").click()
    reader.wait("#state.signed")
    assert shown(reader) == rescored(out / "segmentation.dcm")
    report = pydicom.dcmread(out / "report.dcm")
    assert (report.VerificationFlag, report.VerifyingObserverSequence[0].VerifyingObserverName) == (
        "VERIFIED",
        observer,
    )
    assert (out / "report.pdf").read_bytes().startswith(b"%PDF-")
    for name in ("segmentation.dcm", "report.dcm", "report.pdf"):
        with page.expect_download() as arriving:
            page.get_by_role("button", name=name, exact=True).click()
        assert Path(arriving.value.path()).read_bytes() == (out / name).read_bytes()


def next_case(reader: Reader, name: str) -> None:
    """Go on to the case of the other scan."""
    reader.page.locator("#nextCase").click()
    reader.image = other_hu()
    reader.page.locator("#case").get_by_text(name).wait_for()
    reader.wait("[data-ready=yes]")
    reader.page.locator("#axial").focus()
    reader.key("f")


def test_a_case_from_the_first_look_to_the_third_reading_and_the_next_case(browser, places):
    first, second, third = (places / name for name in ("first", "second", "third"))
    with Server("--reader", "Rita", first) as server:
        reader = Reader(browser, server)
        page, case = reader.page, first / "a" / "case"
        page.locator("#axial").focus()
        reader.key("f")
        stop(reader, case, LAD=900, RCA=1800)
        reader.key("u")
        reader.edits(lambda: reader.key("1"))  # reassign, by the key
        stop(reader, case, LM=1800, LAD=900)
        reader.key("b", "3")
        reader.go_to_slice(12)
        reader.edits(lambda: reader.drag((14, 12), (14, 14), (15, 14), (15, 12)))  # paint
        stop(reader, case, LM=1800, LAD=900, LCX=6 * 25 * 3)
        reader.key("x")
        reader.edits(lambda: reader.drag((13.2, 11.2), (17.2, 15.2)))  # box
        stop(reader, case, LM=1800, LAD=900, LCX=9 * 25 * 3)
        reader.key("e")
        reader.go_to_slice(8)
        reader.edits(lambda: reader.drag((14, 22), (16, 22)))  # erase
        stop(reader, case, LM=1800, LAD=750, LCX=675)
        reader.key("c", "2")
        reader.go_to_slice(5)
        reader.edits(lambda: reader.drag((16.4, 14), (16.4, 18.6), (17.5, 18.6), (17.5, 14), (16.5, 14)))  # cut
        stop(reader, case, LM=1500, LAD=1050, LCX=675)
        reader.edits(lambda: reader.key("z"))  # undo the cut, undo the eraser, and the eraser again
        reader.edits(lambda: page.locator("#undo").click())
        reader.edits(lambda: reader.key("y"))
        stop(reader, case, LM=1800, LAD=750, LCX=675)
        sign(reader, "Reader^Rita", first / "a" / "signed")
        next_case(reader, "b")
        assert "DRAFT" in reader.text("#state")
        stop(reader, first / "b" / "case", LAD=1350, RCA=900)
        reader.close()

    with Server("--reader", "Ravi", "--second", second, first) as server:
        reader = Reader(browser, server)
        page, case = reader.page, second / "a" / "case"
        assert reader.text("#round").startswith("Second reading, blind")
        assert reader.text("#state") == "DRAFT, read by nobody"
        assert "Rita" not in page.content()
        assert page.get_by_role("heading", name="Two readings").count() == 0
        stop(reader, case, LAD=900, RCA=1800)
        reader.key("u")
        reader.edits(lambda: reader.key("Enter"))
        stop(reader, case, LAD=900, RCA=1800)
        sign(reader, "Reader^Ravi", second / "a" / "signed")
        assert not (second / "b").exists(), "nobody has opened it"
        next_case(reader, "b")
        reader.key("u")
        page.keyboard.press("Enter")
        reader.wait('body[data-version="1"]')
        stop(reader, second / "b" / "case", LAD=1350, RCA=900)
        reader.close()

    with Server("--reader", "Rosa", first, "--against", second, "--adjudicate", third) as server:
        reader = Reader(browser, server)
        page, case = reader.page, third / "a" / "case"
        assert reader.text("#round").startswith("Third reading")
        told = reader.text("#readingLines")
        assert "SIGNED by Rita Reader" in told
        assert "SIGNED by Ravi Reader" in told
        assert "3 differ, 0 agree voxel by voxel." in told
        assert reader.text("#differenceCount") == "3 differences, 3 to decide"
        assert differences(reader) == [
            "artery LM 1800 RCA 1800 no artery", "extent LAD 750 LAD 900 to decide", "A alone LCX 675 – to decide",
        ]  # fmt: skip
        stop(reader, case, LAD=750 + 150, LCX=675)  # and 1800 without an artery
        assert reader.totals()["total"] == str(1800 + 900 + 675)

        page.locator("#axial").focus()
        reader.key("f", "d")  # one after the other; choosing edits nothing
        assert reader.version == 0
        assert reader.slice() in (5, 6)
        assert "unassigned" in reader.text("#selected h3")
        reader.edits(lambda: reader.key("4"))
        stop(reader, case, LAD=900, LCX=675, RCA=1800)
        assert differences(reader)[0] == "artery LM 1800 RCA 1800 RCA"
        reader.key("d")
        assert reader.slice() == 8
        reader.edits(lambda: reader.key("Enter"))
        reader.key("d")
        reader.edits(lambda: reader.key("Delete"))
        assert reader.text("#differenceCount") == "3 differences, 0 to decide"
        assert [row.rpartition(" ")[2] for row in differences(reader)] == ["RCA", "LAD", "marked"]
        stop(reader, case, LAD=900, RCA=1800)
        sign(reader, "Reader^Rosa", third / "a" / "signed")

        next_case(reader, "b")
        assert [row.split()[0] for row in differences(reader)] == ["undecided"]
        stop(reader, third / "b" / "case", LAD=1350, RCA=900)
        reader.close()


def differences(reader: Reader) -> list[str]:
    """Each row of the difference list."""
    return [" ".join(row.inner_text().split()) for row in reader.page.locator("#differences tr").all()]
