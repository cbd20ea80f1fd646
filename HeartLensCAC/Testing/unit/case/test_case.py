"""A case: every edit is a record, the report always belongs to the lesions, and nothing is lost on disk."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_ct import make_ct

from heartlens.calcium import extract_lesions
from heartlens.case.case import Case
from heartlens.case.edits import Edit
from heartlens.case.folder import append_edit, load_case, save_case
from heartlens.core.errors import InputRefused, WarningRecord
from heartlens.core.lesions import Artery
from heartlens.core.protocol import ScoringProtocol
from heartlens.core.provenance import LabelSource, Provenance
from heartlens.risk.person import RiskInputs
from heartlens.scoring.report import ScoreReport, score_lesions


def make_case(**changes) -> Case:
    """Two slices of 6 x 14: an LAD block (id 1) of 2x4 at 200 and 180 HU, an RCA block (id 2) of 2x2 at 450."""
    hu = np.zeros((2, 6, 14), np.int16)
    hu[0, 1:3, 1:5], hu[1, 1:3, 1:5] = 200, 180
    hu[0, 1:3, 9:11] = 450
    codes = np.zeros(hu.shape, np.uint8)
    codes[:, :, :7], codes[:, :, 7:] = Artery.LAD, Artery.RCA
    ct = make_ct(hu)
    flat = np.flatnonzero(hu)
    protocol = ScoringProtocol()
    lesions = extract_lesions(ct, flat, codes.reshape(-1)[flat], protocol)
    return Case.of(**{"source_ct": ct, "auto": lesions, "protocol": protocol, **changes})


def scores(case: Case) -> dict[str, float]:
    return {a.name: t.agatston for a, t in case.report.arteries.items() if t.agatston}


def test_the_case_scores_its_lesions():
    assert scores(make_case()) == {"LAD": 8 * 0.25 * 2 + 8 * 0.25, "RCA": 4.0}


def test_every_edit_changes_the_report_and_keeps_the_old_case():
    case = make_case()
    moved = case.reassign(2, Artery.LCX, who="reader", when="2026-01-01T00:00:00Z")
    assert scores(moved) == {"LAD": 6.0, "LCX": 4.0}
    assert scores(moved.remove(1)) == {"LCX": 4.0}
    assert scores(case) == {"LAD": 6.0, "RCA": 4.0}
    assert moved.report.lesions[1].source == "reader"
    assert moved.edits[0].who == "reader"


def test_undo_and_redo_walk_through_the_edits():
    case = make_case().reassign(2, Artery.LCX).remove(1)
    back = case.undo()
    assert scores(back) == {"LAD": 6.0, "LCX": 4.0}
    assert scores(back.undo()) == {"LAD": 6.0, "RCA": 4.0}
    assert scores(back.redo()) == {"LCX": 4.0}
    with pytest.raises(ValueError, match="nothing to redo"):
        back.remove(2).redo()  # a new edit ends what could be redone
    with pytest.raises(ValueError, match="nothing to undo"):
        make_case().undo()


def test_painting_takes_only_voxels_that_reach_the_threshold():
    case = make_case()
    slice_two = case.ct.hu[1].size
    painted = case.paint([0, slice_two + 14 + 1, slice_two + 14 + 2], Artery.LM)
    assert np.count_nonzero(painted.lesions.labels == 3) == 2
    with pytest.raises(ValueError, match="130 HU"):
        case.paint([0, 5], Artery.LM)


def test_an_edit_that_cannot_be_made_leaves_no_trace():
    case = make_case()
    with pytest.raises(ValueError, match="no lesion 9"):
        case.remove(9)
    assert case.edits == ()


def test_an_unknown_kind_of_edit_is_refused():
    with pytest.raises(ValueError, match="reassign, remove"):
        Edit("move")


@pytest.mark.slow
@given(st.data())
@settings(max_examples=60, deadline=None)
def test_replaying_the_edits_gives_the_same_report_bit_for_bit(tmp_path_factory, data):
    case = make_case(cautions=(WarningRecord("kvp", "100 kVp"),), risk_inputs=RiskInputs(age_years=60.0, sex="M"))
    bright = np.flatnonzero(case.ct.hu >= 130)
    for _ in range(data.draw(st.integers(0, 6), label="edits")):
        kind = data.draw(st.sampled_from(["reassign", "remove", "paint", "erase", "undo", "redo"]))
        chosen = data.draw(st.lists(st.sampled_from(bright.tolist()), min_size=1, max_size=6, unique=True))
        ids = sorted(case.lesions.arteries)
        try:
            if kind in ("undo", "redo"):
                case = getattr(case, kind)()
            elif kind == "paint":
                case = case.paint(chosen, data.draw(st.sampled_from(list(Artery))))
            elif kind == "erase":
                case = case.erase(chosen)
            elif ids and kind == "remove":
                case = case.remove(data.draw(st.sampled_from(ids)))
            elif ids:
                case = case.reassign(data.draw(st.sampled_from(ids)), data.draw(st.sampled_from(list(Artery))))
        except ValueError as error:
            assert "nothing to" in str(error)  # noqa: PT017
    folder = tmp_path_factory.mktemp("case") / "case"
    save_case(case, folder)
    again = load_case(folder)
    assert again.report == case.report == score_lesions(case.ct, case.lesions, case.protocol)
    assert np.array_equal(again.lesions.labels, case.lesions.labels)
    assert again.edits == case.edits
    saved = json.loads((folder / "report.json").read_text())
    assert ScoreReport.from_json(saved) == again.report
    assert again.report_document() == saved


def test_an_edit_appended_to_the_folder_is_there_when_it_is_opened_again(tmp_path):
    case = make_case()
    save_case(case, tmp_path / "case")
    edited = case.reassign(2, Artery.LCX)
    append_edit(tmp_path / "case", edited.edits[-1])
    assert load_case(tmp_path / "case").report == edited.report


def test_an_edit_has_reached_the_disk_when_it_was_appended(tmp_path, monkeypatch):
    case = make_case()
    save_case(case, tmp_path / "case")
    synced = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_size))
    append_edit(tmp_path / "case", case.reassign(2, Artery.LCX).edits[-1])
    assert synced == [(tmp_path / "case" / "edits.jsonl").stat().st_size], "all of the line, and not its beginning"


def test_the_automatic_result_is_never_changed_by_edits(tmp_path):
    case = make_case().remove(1)
    save_case(case, tmp_path / "case")
    assert sorted(load_case(tmp_path / "case").auto.arteries) == [1, 2]


def test_slabs_are_scored_and_exported_on_the_source_slices(tmp_path):
    hu = np.zeros((4, 6, 6), np.int16)
    hu[0:2, 1:3, 1:5] = 200
    ct = make_ct(hu, spacing_mm=(1.5, 0.5, 0.5))
    protocol = ScoringProtocol(slab_mm=3.0)
    from heartlens.core.slabs import average_slabs

    slabs = average_slabs(ct, 2)
    flat = np.flatnonzero(slabs.hu >= 130)
    case = Case.of(ct, extract_lesions(slabs, flat, np.full(flat.size, 2), protocol), protocol)
    assert case.report.total.agatston == 4.0
    assert case.scored_codes.shape == (4, 6, 6)
    assert np.count_nonzero(case.scored_codes) == 16
    save_case(case, tmp_path / "case")
    assert load_case(tmp_path / "case").report == case.report


def test_gaps_between_slices_withhold_the_category():
    case = make_case(cautions=(WarningRecord("extrapolated-gaps", "slices 5 mm apart, 3 mm thick"),))
    assert case.risk.category is None
    assert make_case().risk.category is not None


def test_a_heart_that_was_not_found_is_no_score_of_zero():
    unseen = (WarningRecord("no-heart", "no heart in view"),)
    assert make_case(cautions=unseen, provenance=Provenance(LabelSource.RULES)).risk.category is None
    assert make_case(cautions=unseen, provenance=Provenance(LabelSource.FILE)).risk.category is not None


def test_a_ct_that_changed_since_is_refused(tmp_path):
    from heartlens.io.volumes import write_volume

    case = make_case()
    save_case(case, tmp_path / "case")
    hu = case.ct.hu.copy()
    hu[0, 0, 0] = 1
    write_volume(tmp_path / "case" / "ct.nrrd", make_ct(hu))
    with pytest.raises(InputRefused, match=r"checksum: .*score the series again"):
        load_case(tmp_path / "case")


@pytest.mark.parametrize("part", ["case.json", "auto.seg.nrrd"])
def test_a_damaged_case_folder_is_refused(tmp_path, part):
    save_case(make_case(), tmp_path / "case")
    (tmp_path / "case" / part).write_text("{broken")
    with pytest.raises(InputRefused):
        load_case(tmp_path / "case")


def test_a_case_of_a_schema_that_is_not_known_is_refused(tmp_path):
    save_case(make_case(), tmp_path / "case")
    path = tmp_path / "case" / "case.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema": "heartlens.case/99"}))
    with pytest.raises(InputRefused, match=r"expected schema heartlens\.case/\d+, found 'heartlens\.case/99'"):
        load_case(tmp_path / "case")


def test_no_path_and_no_identity_in_report_json():
    case = make_case(provenance=Provenance(LabelSource.RULES, source=("/home/name/scan",)))
    text = json.dumps(case.report_document())
    assert "/home/name" not in text
    assert '"labels": "rules"' in text


def test_an_action_of_several_edits_is_undone_and_redone_as_one(tmp_path):
    case = make_case().reassign(1, Artery.LM)
    assert case.with_edits([]) is case
    edited = case.with_edits([Edit("reassign", lesion=2, artery=Artery.LCX), Edit("erase", runs=((15, 1),))])
    assert [edit.joined for edit in edited.edits] == [False, False, True]
    assert edited.undo().report == case.report
    assert edited.undo().redo().report == edited.report
    assert edited.undo().undo().report == make_case().report
    save_case(edited, tmp_path / "case")
    assert load_case(tmp_path / "case").undo().report == case.report


def test_an_action_that_cannot_be_made_leaves_no_trace():
    case = make_case()
    with pytest.raises(ValueError, match="no lesion 9"):
        case.with_edits([Edit("remove", lesion=1), Edit("remove", lesion=9)])
    assert case.edits == ()
    assert scores(case) == {"LAD": 6.0, "RCA": 4.0}


@pytest.mark.parametrize("kind", ["undo", "redo"])
def test_undo_is_no_part_of_an_action(kind):
    with pytest.raises(ValueError, match=f"{kind} is no change of lesions"):
        make_case().with_edits([Edit("remove", lesion=1), Edit(kind)])


def test_undo_and_redo_are_actions_of_their_own():
    with pytest.raises(ValueError, match="undo is an action of its own"):
        Edit("undo", joined=True)


@pytest.mark.parametrize("edits", ['{"kind": "undo"}', '{"kind": "reassign", "lesion": 1, "joined": true}'])
def test_edits_that_do_not_follow_from_each_other_are_refused(tmp_path, edits):
    save_case(make_case(), tmp_path / "case")
    line = {**Edit("erase").to_json(), **json.loads(edits), "runs": []}
    (tmp_path / "case" / "edits.jsonl").write_text(json.dumps(line) + "\n")
    assert load_case(tmp_path / "case").edits == (), "a line without its checksum is none"
    path = tmp_path / "case" / "case.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema": "heartlens.case/1"}))
    with pytest.raises(InputRefused, match="unreadable"):  # lines of the first version had none
        load_case(tmp_path / "case")


def test_the_automatic_report_stays_when_the_case_is_edited():
    case = make_case()
    automatic = case.auto_report
    assert automatic == case.report
    assert case.remove(1).auto_report is automatic
    assert case.remove(1).report != automatic
