"""DICOMweb against an archive that answers right, wrong, half or not at all."""

from __future__ import annotations

import json
import logging

import httpx
import pytest
import small_chest
from pydicom import dcmread

from heartlens.pacs.archive import ArchiveError, FoundSeries, Query, image_count
from heartlens.pacs.dicomweb import DicomWeb, first_part
from heartlens.pacs.profiles import DicomWebProfile

PROFILE = DicomWebProfile("main", "https://pacs.example/dicom-web")


def archive(answer, profile=PROFILE):
    return DicomWeb(profile, httpx.MockTransport(answer))


def entry(**values):
    return {tag: {"vr": "XX", "Value": [value]} for tag, value in values.items()}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Three images of one series, by UID, and what lists them."""
    paths = small_chest.write_series(tmp_path_factory.mktemp("ct"), StudyInstanceUID="1.2", SeriesInstanceUID="1.2.3")
    return {str(dcmread(path).SOPInstanceUID): path for path in paths[:3]}


class Server:
    """An archive of those images; what it does otherwise is said by `change`, which sees each request first."""

    def __init__(self, images, change=lambda request: None):
        self.images, self.change, self.asked = images, change, []

    def __call__(self, request):
        self.asked.append(request)
        changed = self.change(request)
        if changed is not None:
            return changed
        place = request.url.path.removeprefix("/dicom-web")
        if place.endswith("/instances"):
            return httpx.Response(200, json=[entry(**{"00080018": uid}) for uid in self.images])
        if "/instances/" in place:
            data = self.images[place.rpartition("/")[2]].read_bytes()
            body = b"--x\r\nContent-Type: application/dicom\r\n\r\n" + data + b"\r\n--x--"
            return httpx.Response(200, content=body, headers={"Content-Type": "multipart/related; boundary=x"})
        return httpx.Response(
            200, json=[entry(**{"0020000E": "1.2.3", "00080060": "CT", "00201209": len(self.images)})]
        )


SERIES = FoundSeries("1.2", "1.2.3", "CT", "", 3)


def test_a_series_comes_bit_for_bit_and_its_count_is_the_archives(images, tmp_path):
    server = Server(images)
    web = archive(server)
    assert web.fetch(SERIES, tmp_path / "ct") == 3
    got = {str(dcmread(p).SOPInstanceUID): p.read_bytes() for p in (tmp_path / "ct").iterdir()}
    assert got == {uid: path.read_bytes() for uid, path in images.items()}
    assert image_count(web, "1.2", "1.2.3") == 3
    assert image_count(archive(lambda request: httpx.Response(204)), "1.2", "1.2.3") is None


def test_fewer_images_than_the_archive_says_are_no_series(images, tmp_path):
    short = dict(list(images.items())[:2])
    with pytest.raises(ArchiveError, match="says 3 images and lists 2") as error:
        archive(Server(short)).fetch(SERIES, tmp_path / "ct")
    assert error.value.code == "missing"


def test_another_image_than_the_one_asked_for_is_not_taken(images, tmp_path):
    first, second, _ = images
    swapped = {**images, first: images[second]}
    with pytest.raises(ArchiveError, match="something else than the image") as error:
        archive(Server(swapped)).fetch(SERIES, tmp_path / "ct")
    assert error.value.code == "garbage"


HTML = httpx.Response(200, text="<html>Sign in</html>", headers={"Content-Type": "text/html"})


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (HTML, "garbage"),
        (httpx.Response(200, json={"error": "no"}), "garbage"),
        (httpx.Response(200, json=[1, 2]), "garbage"),
        (httpx.Response(200, content=b'[{"0020000D"'), "garbage"),
        (httpx.Response(200, content=b"[" * 100_000), "garbage"),
        (httpx.Response(401), "refused"),
        (httpx.Response(404), "refused"),
        (httpx.Response(302, headers={"Location": "https://elsewhere.example"}), "refused"),
        (httpx.Response(503), "down"),
        (httpx.ConnectError("no"), "down"),
        (httpx.ReadTimeout("slow"), "down"),
    ],
)
def test_what_an_archive_answers_wrongly_is_told_apart(answer, code):
    def say(request):
        if isinstance(answer, Exception):
            raise answer
        return answer

    with pytest.raises(ArchiveError, match="archive main") as error:
        archive(say).studies(Query(patient_id="SECRET^ID"))
    assert error.value.code == code
    assert "SECRET" not in error.value.text


def test_values_of_a_wrong_kind_are_empty_and_not_a_crash():
    odd = [
        {"0020000D": {"Value": [{"x": 1}]}, "00201206": {"Value": ["many"]}, "00080020": 7, "00081030": {"Value": None}}
    ]
    (study,) = archive(lambda request: httpx.Response(200, json=odd)).studies(Query())
    assert (study.study_uid, study.series, study.date, study.description) == ("", None, "", "")


@pytest.mark.parametrize("said", [None, "", "abc", -5, "-5", 4.5, 1_000_001, 10**30, "9" * 5000, [41, 42], {}, True, 0])
def test_a_number_of_images_that_cannot_be_is_none(said):
    document = [{"0020000E": {"Value": ["1.2.3"]}, "00201209": {"Value": said if isinstance(said, list) else [said]}}]
    web = archive(lambda request: httpx.Response(200, content=json.dumps(document).encode()))
    assert image_count(web, "1.2", "1.2.3") is None


@pytest.mark.parametrize("said", [41, "41", " 41 ", 41.0])
def test_a_number_of_images_that_can_be_is_believed_however_it_is_written(said):
    web = archive(lambda request: httpx.Response(200, json=[entry(**{"0020000E": "1.2.3", "00201209": said})]))
    assert image_count(web, "1.2", "1.2.3") == 41


def test_a_page_that_comes_again_and_again_ends():
    page = [entry(**{"0020000D": f"1.{n}"}) for n in range(500)]
    server = Server({}, lambda request: httpx.Response(200, json=page))
    assert len(archive(server).studies(Query(limit=5000))) == 500
    assert len(server.asked) == 2


def test_pages_are_put_together():
    def say(request):
        offset, limit = (int(request.url.params[name]) for name in ("offset", "limit"))
        return httpx.Response(
            200, json=[entry(**{"0020000D": f"1.{n}"}) for n in range(offset, min(offset + limit, 700))]
        )

    assert len(archive(say).studies(Query(limit=1000))) == 700
    assert len(archive(say).studies(Query(limit=600))) == 600


# Storing


def stored(uid, tag="00081199", reason=None):
    item = entry(**{"00081155": uid} | ({} if reason is None else {"00081197": reason}))
    return {tag: {"vr": "SQ", "Value": [item]}}


def test_a_file_counts_as_stored_only_when_the_answer_names_it(images):
    uid, path = next(iter(images.items()))
    sent = []

    def say(request):
        sent.append(first_part(request.headers["Content-Type"], request.content))
        return httpx.Response(200, json=stored(uid))

    archive(say).send(path)
    assert sent == [path.read_bytes()]


def test_what_is_there_already_is_no_error(images):
    uid, path = next(iter(images.items()))
    archive(lambda request: httpx.Response(409, json=stored(uid, "00081198", 0x0111))).send(path)


@pytest.mark.parametrize(
    ("status", "document", "code"),
    [
        (409, {"00081198": "x"}, "garbage"),
        (200, {}, "garbage"),
        (200, [], "garbage"),
        (200, stored("9.9"), "garbage"),
        (202, "failed", "refused"),
    ],
)
def test_an_answer_that_does_not_say_stored_is_not_believed(images, status, document, code):
    uid, path = next(iter(images.items()))
    document = stored(uid, "00081198", 0xA700) if document == "failed" else document
    with pytest.raises(ArchiveError) as error:
        archive(lambda request: httpx.Response(status, json=document)).send(path)
    assert error.value.code == code


def test_a_file_that_is_no_dicom_is_not_sent(tmp_path):
    (tmp_path / "x.dcm").write_text("x")
    with pytest.raises(ArchiveError, match="no DICOM"):
        archive(lambda request: pytest.fail("was sent")).send(tmp_path / "x.dcm")


# Secrets


@pytest.mark.parametrize(
    ("profile", "header"),
    [
        (DicomWebProfile("b", "https://x.example", auth="basic", user_env="U", password_env="P"), "Basic dTpw"),
        (DicomWebProfile("t", "https://x.example", auth="bearer", token_env="P"), "Bearer p"),
    ],
)
def test_credentials_travel_in_the_header_and_stand_nowhere_else(profile, header, monkeypatch, caplog):
    monkeypatch.setenv("U", "u")
    monkeypatch.setenv("P", "p")
    caplog.set_level(logging.DEBUG, "heartlens")
    seen = []

    def say(request):
        seen.append((request.headers["Authorization"], str(request.url)))
        return httpx.Response(403)

    with pytest.raises(ArchiveError, match="does not let us in"):
        archive(say, profile).check()
    assert seen[0][0] == header
    assert json.dumps([record.getMessage() for record in caplog.records if record.name.startswith("heartlens")]) == "[]"


@pytest.mark.parametrize(
    ("kind", "body", "part"),
    [
        ("multipart/related; boundary=x", b"--x\r\n\r\nA\r\n--x\r\n\r\nB\r\n--x--", b"A"),
        ("multipart/related; boundary=x", b"--x\r\n\r\nA", b""),
        ("multipart/related", b"--x\r\n\r\nA\r\n--x--", b""),
        ("application/dicom", b"DICM", b"DICM"),
    ],
)
def test_the_first_part_of_an_answer_is_whole_or_nothing(kind, body, part):
    assert first_part(kind, body) == part
