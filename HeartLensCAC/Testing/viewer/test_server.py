"""The server of `heartlens review`: who is let in, what an edit may be, and that none is lost."""

from __future__ import annotations

import http.client
import json
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from small_chest import AGATSTON
from viewer.reviewed_chest import (
    LAD,
    LIMIT_SECONDS,
    NAME,
    RCA,
    Server,
    hu,
    labels_of_seg,
    labels_of_state,
    other_hu,
    scored_plainly,
    write_case,
)

from heartlens.__main__ import main
from heartlens.app.review_session import ReviewSession
from heartlens.case.folder import load_case
from heartlens.case.looked_at import VIEWED, LookedAt
from heartlens.core.errors import InputRefused
from heartlens.core.lesions import Artery
from heartlens.viewer.app import STATIC, Worklist, make_app
from heartlens.viewer.edits import MAX_VOXELS
from heartlens.viewer.guard import MAX_BODY_BYTES
from heartlens.viewer.listed import Listed
from heartlens.viewer.serve import serve

EDIT = "api/cases/0/edit"


def agatston(state, name):
    return next(row["agatston"] for row in state["totals"] if row["name"] == name)


def raw(server, lines, body=b"", *, host=None):
    """Status and body of a request written by hand."""
    port = int(server.base.rstrip("/").rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), LIMIT_SECONDS) as plug:
        host = f"127.0.0.1:{port}" if host is None else host
        plug.sendall(("\r\n".join([lines[0], f"Host: {host}", *lines[1:], "Connection: close", "", ""])).encode())
        plug.sendall(body)
        answer = http.client.HTTPResponse(plug)
        answer.begin()
        return answer.status, answer.read()


# What it shows


def test_the_address_listens_on_this_computer_alone_and_the_scan_arrives_voxel_by_voxel(unedited):
    status, answer, headers = unedited.ask("api/cases/0")
    assert status == 200
    scan, state = answer["scan"], answer["state"]
    assert scan["shape"] == list(hu().shape)
    assert headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'self'")
    assert headers["Cache-Control"] == "no-store"
    assert [row["id"] for row in state["lesions"]] == [RCA, LAD], "what is to be decided comes first"
    assert state["lesions"][0]["undecided"]
    assert agatston(state, "LAD") == str(round(AGATSTON[Artery.LAD]))
    assert agatston(state, "total") == "2700"
    _, voxels, headers = unedited.ask("api/cases/0/ct?first=12")
    order = [*range(12, 20), *range(11, -1, -1)]
    assert headers["x-first-slice"] == "12"
    assert np.array_equal(np.frombuffer(voxels, "<i2").reshape(hu().shape), hu()[order])
    ports = [line.split()[1] for line in Path("/proc/net/tcp").read_text().splitlines()[1:] if line.split()[3] == "0A"]
    mine = f"{int(unedited.base.rstrip('/').rpartition(':')[2]):04X}"
    assert [at for at in ports if at.endswith(f":{mine}")] == [f"0100007F:{mine}"]


def test_the_pages_need_nothing_from_elsewhere(unedited):
    for path in (path for path in STATIC.rglob("*") if path.is_file()):
        status, content, headers = unedited.ask(path.relative_to(STATIC).as_posix(), X_HeartLens_Token="")
        assert (status, content) == (200, path.read_bytes()), path.name
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert b"http://" not in content, path.name
        assert b"https://" not in content, path.name
    assert unedited.ask("")[1] == (STATIC / "index.html").read_bytes()


def test_names_are_shown_when_asked_for_and_are_text(case):
    with Server("--identify", case) as server:
        assert server.ask("api/cases/0")[1]["scan"]["identity"] == f"P1 · Ann {NAME.partition('^')[0]}"
    with Server(case) as server:
        assert NAME.partition("^")[0] not in json.dumps(server.ask("api/cases/0")[1])


# Who is let in


@pytest.mark.parametrize(
    "headers",
    [
        {"X_HeartLens_Token": ""},
        {"X_HeartLens_Token": "guess"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
        {"Host": "evil.example"},
        {"Host": "127.0.0.1:1"},
        {"Host": ""},
    ],
)
@pytest.mark.parametrize("path", ["api/cases/0", "api/cases/0/ct", "api/cases/0/readings", EDIT])
def test_nobody_else_is_let_in(unedited, path, headers):
    words = {"version": 0, "kind": "remove", "lesion": LAD} if path == EDIT else None
    status, answer, _ = unedited.ask(path, words, **headers)
    assert status in (401, 403)
    assert answer["error"].endswith(".")
    assert unedited.state()["version"] == 0


def test_a_name_that_points_here_gets_no_page_either(unedited):
    assert raw(unedited, ["GET / HTTP/1.1"], host="rebound.example")[0] == 403
    assert raw(unedited, ["GET / HTTP/1.1", "Host: 127.0.0.1"])[0] in (400, 403), "two hosts"
    assert raw(unedited, ["GET / HTTP/1.1"])[0] == 200


@pytest.mark.parametrize(
    "path",
    [
        "/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/..%2f..%2fapp.py", "/app.py", "/static/main.js",
        "//etc/passwd",
        "/api/cases/1", "/api/cases/-1", "/api/cases/0/../0", "/api/cases/0/exports/..%2f..%2f/case.json",
        "/api/cases/0/exports/case/case.json", "/api/cases/0/exports/%2e%2e/case.json", "/api/nothing",
    ],
)  # fmt: skip
def test_no_path_leads_out_of_what_is_served(unedited, path):
    status, body = raw(unedited, [f"GET {path} HTTP/1.1", f"X-HeartLens-Token: {unedited.token}"])
    assert status == 404
    assert json.loads(body)["error"].endswith(".")


PLAIN = {"number:int": "0", "export": "signed", "file": "report.dcm", "name": "main.js", "folder": "images"}


def test_in_no_route_a_name_leads_out_of_what_is_served(unedited):
    """Each part of each route in turn is a way up."""
    templates = [route.path for route in make_app(Worklist(()), "", ())._app.routes]
    tried = 0
    for template in templates:
        for part in re.findall(r"{([^}]*)}", template):
            for way in ("..", "%2e%2e", "..%2f..%2f..%2fetc%2fpasswd", "%2fetc%2fpasswd", "0%2f..%2f0", "-1", "%00"):
                words = {**PLAIN, part: way}
                path = re.sub(r"{([^}]*)}", lambda found, words=words: words[found[1]], template)
                status, body = raw(unedited, [f"GET {path} HTTP/1.1", f"X-HeartLens-Token: {unedited.token}"])
                assert status in (404, 405), path
                assert json.loads(body)["error"].endswith("."), path
                tried += 1
    assert tried > 100
    assert unedited.state()["version"] == 0


def test_a_method_that_is_not_meant_changes_nothing(unedited):
    for method in ("DELETE", "PUT", "OPTIONS", "POST"):
        assert unedited.ask("api/cases/0/state", {}, method=method)[0] in (404, 405)
    assert unedited.ask("main.js", {}, method="POST")[0] == 405


def test_two_gigabytes_are_refused_before_they_are_sent(unedited):
    token = f"X-HeartLens-Token: {unedited.token}"
    status, body = raw(unedited, [f"POST /{EDIT} HTTP/1.1", token, "Content-Length: 2147483648"])
    assert (status, json.loads(body)["error"]) == (413, "A request may have 16 MB; mark less at once.")
    chunks = (
        b"".join(b"100000\r\n" + b" " * 0x100000 + b"\r\n" for _ in range(MAX_BODY_BYTES // 0x100000)) + b"1\r\n \r\n"
    )
    status, body = raw(unedited, [f"POST /{EDIT} HTTP/1.1", token, "Transfer-Encoding: chunked"], chunks)
    assert status == 413
    assert unedited.state()["version"] == 0


# What an edit may be


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ({"kind": "nothing"}, "This edit is unknown here"),
        ({"kind": "assign", "lesion": 99, "artery": "LM"}, "This lesion is no longer there"),
        ({"kind": "assign", "lesion": True, "artery": "LM"}, "This lesion is no longer there"),
        ({"kind": "assign", "lesion": LAD, "artery": "UNASSIGNED"}, "Calcium can be given to LM, LAD, LCX, RCA, OTHER"),
        ({"kind": "assign", "lesion": LAD, "artery": ["LM"]}, "Calcium can be given to"),
        ({"kind": "click", "kji": [0, 0, 0], "artery": "LM"}, "No voxel of 130 HU or more within"),
        ({"kind": "click", "kji": [0, 0], "artery": "LM"}, "A click is a point"),
        ({"kind": "click", "kji": [0, 1e300, 0], "artery": "LM"}, "A click is a point"),
        ({"kind": "voxels", "runs": [], "artery": "LM"}, "Nothing was marked"),
        ({"kind": "voxels", "runs": [[-1, 2]], "artery": "LM"}, "What was marked cannot be read"),
        ({"kind": "voxels", "runs": [[31999, 2]], "artery": "LM"}, "What was marked lies outside"),
        ({"kind": "voxels", "runs": [[0, 1.5]], "artery": "LM"}, "What was marked cannot be read"),
        ({"kind": "voxels", "runs": [[0, 32000]] * 32, "artery": "LM"}, f"One edit may mark {MAX_VOXELS} voxels"),
        ({"kind": "undo"}, "Nothing to undo."),
        ({"kind": "redo"}, "Nothing to redo."),
    ],
)
def test_an_edit_that_cannot_be_meant_is_refused_in_a_sentence(unedited, words, sentence):
    status, answer = unedited.edit(**words)
    assert status == 422
    assert answer["error"].startswith(sentence)
    assert unedited.state()["version"] == 0


def test_a_million_voxels_each_alone_are_read_and_more_are_refused(unedited):
    """As the page writes them, without a space; of 9 digits in a scan of 500 slices, which this one has not."""
    last = 999_999_999
    runs = ",".join(f"[{n},1]" for n in range(last, last - 2 * MAX_VOXELS, -2))
    body = f'{{"kind":"voxels","artery":"LM","version":0,"runs":[{runs}]}}'.encode()
    status, answer, _ = unedited.ask(EDIT, body=body)
    assert (status, answer["error"]) == (422, "What was marked lies outside of the scan; mark it again.")
    body = body.replace(b"[[", b"[[0,1],[")
    status, answer, _ = unedited.ask(EDIT, body=body)
    assert (status, answer["error"].partition(",")[0]) == (422, f"One edit may mark {MAX_VOXELS} voxels")
    status, answer, _ = unedited.ask(EDIT, body=body + b" " * (MAX_BODY_BYTES + 1 - len(body)))
    assert (status, answer["error"]) == (413, "A request may have 16 MB; mark less at once.")
    assert unedited.edit(kind="voxels", runs=[[0, 10_000_000]], artery="LM")[0] == 422


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"null", b"[" * 100_000, b'{"version": NaN}', b"\xff\xfe"])
def test_what_is_no_request_is_refused(unedited, body):
    status, answer, _ = unedited.ask(EDIT, body=body, method="POST")
    assert status == 422
    assert "no JSON object" in answer["error"]


def test_every_edit_is_what_a_second_scorer_makes_of_it(server):
    flat = np.arange(hu().size).reshape(hu().shape)
    steps = [
        ({"kind": "assign", "lesion": RCA, "artery": "LCX"}, {"LAD": 900, "LCX": 1800}),
        ({"kind": "click", "kji": [12, 15, 13], "artery": "LM"}, {"LM": 1350, "LAD": 900, "LCX": 1800}),
        ({"kind": "click", "kji": [8, 15, 23], "artery": "RCA", "part": True},
         {"LM": 1350, "LAD": 450, "RCA": 450, "LCX": 1800}),
        ({"kind": "voxels", "runs": [[int(flat[8, j, 22]), 3] for j in (14, 15, 16)], "artery": None},
         {"LM": 1350, "LAD": 450, "LCX": 1800}),
        ({"kind": "voxels", "runs": [[int(flat[5, j, 15]), 1] for j in (17, 18, 19)], "artery": "LM"},
         {"LM": 1350 + 3 * 25 * 4, "LAD": 450, "LCX": 1800 - 3 * 25 * 4}),
        ({"kind": "undo"}, {"LM": 1350, "LAD": 450, "LCX": 1800}),
        ({"kind": "redo"}, {"LM": 1650, "LAD": 450, "LCX": 1500}),
        ({"kind": "remove", "lesion": LAD}, {"LM": 1650, "LCX": 1500}),
    ]  # fmt: skip
    for words, expected in steps:
        status, state = server.edit(**words)
        assert status == 200, state
        plain = scored_plainly(labels_of_state(state))
        assert plain == {**dict.fromkeys(plain, 0.0), **expected}, words
        for name in ("LM", "LAD", "LCX", "RCA"):
            assert agatston(state, name) == str(expected.get(name, 0))
    assert state["can_undo"]


def test_a_stale_page_is_told_and_changes_nothing(server):
    assert server.edit(kind="assign", lesion=LAD, artery="RCA")[0] == 200
    for path in (EDIT, "api/cases/0/sign", "api/cases/0/export"):
        for version in (0, None, True, "1"):
            words = {"version": version, "kind": "remove", "lesion": LAD}
            status, answer, _ = server.ask(path, words)
            assert (status, answer["code"]) == (409, "stale")
    assert server.state()["version"] == 1


def test_of_pages_that_edit_at_once_one_is_first(server):
    answers = []
    words = {"version": 0, "kind": "assign", "lesion": LAD, "artery": "RCA"}
    threads = [threading.Thread(target=lambda: answers.append(server.ask(EDIT, words)[0])) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_SECONDS)
    assert sorted(answers) == [200] + [409] * 7


# Nothing is lost


KILLS = int(os.environ.get("HEARTLENS_KILLS", "20" if os.environ.get("CI") == "true" else "4"))


def test_a_killed_server_loses_no_answered_edit(case, tmp_path):
    """HEARTLENS_KILLS=200 kills so often, and HEARTLENS_KILLS_PAGE=docs/kills.md writes there what came of it."""
    rng = random.Random(3)
    told = silent = 0
    for n in range(KILLS):
        own = tmp_path / f"case-{n}"
        shutil.copytree(case, own)
        answered = 0
        with Server(own) as server:
            try:
                while True:
                    artery = ("LM", "RCA", "LCX")[answered % 3]
                    words = {"version": answered, "kind": "assign", "lesion": LAD, "artery": artery}
                    status, state, _ = server.ask(EDIT, words)
                    assert status == 200
                    assert state["version"] == answered + 1
                    answered += 1
                    if answered == 1:  # before, it opens the case
                        threading.Timer(rng.uniform(0, 0.3), server.process.kill).start()
            except (OSError, http.client.HTTPException):
                pass
        edits = load_case(own).edits
        assert len(edits) in (answered, answered + 1), "the last one may be on the disk without an answer"
        assert [edit.kind for edit in edits] == ["reassign"] * len(edits)
        told, silent = told + answered, silent + len(edits) - answered
    assert told > 2 * KILLS, "it is killed while it edits"
    if os.environ.get("HEARTLENS_KILLS_PAGE"):
        page = Path(os.environ["HEARTLENS_KILLS_PAGE"])
        before = page.read_text(encoding="utf-8").partition("\n## The server")[0].rstrip()
        page.write_text(before + SERVER_KILLS.format(kills=KILLS, told=told, silent=silent), "utf-8")


SERVER_KILLS = """

## The server of the page

`heartlens review` was killed while a page sent one edit after the other, each as soon as the one before was answered.

| kills | edits answered | of these lost | on the disk without an answer | cases that do not open |
|---:|---:|---:|---:|---:|
| {kills} | {told} | 0 | {silent} | 0 |
"""


def test_the_command_line_and_the_browser_are_one_case(server, case):
    _, state = server.edit(kind="assign", lesion=RCA, artery="LM")
    loaded = load_case(case)
    assert loaded.report.arteries[Artery.LM].agatston == 1800
    assert state["version"] == len(loaded.edits)
    with ReviewSession.open(case) as second:
        assert second.held_by is not None, "who comes second reads"
    assert server.stop() == (0, server_log())
    assert json.loads((case / "report.json").read_text())["edits"] == 1, "brought up to date at the end"
    with ReviewSession.open(case) as desktop:
        desktop.remove(LAD)
    with Server(case) as again:
        assert [row["id"] for row in again.state()["lesions"]] == [RCA]


def server_log():
    return (
        "open it in a browser on this computer; whoever has the address can edit. Ctrl-C ends it\n"
        "ended; every edit is on the disk\n"
    )


def test_a_case_that_is_open_elsewhere_can_be_read_and_not_edited(server, case):
    with Server(case) as second:
        assert "open elsewhere" in second.state()["read_only"]
        status, answer = second.edit(kind="remove", lesion=LAD)
        assert status == 422
        assert "close it there" in answer["error"]
    assert server.edit(kind="remove", lesion=LAD)[0] == 200


# Signing


def test_signing_waits_for_what_is_undecided_and_writes_what_was_seen(server, case):
    sign = {"observer": "Reader^Rita", "organization": "Phantom Hospital", "confirmed": True}
    status, answer, _ = server.ask("api/cases/0/sign", {**sign, "version": 0})
    assert status == 422
    assert "is undecided" in answer["error"]
    assert server.edit(kind="assign", lesion=RCA, artery="RCA")[0] == 200, "deciding: it is what it is called"
    for missing in ({"confirmed": False}, {"observer": " "}, {"organization": 3}, {"confirmed": "yes"}):
        assert server.ask("api/cases/0/sign", {**sign, "version": 1, **missing})[0] == 422
    status, state, _ = server.ask("api/cases/0/sign", {**sign, "version": 1})
    assert status == 200
    assert state["is_signed"]
    assert state["state_words"].startswith("SIGNED by Rita Reader, Phantom Hospital")
    out = Path(state["written"]["folder"])
    assert out == case.parent / "signed"
    assert state["exports"]["signed"] == sorted(path.name for path in out.iterdir() if path.is_file())
    assert state["written"]["left_out"] == []
    assert scored_plainly(labels_of_seg(out / "segmentation.dcm")) == scored_plainly(labels_of_state(state))
    status, sent, _ = server.ask("api/cases/0/exports/signed/report.dcm")
    assert (status, sent) == (200, (out / "report.dcm").read_bytes())
    for name in ("case", "case%2Fcase.json", "..%2Fcase%2Fcase.json", "%2e%2e", "nothing.dcm"):
        assert server.ask(f"api/cases/0/exports/signed/{name}")[0] == 404, name
    status, state = server.edit(kind="remove", lesion=LAD)
    assert status == 200
    assert not state["is_signed"]


def test_a_zero_is_signed_by_who_has_looked_through_the_heart(tmp_path):
    case = write_case(tmp_path, is_empty=True)
    sign = {"observer": "Reader^Rita", "organization": "Clinic", "confirmed": True, "version": 0}
    with Server("--reader", "Rita", case) as server:
        first, end = server.ask("api/cases/0/heart")[1]["slices"]
        assert 0 <= first < end <= hu().shape[0]
        status, answer, _ = server.ask("api/cases/0/sign", sign)
        assert status == 422
        assert answer["error"].startswith(f"A score of 0 is a claim about every slice: slices {first + 1}–{end} of")
        server.ask("api/cases/0/look", {"slices": list(range(first, end - 1)), "lesions": []})
        assert server.ask("api/cases/0/sign", sign)[0] == 422, "one slice is left"
    with Server("--reader", "Rita", case) as server:  # what was seen is known the next day
        assert server.ask("api/cases/0/sign", sign)[1]["error"].endswith(
            f"slices {end} of the heart were not on the screen yet."
        )
        server.ask("api/cases/0/look", {"slices": [end - 1, 10**9, -1, "x"], "lesions": "all"})
        assert server.ask("api/cases/0/sign", sign)[0] == 200


@pytest.mark.parametrize("content", ["", "{}", '{"readers": {"Rita": 7}}', '{"readers": {"Rita": {"slices": ["a"]}}}'])
def test_a_damaged_list_of_what_was_seen_counts_as_nothing_seen(tmp_path, content):
    (tmp_path / VIEWED).write_text(content)
    assert LookedAt(tmp_path, "Rita").missing(range(3)) == [(0, 2)]


def test_what_another_reader_saw_is_not_what_this_one_saw(tmp_path):
    LookedAt(tmp_path, "Rita").add([0, 1, 5], [7])
    second = LookedAt(tmp_path, "Ravi")
    second.add([2], [])
    assert second.missing(range(4)) == [(0, 1), (3, 3)]
    again = LookedAt(tmp_path, "Rita")
    assert (again.slices, again.lesions) == ({0, 1, 5}, {7})
    LookedAt(tmp_path, "Rosa", is_kept=False).add([3], [])
    assert LookedAt(tmp_path, "Rosa").slices == set()


# The command


def damaged_case(place):
    (place / "case").mkdir()
    (place / "case" / "case.json").write_text("{}")
    return place


def without_ct(place):
    case = write_case(place)
    (place / "ct").rename(place / "moved")
    return case


def with_other_voxels(place):
    """Somebody has changed the CT since it was scored."""
    case, other = write_case(place), place / "other"
    other.mkdir()
    write_case(other, image=other_hu())
    shutil.rmtree(place / "ct")
    (other / "ct").rename(place / "ct")
    document = json.loads((case / "case.json").read_text())
    series = json.loads((other / "result" / "case" / "case.json").read_text())["series_uid"]
    (case / "case.json").write_text(json.dumps({**document, "series_uid": series}))
    return case


def refused(*words):
    """What the command printed, in a process of its own: in this one another test's browser may have an event loop."""
    run = subprocess.run(
        [sys.executable, "-m", "heartlens", "review", *map(str, words)], cwd=STATIC.parents[2], capture_output=True,
        text=True, timeout=LIMIT_SECONDS, check=False,
    )  # fmt: skip
    assert run.returncode == 3
    return run.stdout, run.stderr.splitlines()


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda place: place / "nowhere", "found nothing; check the name"),
        (damaged_case, "case.json: expected a text for schema, found nothing"),
        (without_ct, "found nothing; bring it back"),
    ],
)
def test_what_cannot_be_opened_is_refused_in_a_line_and_gets_no_address(tmp_path, make, sentence):
    address, (told,) = refused(make(tmp_path))
    assert address == ""
    assert told.startswith("error: ")
    assert sentence in told


def test_a_ct_that_was_changed_is_refused_as_soon_as_it_is_read(tmp_path):
    *_, told = refused(with_other_voxels(tmp_path))[1]
    assert told.startswith("error: checksum: the CT's voxels are not those that were scored")


def test_an_address_is_told_when_the_first_case_is_open_or_takes_its_time(case, monkeypatch):
    told, ended = threading.Event(), []

    def work(listed):
        """In a thread that no browser of another test has an event loop in."""
        try:
            serve([listed], on_ready=lambda _address: told.set())
        except InputRefused as refused:
            ended.append((refused.text, told.is_set()))

    def serve_to_the_end(listed):
        thread = threading.Thread(target=work, args=(listed,))
        thread.start()
        thread.join(LIMIT_SECONDS)

    def refuse(*_arguments, **_names):
        raise InputRefused("input", "it is none")

    def refuse_late(*_arguments, **_names):
        assert told.wait(LIMIT_SECONDS), "it takes longer than the address waits"
        refuse()

    serve_to_the_end(Listed(case, refuse))
    monkeypatch.setattr("heartlens.viewer.open_case.OpenCase", refuse)
    serve_to_the_end(Listed(case, lambda: None))
    monkeypatch.setattr("heartlens.viewer.open_case.OpenCase", refuse_late)
    serve_to_the_end(Listed(case))
    assert ended == [("it is none", False), ("it is none", False), ("it is none", True)]


def test_a_port_that_is_taken_is_refused(unedited, case, capsys):
    port = unedited.base.rstrip("/").rpartition(":")[2]
    assert main(["review", "--port", port, str(case)]) == 3
    assert "choose another --port" in capsys.readouterr().err


def test_several_cases_are_a_list_and_the_next_is_at_hand(case, written_once, tmp_path):
    for name in ("a", "b"):
        shutil.copytree(written_once / "result", tmp_path / "list" / name)
    with Server(tmp_path / "list") as server:
        assert server.ask("api/cases/0")[1]["cases"] == 2
        assert server.ask("api/cases/0")[1]["scan"]["name"] == "a"
        assert server.ask("api/cases/1")[1]["scan"]["name"] == "b"
        words = {"version": 0, "kind": "remove", "lesion": LAD}
        assert server.ask("api/cases/1/edit", words)[0] == 200
        assert len(server.ask("api/cases/0/state")[1]["lesions"]) == 2
