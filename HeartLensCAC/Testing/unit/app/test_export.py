"""`heartlens export`: label maps on the grid of the CT, and who reviewed what; unreviewed labels are not given away."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.resources import files

import jsonschema
import numpy as np
import pytest
from report_cases import BOXES, HEADER, make_case

from heartlens.__main__ import main
from heartlens.app.export import reviews_of
from heartlens.case.folder import save_case
from heartlens.case.seal import sign_case
from heartlens.case.signature import Signature
from heartlens.core.lesions import Artery, LesionMap
from heartlens.core.protocol import ScoringProtocol
from heartlens.io.nrrd import read_nrrd

WHEN = "2026-11-29T10:00:00+00:00"
NAMELESS = replace(HEADER, series_uid=None, study_uid=None)


@pytest.fixture
def run(capsys):
    def call(*arguments):
        code = main([str(one) for one in arguments])
        return (code, *capsys.readouterr())

    return call


def saved(case, folder):
    save_case(case, folder)
    return folder


def read():
    """Rita gives the LM to the LAD, then Ben the RCA to the LCX; the LAD and what is not coronary stay as found."""
    case = make_case(BOXES, header=NAMELESS)
    return case.reassign(2, Artery.LAD, who="Rita", when=WHEN).reassign(3, Artery.LCX, who="Ben", when=WHEN)


def test_the_maps_lie_on_the_ct_and_name_each_island_and_who_reviewed_it(run, tmp_path):
    code, out, err = run("export", saved(read(), tmp_path / "read"), "--out", tmp_path / "out")
    assert (code, err) == (0, "")
    assert "2 of 4 islands reviewed one by one (Ben 1, Rita 1); not signed" in out
    document = json.loads((tmp_path / "out" / "labels.json").read_text())
    schema = json.loads((files("heartlens.report") / "labels.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(schema).validate(document)
    (case,) = document["cases"]
    labels, islands = (read_nrrd(tmp_path / "out" / case["files"][name]) for name in ("labels", "islands"))
    for image in (labels, islands):
        assert image.affine.tolist() == case["affine_lps_mm"] == np.diag([0.5, 0.5, 3.0, 1.0]).tolist()
        assert list(image.values.shape) == case["shape_kji"] == [14, 64, 64]
    # 100 and 16 pixels are LAD now, 4 are LCX, 36 are not coronary
    assert np.bincount(labels.values.reshape(-1), minlength=7)[1:].tolist() == [0, 116, 4, 0, 36, 0]
    assert np.bincount(islands.values.reshape(-1))[1:].tolist() == [100, 16, 4, 36]
    assert document["codes"] == {
        "background": 0, "LM": 1, "LAD": 2, "LCX": 3, "RCA": 4, "OTHER": 5, "UNASSIGNED": 6,
    }  # fmt: skip
    reviewed = {island["id"]: island["reviewed"] for island in case["islands"]}
    assert reviewed == {1: None, 2: {"by": "Rita", "when": WHEN}, 3: {"by": "Ben", "when": WHEN}, 4: None}
    assert (case["state"], case["signature"], case["provenance"]["labels"]) == ("read", None, "rules")


def test_a_case_that_nobody_reviewed_is_refused_and_nothing_is_written(run, tmp_path):
    draft = saved(make_case(BOXES, header=NAMELESS), tmp_path / "draft")
    code, out, err = run("export", draft, "--out", tmp_path / "out")
    assert (code, out, err.count("\n"), (tmp_path / "out").exists()) == (3, "", 1, False)
    assert err.startswith("error: labels: nobody has reviewed")
    code, out, _ = run("export", draft, "--out", tmp_path / "out", "--unreviewed")
    assert (code, "0 of 4 islands reviewed one by one; not signed" in out) == (0, True)


def test_one_unreviewed_case_among_reviewed_ones_refuses_all(run, tmp_path):
    other = saved(make_case(BOXES[:1], header=NAMELESS), tmp_path / "other")
    code, _, _ = run("export", saved(read(), tmp_path / "read"), other, "--out", tmp_path / "out")
    assert (code, (tmp_path / "out").exists()) == (3, False)


def test_an_edit_that_was_taken_back_is_no_review(run, tmp_path):
    case = make_case(BOXES, header=NAMELESS).reassign(2, Artery.LAD, who="Rita").undo(who="Rita")
    code, _, err = run("export", saved(case, tmp_path / "undone"), "--out", tmp_path / "out")
    assert (code, "nobody has reviewed" in err) == (3, True)
    assert reviews_of(case) == {}
    assert set(reviews_of(case.redo())) == {2}


def test_a_painted_and_a_cut_island_were_reviewed_and_a_removed_one_is_not_there():
    case = make_case(BOXES)
    row = np.arange(10, 20) + 64 * (10 + 64 * 5)  # the first row of the LAD, which keeps 90 of its 100 pixels
    edited = case.remove(2, who="Ben").paint(row, Artery.LCX, who="Rita")
    assert {number: review.by for number, review in reviews_of(edited).items()} == {1: "Rita", 5: "Rita"}
    assert {number: review.by for number, review in reviews_of(case.erase(row, who="Ann")).items()} == {1: "Ann"}


def test_a_signature_reviews_a_case_without_an_edit_and_a_broken_one_is_refused(run, tmp_path):
    case = make_case(BOXES, header=NAMELESS)
    folder = saved(case, tmp_path / "signed")
    sign_case(folder, case, Signature("Reader^Rita", "Clinic", WHEN))
    code, out, _ = run("export", folder, "--out", tmp_path / "out")
    assert (code, "0 of 4 islands reviewed one by one; all signed by Reader^Rita" in out) == (0, True)
    document = json.loads((tmp_path / "out" / "labels.json").read_text())
    schema = json.loads((files("heartlens.report") / "labels.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(schema).validate(document)
    (row,) = document["cases"]
    assert (row["state"], row["signature"]["observer"]) == ("signed", "Reader^Rita")
    with (folder / "report.json").open("a") as file:
        file.write(" ")
    code, _, err = run("export", folder, "--out", tmp_path / "again", "--unreviewed")
    assert (code, err.startswith("error: checksum: "), (tmp_path / "again").exists()) == (3, True, False)


def test_two_cases_of_one_scan_are_refused(run, tmp_path):
    places = [saved(read(), tmp_path / name) for name in "ab"]
    code, _, err = run("export", *places, "--out", tmp_path / "out")
    assert (code, err.startswith("error: ambiguous: ")) == (3, True)


def test_only_an_export_is_replaced(run, tmp_path):
    folder, out = saved(read(), tmp_path / "read"), tmp_path / "out"
    assert run("export", folder, "--out", out)[0] == 0
    assert run("export", folder, "--out", out)[0] == 3
    assert run("export", folder, "--out", out, "--force")[0] == 0
    (out / "thesis.txt").write_text("mine")
    assert run("export", folder, "--out", out, "--force")[0] == 3
    assert (out / "thesis.txt").read_text() == "mine"


def test_islands_of_slabs_lie_on_every_source_slice_of_their_slab(run, tmp_path):
    """14 slices of 3 mm scored as 7 slabs of 6 mm: 250 HU beside 0 is 125, so both slices hold calcium here."""
    hu = [(Artery.LAD, k, 10, 10, 10, 250) for k in (4, 5)]
    one = make_case([*hu], header=NAMELESS)
    labels = (one.source_ct.hu[::2] > 0).astype(np.uint16)
    case = type(one).of(
        one.source_ct, LesionMap(labels, {1: Artery.LAD}),
        ScoringProtocol(slab_mm=6.0), provenance=one.provenance,
    ).reassign(1, Artery.RCA, who="Rita")  # fmt: skip
    code, _, err = run("export", saved(case, tmp_path / "slabs"), "--out", tmp_path / "out")
    assert (code, err) == (0, "")
    maps = [read_nrrd(tmp_path / "out" / f"case-0001-{name}.nrrd").values for name in ("labels", "islands")]
    for values, code in zip(maps, (4, 1), strict=True):
        assert {k: set(np.unique(values[k]).tolist()) for k in (3, 4, 5, 6)} == {
            3: {0},
            4: {0, code},
            5: {0, code},
            6: {0},
        }
