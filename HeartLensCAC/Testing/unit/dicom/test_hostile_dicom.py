"""DICOM that unpacks without end, or whose texts would carry an identity into a report."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import openjpeg
import pytest
from dicom_builder import write_ct_series, write_encoded
from pydicom import dcmread
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless

import heartlens.dicom.compressed
import heartlens.dicom.pixels
import heartlens.dicom.seg
from heartlens.core.errors import InputRefused
from heartlens.dicom.compressed import opened
from heartlens.dicom.header import Instance
from heartlens.dicom.pixels import TRAILING_BYTES, stored_frames
from heartlens.dicom.read import read_series
from heartlens.dicom.series import find_series

pytestmark = pytest.mark.filterwarnings("ignore:Invalid value for VR")

HU = np.arange(4 * 6 * 8, dtype=np.int16).reshape(4, 6, 8) * 5 - 500
NAME = "Doe^Jane"
LIMIT = 1 << 20


@pytest.fixture
def small_limit(monkeypatch):
    """A header may unpack to 1 MiB instead of 32, so that a bomb of a few MiB is one."""
    for module in (heartlens.dicom.compressed, heartlens.dicom.pixels, heartlens.dicom.seg):
        monkeypatch.setattr(module, "HEADER_BYTES", LIMIT)


def read(folder: Path, **options):
    (series,) = find_series(folder)
    return read_series(series, **options)


def deflate(path: Path, edit=lambda body: body) -> None:
    """Write a file again, deflated as PS3.5 A.5 says, its unpacked bytes edited."""
    dataset = dcmread(path)
    plain = path.read_bytes()
    body = plain[144 + struct.unpack("<L", plain[140:144])[0] :]
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    meta = BytesIO()
    write_file_meta_info(meta, dataset.file_meta)
    pack = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
    path.write_bytes(bytes(128) + b"DICM" + meta.getvalue() + pack.compress(edit(body)) + pack.flush())


def element(tag: bytes, length: int) -> bytes:
    return tag + b"OB\0\0" + struct.pack("<L", length) + bytes(length)


def test_deflated_slices_give_the_same_volume(tmp_path):
    for path in write_ct_series(tmp_path, HU):
        deflate(path)
    np.testing.assert_array_equal(read(tmp_path)[0].hu, HU)


@pytest.mark.parametrize(
    "edit",
    [
        lambda body: body + bytes(40 * LIMIT),
        lambda body: body + element(b"\xfc\xff\xfc\xff", 40 * LIMIT),
        lambda body: body[: body.index(b"\xe0\x7f\x10\x00")] + element(b"\xe1\x7f\x10\x00", 40 * LIMIT),
        lambda body: element(b"\x09\x00\x10\x00", 40 * LIMIT) + body,
    ],
    ids=["zeros after it", "padding after it", "in the place of the pixels", "before it"],
)
def test_a_slice_that_unpacks_to_more_than_its_header_says_is_refused(tmp_path, edit, small_limit, monkeypatch):
    paths = write_ct_series(tmp_path, HU)
    for path in paths:
        deflate(path, edit if path == paths[2] else lambda body: body)
    assert paths[2].stat().st_size < LIMIT
    unpacked = []

    class Counting:
        def __init__(self, window):
            self.inner = plain(window)

        def decompress(self, data, most):
            assert most > 0, "0 would be without a limit"
            out = self.inner.decompress(data, most)
            unpacked.append(len(out))
            return out

        def __getattr__(self, name):
            return getattr(self.inner, name)

    plain = zlib.decompressobj
    monkeypatch.setattr(heartlens.dicom.compressed.zlib, "decompressobj", Counting)
    with pytest.raises(InputRefused, match=r"0002\.dcm") as refused:
        read(tmp_path)
    assert refused.value.code in ("unreadable", "truncated")
    assert max(unpacked) <= LIMIT + HU[0].nbytes + TRAILING_BYTES


def test_a_deflated_file_that_is_cut_off_is_refused(tmp_path):
    paths = write_ct_series(tmp_path, np.random.default_rng(1).integers(-500, 500, (4, 60, 80), np.int16))
    for path in paths:
        deflate(path)
    paths[1].write_bytes(paths[1].read_bytes()[:-2000])
    with pytest.raises(InputRefused, match=r"^truncated: 0001\.dcm"):
        read(tmp_path)


def test_a_plain_file_is_given_as_it_is(tmp_path):
    (path, *_) = write_ct_series(tmp_path, HU)
    with opened(path) as (file, is_deflated):
        assert file.read() == path.read_bytes()
        assert not is_deflated


@pytest.mark.parametrize(
    ("code", "tags"),
    [
        ("reformatted", {"ImageType": ["DERIVED", "PRIMARY", NAME]}),
        ("lossy", {"LossyImageCompression": "01"}),
        ("spectral", {"ImageType": ["ORIGINAL", "PRIMARY", NAME, "VMI"]}),
        ("spectral", {"ImageType": ["ORIGINAL", "PRIMARY", NAME], "MultienergyCTAcquisition": "YES"}),
        ("contrast", {"ContrastBolusAgent": NAME}),
        ("derived", {"ImageType": ["DERIVED", "SECONDARY", NAME]}),
        ("derived", {"ImageType": ["ORIGINAL", "PRIMARY", f"{NAME} MIP"]}),
        ("unit", {"RescaleType": "US"}),
        ("no-hu", {"RescaleType": NAME}),
    ],
)
def test_a_warning_holds_neither_a_files_name_nor_free_text_of_its_header(tmp_path, code, tags):
    write_ct_series(tmp_path, HU, names=[f"{NAME}-{n}.dcm" for n in range(len(HU))], **tags)
    ct, cautions = read(tmp_path, allow={"contrast", "derived", "no-hu"})
    assert "Doe" not in str(ct.header.contrast), "report.json says what the header of the CT says of contrast"
    assert code in {caution.code for caution in cautions}
    assert not [caution.text for caution in cautions if "Doe" in caution.text or "Jane" in caution.text.title()]


def test_a_slice_that_cannot_be_parsed_is_told_without_its_folder_and_without_its_values(tmp_path):
    folder = tmp_path / NAME
    paths = write_ct_series(folder, HU, PatientName=NAME)
    paths[1].write_bytes(paths[1].read_bytes()[:600])
    with pytest.raises(InputRefused) as refused:
        read(folder)
    assert "0001.dcm" in refused.value.text
    assert "Doe" not in refused.value.text


def test_an_age_of_digits_that_are_no_number_is_unknown(tmp_path):
    """ "²".isdigit() is true, and int("²") fails."""
    write_ct_series(tmp_path, HU, PatientAge="²²²Y", SpecificCharacterSet="ISO_IR 100")
    assert read(tmp_path)[0].header.patient_age_years is None


def test_a_series_is_listed_without_what_steers_a_terminal(tmp_path):
    from heartlens.dicom.series import rank_series

    write_ct_series(tmp_path, HU, SeriesDescription="\x1b]0;owned\x07\u202e\nx", SpecificCharacterSet="ISO_IR 192")
    (ranked,) = rank_series(find_series(tmp_path))
    shown = ranked.describe() + ranked.series.title
    assert "\\x1b]0;owned\\x07" in shown
    assert not set(shown) & {"\x1b", "\x07", "\u202e"}
    assert ranked.describe().count("owned") == 1


def test_a_compressed_slice_that_says_to_be_larger_is_refused_before_it_takes_memory(tmp_path, monkeypatch):
    hu = np.arange(3 * 40 * 48, dtype=np.int16).reshape(3, 40, 48) % 1000
    paths = write_ct_series(tmp_path, hu, syntax=JPEGLSLossless, PixelRepresentation=0, BitsStored=12)
    content = bytearray(paths[0].read_bytes())
    at = content.index(b"\xff\xf7") + 5
    content[at : at + 4] = struct.pack(">HH", 60_000, 60_000)
    paths[0].write_bytes(content)
    with pytest.raises(
        InputRefused, match=r"0000\.dcm .*the JPEG-LS image has 60000 x 60000 pixels, DICOM says 40 x 48"
    ):
        list(stored_frames(Instance.read(paths[0])))
    write_encoded(paths[1:2], [openjpeg.encode(np.zeros((400, 480), np.uint16))], JPEG2000Lossless)
    monkeypatch.setattr(openjpeg, "decode", lambda stream: pytest.fail("decoded"))
    with pytest.raises(InputRefused, match=r"0001\.dcm .*another size than DICOM says"):
        list(stored_frames(Instance.read(paths[1])))
