"""A signature covers every file of a case: whatever is changed, removed, added or swapped afterwards is seen."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
from tiny_ct import make_ct

from heartlens.app.review_session import ReviewSession
from heartlens.app.verify import find_case_folders, verify_case
from heartlens.case.case import Case
from heartlens.case.folder import save_case
from heartlens.case.seal import KEY_VARIABLE, SEALED_FILES, SealState
from heartlens.core.errors import InputRefused
from heartlens.core.lesions import Artery, LesionMap
from heartlens.core.protocol import ScoringProtocol
from heartlens.risk.evaluable import State

WHO = ("Reader^Rita", "Phantom Hospital")


def saved(folder, hu=200, columns=4):
    """Two rows of pixels of 0.25 mm2 in the LAD and 4 pixels at 450 HU in the RCA."""
    voxels = np.zeros((4, 16, 16), np.int16)
    voxels[1, 2:4, 2 : 2 + columns], voxels[2, 9:11, 9:11] = hu, 450
    labels = np.zeros(voxels.shape, np.uint16)
    labels[1, 2:4, 2 : 2 + columns], labels[2, 9:11, 9:11] = 1, 2
    save_case(Case.of(make_ct(voxels), LesionMap(labels, {1: Artery.LAD, 2: Artery.RCA}), ScoringProtocol()), folder)
    return folder


@pytest.fixture
def signed(tmp_path):
    """A case with one edit, signed."""
    with ReviewSession.open(saved(tmp_path / "case"), reader="Rita") as reading:
        reading.assign(1, Artery.LCX)
        reading.sign(*WHO, confirmed=True)
    return tmp_path / "case"


def leaves(document, path=()):
    """Every field of a document that holds no others."""
    children = document.items() if isinstance(document, dict) else enumerate(document)
    for key, value in children:
        if isinstance(value, dict | list) and value:
            yield from leaves(value, (*path, key))
        else:
            yield (*path, key)


def test_a_signed_case_opens_signed(signed):
    with ReviewSession.open(signed) as reading:
        assert (reading.seal.state, reading.state, reading.findings) == (SealState.HOLDS, State.SIGNED, ())
        assert reading.signature.observer == WHO[0]
    assert json.loads((signed / "report.json").read_text())["assessment"]["state"] == "signed"
    assert verify_case(signed).is_fine


def test_every_field_of_every_document_is_under_the_seal(signed):
    """Of case.json, report.json, signature.json and each line of the journal, one field after the other."""
    seen = 0
    for name in ("case.json", "report.json", "signature.json", "edits.jsonl"):
        path = signed / name
        content = path.read_text()
        document = json.loads(content)
        for keys in leaves(document):
            changed = json.loads(content)
            inner = changed
            for key in keys[:-1]:
                inner = inner[key]
            inner[keys[-1]] = "x" if inner[keys[-1]] != "x" else "y"
            path.write_text(json.dumps(changed) + "\n")
            verified = verify_case(signed)
            assert not verified.is_fine, (name, keys)
            seen += 1
        path.write_text(content)
    assert seen > 100
    assert verify_case(signed).is_fine


@pytest.mark.parametrize("name", [*SEALED_FILES, "edits.jsonl"])
def test_a_file_that_is_removed_or_swapped_is_seen(signed, tmp_path, name):
    other = saved(tmp_path / "other", hu=300, columns=5)
    (signed / name).unlink()
    assert not verify_case(signed).is_fine
    shutil.copy(other / name, signed / name)
    verified = verify_case(signed)
    assert not verified.is_fine
    assert verified.seal is None or name in verified.seal.changed


def test_an_altered_case_opens_and_says_what_was_altered(signed):
    document = json.loads((signed / "case.json").read_text())
    document["protocol"]["minimum_area_mm2"] = 50.0
    (signed / "case.json").write_text(json.dumps(document))
    with ReviewSession.open(signed) as reading:
        assert (reading.signature, reading.state) == (None, State.ALTERED)
        assert "altered after signing (case.json changed); it had been signed as Reader^Rita" in reading.findings[0]
        assert any("report.json has other numbers than the case (total" in finding for finding in reading.findings)
        reading.save_report()
    assert json.loads((signed / "report.json").read_text())["assessment"]["state"] == "altered"


def test_what_was_altered_can_be_looked_through_and_signed_again(signed):
    (signed / "report.json").write_text("{}")
    with ReviewSession.open(signed) as reading:
        assert reading.state is State.ALTERED
        reading.assign(2, Artery.LM)
        assert reading.state is State.ALTERED, "an edit heals nothing"
        reading.sign(*WHO, confirmed=True)
        assert reading.state is State.SIGNED
    assert verify_case(signed).is_fine


def test_a_report_that_is_brought_up_to_date_after_signing_leaves_the_signature_whole(signed):
    """As the browser does a second after the last edit, and the panel when a case is put away."""
    before = (signed / "report.json").read_bytes()
    reading = ReviewSession.open(signed)
    reading.save_report()
    reading.close()
    assert (signed / "report.json").read_bytes() == before
    assert verify_case(signed).is_fine


def test_an_edit_ends_a_signature_openly(signed):
    with ReviewSession.open(signed) as reading:
        reading.assign(2, Artery.LM)
        assert (reading.signature, reading.seal.state, reading.state) == (None, SealState.LAPSED, State.READ)
        reading.save_report()
    verified = verify_case(signed)
    assert verified.is_fine
    assert str(verified) == f"edited since it was signed; it had been signed as {WHO[0]}, {WHO[1]}, " + str(
        json.loads((signed / "signature.json").read_text())["when"]
    )


def test_with_a_key_nobody_else_can_sign_and_without_it_nothing_is_called_altered(tmp_path, monkeypatch):
    monkeypatch.setenv(KEY_VARIABLE, "secret")
    with ReviewSession.open(saved(tmp_path / "case")) as reading:
        reading.sign(*WHO, confirmed=True)
    assert verify_case(tmp_path / "case").seal.state is SealState.HOLDS
    monkeypatch.setenv(KEY_VARIABLE, "another")
    assert verify_case(tmp_path / "case").seal.state is SealState.ALTERED
    monkeypatch.delenv(KEY_VARIABLE)
    with ReviewSession.open(tmp_path / "case") as reading:
        assert (reading.seal.state, reading.signature) == (SealState.UNVERIFIED, None)
        assert f"set {KEY_VARIABLE}" in reading.findings[0]


def test_a_site_with_a_key_cannot_verify_what_was_signed_without_it(signed, monkeypatch):
    """Otherwise whoever can write the folder could leave the key out and sign as anybody."""
    monkeypatch.setenv(KEY_VARIABLE, "secret")
    verified = verify_case(signed)
    assert (verified.seal.state, verified.is_fine) == (SealState.UNVERIFIED, False)


def test_what_is_no_edit_behind_a_signed_journal_is_no_edit(signed):
    """A byte behind the signed lines must not pass for an edit that ends the signature openly and frees the report."""
    with (signed / "edits.jsonl").open("a") as file:
        file.write("x")
    (signed / "report.json").write_text((signed / "report.json").read_text().replace("6.0", "7.0"))
    seal = verify_case(signed).seal
    assert (seal.state, seal.changed) == (SealState.ALTERED, ("edits.jsonl", "report.json"))


def test_a_torn_journal_is_mended_before_it_is_signed(tmp_path):
    folder = saved(tmp_path / "case")
    with (folder / "edits.jsonl").open("a") as file:
        file.write('{"kind": "rea')
    with ReviewSession.open(folder) as reading:
        reading.sign(*WHO, confirmed=True)
        assert verify_case(folder).is_fine
        reading.assign(1, Artery.LM)
    assert verify_case(folder).seal.state is SealState.LAPSED


def test_one_case_that_cannot_be_read_does_not_hide_the_others(signed, tmp_path):
    (signed / "edits.jsonl").unlink()
    verified = verify_case(signed)
    assert (verified.is_fine, verified.seal) == (False, None)
    assert "expected the edits of the case" in verified.problem


def test_an_automatic_result_that_was_swapped_is_seen_without_a_signature(tmp_path):
    folder, other = saved(tmp_path / "case"), saved(tmp_path / "other", columns=5)
    shutil.copy(other / "auto.seg.nrrd", folder / "auto.seg.nrrd")
    assert verify_case(folder).problem == "auto.seg.nrrd is not the automatic result that was saved"


def test_a_second_window_reads_and_does_not_edit(tmp_path):
    folder = saved(tmp_path / "case")
    with ReviewSession.open(folder, reader="Rita") as first:
        with ReviewSession.open(folder, reader="Omar") as second:
            assert second.held_by.reader == "Rita"
            assert "open elsewhere (Rita on" in second.findings[0]
            for edit in (lambda: second.assign(1, Artery.LM), lambda: second.sign(*WHO, confirmed=True)):
                with pytest.raises(InputRefused, match="close it there"):
                    edit()
        assert first.assign(1, Artery.LM)
    with ReviewSession.open(folder, reader="Omar") as third:
        assert third.held_by is None
        assert third.undo()


def test_a_session_that_takes_the_place_of_another_has_its_lock(tmp_path):
    folder = saved(tmp_path / "case")
    first = ReviewSession.open(folder)
    again = ReviewSession.open(folder, instead_of=first)
    first.close()
    assert again.assign(1, Artery.LM)
    back = ReviewSession.open(folder, instead_of=again)
    back.close(instead_of=again)
    assert again.undo()
    again.close()


def test_a_torn_journal_opens_with_what_was_whole(tmp_path):
    folder = saved(tmp_path / "case")
    with ReviewSession.open(folder) as reading:
        reading.assign(1, Artery.LM)
        reading.remove(2)
        expected = reading.case.undo().report
    path = folder / "edits.jsonl"
    path.write_bytes(path.read_bytes()[:-10])
    with ReviewSession.open(folder) as reading:
        assert reading.case.report == expected
        assert "the edits before them (1) were opened" in reading.findings[0]
        reading.undo()
    with ReviewSession.open(folder) as reading:
        assert len(reading.case.edits) == 2


def test_folders_of_cases_are_found(tmp_path):
    for name in ("a", "b"):
        (tmp_path / "results" / name).mkdir(parents=True)
    folders = [saved(tmp_path / "results" / name / "case") for name in ("a", "b")]
    assert find_case_folders([tmp_path / "results"]) == folders
    with pytest.raises(InputRefused, match=r"found no case\.json"):
        find_case_folders([tmp_path / "nothing"])


def test_a_signature_that_was_removed_is_missed(signed):
    """The report says that somebody signed; to take a signature back leaves a record of it."""
    (signed / "signature.json").unlink()
    with ReviewSession.open(signed) as session:
        assert session.seal.state is SealState.ALTERED
        assert session.seal.changed == ("signature.json",)
        assert session.signature is None


def test_a_signature_that_was_taken_back_is_none(signed):
    with ReviewSession.open(signed) as session:
        assert session.grade(replace(session.case.risk_inputs, age_years=61.0))
    with ReviewSession.open(signed) as session:
        assert session.seal.state is SealState.NONE
        assert not session.findings


def damaged(name, change):
    def damage(folder):
        document = json.loads((folder / name).read_text())
        change(document)
        (folder / name).write_text(json.dumps(document))

    return damage


DEEP = "[" * 100_000


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (damaged("case.json", lambda d: d.pop("checksums")), "expected an object for checksums, found nothing"),
        (damaged("case.json", lambda d: d["checksums"].pop("voxels_sha256")), "expected the checksum voxels_sha256"),
        (damaged("case.json", lambda d: d["risk_inputs"].update(age_years="sixty")), "a number for age_years"),
        (damaged("case.json", lambda d: d["risk_inputs"].update(age_years=float("nan"))), "case.json: no JSON"),
        (damaged("case.json", lambda d: d.update(protocol=None)), "expected an object for protocol, found NoneType"),
        (damaged("case.json", lambda d: d.update(provenance=[])), "expected an object for provenance, found list"),
        (lambda folder: (folder / "case.json").write_text(DEEP), "case.json: nested too deep"),
        (lambda folder: (folder / "case.json").write_bytes(b"\xff\xfe"), "case.json: no JSON"),
        (lambda folder: (folder / "case.json").write_text("[]"), "case.json: expected an object, found list"),
    ],
)
def test_a_part_of_a_case_that_is_damaged_is_named(signed, damage, words):
    damage(signed)
    with pytest.raises(InputRefused, match=words):
        ReviewSession.open(signed)
    assert words in verify_case(signed).problem


@pytest.mark.parametrize(
    "damage",
    [
        damaged("signature.json", lambda d: d.pop("observer")),
        damaged("signature.json", lambda d: d.update(observer=None)),
        damaged("signature.json", lambda d: d.update(when=5)),
        damaged("signature.json", lambda d: d.update(files=float("nan"))),
        lambda folder: (folder / "signature.json").write_text(DEEP),
        lambda folder: ((folder / "signature.json").unlink(), (folder / "signature.json").mkdir()),
        lambda folder: (folder / "report.json").write_text(DEEP),
    ],
)
def test_a_signature_that_is_damaged_is_an_altered_one(signed, damage):
    damage(signed)
    with ReviewSession.open(signed) as session:
        assert session.seal.state is SealState.ALTERED
        assert session.signature is None
    assert not verify_case(signed).is_fine


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes")
@pytest.mark.parametrize("name", ["case.json", "report.json", "signature.json", "edits.jsonl", ".lock"])
def test_a_named_pipe_in_a_case_is_not_waited_for(signed, name):
    (signed / name).unlink(missing_ok=True)
    os.mkfifo(signed / name)
    if name in ("case.json", "edits.jsonl"):
        with pytest.raises(InputRefused, match=r"expected a regular file|holds no HeartLens case"):
            ReviewSession.open(signed)
    else:
        with ReviewSession.open(signed) as session:
            assert session.findings
    assert verify_case(signed).is_fine == (name == ".lock")


@pytest.mark.parametrize("name", [".lock", "edits.jsonl", "edits.torn", "report.json", "signature.json"])
def test_a_link_in_a_case_lets_nobody_write_into_another_file_of_the_reader(signed, tmp_path, name):
    mine = tmp_path / "mine"
    mine.write_text("# not for others")
    (signed / name).unlink(missing_ok=True)
    (signed / name).symlink_to(mine)
    with ReviewSession.open(signed) as session:
        for act in (
            lambda: session.remove(2),
            session.save_report,
            lambda: session.sign(*WHO, confirmed=True),
            lambda: session.grade(replace(session.case.risk_inputs, age_years=61.0)),
        ):
            with suppress(InputRefused, OSError):
                act()
    assert mine.read_text() == "# not for others"


def test_a_report_that_says_signed_without_a_signature_is_told_and_written_again(signed):
    """What a program leaves that is killed between the two renames of signing."""
    (signed / "signature.json").write_text('{"schema": "heartlens.signature/2", "withdrawn": "now"}')
    verified = verify_case(signed)
    assert (verified.is_fine, verified.problem) == (False, "report.json says signed, and no signature holds that")
    with ReviewSession.open(signed) as reading:
        assert reading.state is State.READ
    assert json.loads((signed / "report.json").read_text())["assessment"]["state"] == "read"
    assert verify_case(signed).is_fine


def test_what_is_altered_stays_as_it_was_found(signed):
    """It is evidence: nobody brings its report up to date by looking at it."""
    document = json.loads((signed / "case.json").read_text())
    (signed / "case.json").write_text(json.dumps({**document, "notice": "none"}))
    before = (signed / "report.json").read_bytes()
    with ReviewSession.open(signed) as reading:
        assert reading.state is State.ALTERED
    assert (signed / "report.json").read_bytes() == before


def state_on_disk(folder):
    report = json.loads((folder / "report.json").read_text())
    return report["assessment"]["state"], report["edits"]


@pytest.mark.parametrize("key", [None, "secret"])
def test_an_edit_that_ends_a_signature_ends_it_on_the_disk_before_it_is_answered(signed, monkeypatch, key):
    """Whether or not it could be verified: with a key here, what was signed without one cannot."""
    if key:
        monkeypatch.setenv(KEY_VARIABLE, key)
    reading = ReviewSession.open(signed)
    assert state_on_disk(signed) == ("signed", 1)
    reading.assign(2, Artery.LM)
    assert state_on_disk(signed) == ("read", 2), "nobody has saved or closed anything"
    reading.remove(2)
    reading.save_report()
    reading.close()
    assert state_on_disk(signed) == ("read", 3)
    with ReviewSession.open(signed) as again:
        assert again.seal.is_edited
        assert again.seal.state is (SealState.UNVERIFIED if key else SealState.LAPSED)
        assert ("and edited since" in str(again.seal)) == bool(key)


def test_a_report_that_was_left_signed_behind_a_later_edit_is_written_again_when_the_case_is_opened(signed):
    """What a disk leaves that took the edit and had no room for the report."""
    before = (signed / "report.json").read_bytes()
    with ReviewSession.open(signed) as reading:
        reading.assign(2, Artery.LM)
    (signed / "report.json").write_bytes(before)
    with ReviewSession.open(signed):
        pass
    assert state_on_disk(signed) == ("read", 2)


def test_an_edit_does_not_heal_a_case_whose_signature_was_removed(signed):
    (signed / "signature.json").unlink()
    with ReviewSession.open(signed) as reading:
        reading.assign(2, Artery.LM)
        reading.save_report()
    assert state_on_disk(signed) == ("altered", 2)
    with ReviewSession.open(signed) as reading:
        assert reading.state is State.ALTERED
