"""Volume files that lie about their length, their place or their kind: refused in a moment, in little memory."""

from __future__ import annotations

import bz2
import gzip
import os
import struct
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from heartlens.core.errors import InputRefused
from heartlens.io.nrrd import read_nrrd
from heartlens.io.volumes import read_labels, read_volume, write_volume
from heartlens.risk.population_tables import read_risk_factors

HU = np.arange(5 * 4 * 3, dtype="<i2").reshape(5, 4, 3) * 20 - 500
RAW = HU.tobytes()
TEXT = "\n".join(map(str, HU.reshape(-1))).encode()


def nrrd(path: Path, data: bytes | None, *lines: str, sizes: str = "3 4 5", encoding: str = "raw") -> Path:
    header = ["NRRD0004", "type: short", "dimension: 3", "endian: little", "space: LPS", f"sizes: {sizes}"]
    header += [f"encoding: {encoding}", "space directions: (1,0,0) (0,1,0) (0,0,3)", "space origin: (0,0,0)", *lines]
    path.write_bytes("\n".join(header).encode() + b"\n\n" + (b"" if data is None else data))
    return path


def meta(path: Path, data: bytes, *lines: str, sizes: str = "3 4 5", file: str = "LOCAL") -> Path:
    header = ["NDims = 3", *lines, f"DimSize = {sizes}", "ElementType = MET_SHORT", "BinaryDataByteOrderMSB = False"]
    path.write_bytes("\n".join([*header, f"ElementDataFile = {file}", ""]).encode() + data)
    return path


def refusal(path: Path) -> InputRefused:
    with pytest.raises(InputRefused) as refused:
        read_volume(path)
    assert "\n" not in refused.value.text
    return refused.value


PACKED = {"raw": bytes, "gzip": gzip.compress, "bzip2": bz2.compress, "ascii": lambda data: TEXT}


@pytest.mark.parametrize("encoding", PACKED)
@pytest.mark.parametrize("detached", [False, True])
def test_a_nrrd_has_as_many_voxels_as_its_header_says_and_no_more(tmp_path, encoding, detached):
    """One slice left out of the sizes, or one column: the voxels that are left over would shift all others."""
    data = PACKED[encoding](RAW)
    lines = ("data file: voxels",) if detached else ()
    if detached:
        (tmp_path / "voxels").write_bytes(data)
    path = tmp_path / "ct.nhdr"
    right = nrrd(path, None if detached else data, *lines, encoding=encoding)
    np.testing.assert_array_equal(read_nrrd(right).values, HU)
    for sizes in ("3 4 4", "2 4 5"):
        nrrd(path, None if detached else data, *lines, sizes=sizes, encoding=encoding)
        refused = refusal(path)
        assert (refused.code, "as its header's sizes say, found more" in refused.text) == ("unreadable", True)
    nrrd(path, None if detached else data, *lines, sizes="3 4 6", encoding=encoding)
    assert refusal(path).code == "truncated"


def test_a_foreign_header_is_skipped_but_no_slice_is(tmp_path):
    """`byte skip: -1` finds the voxels at the end of the file, whatever comes before them."""
    path = tmp_path / "ct.nhdr"
    lines = ("data file: voxels", "byte skip: -1")
    (tmp_path / "voxels").write_bytes(b"0123456789" + RAW)
    np.testing.assert_array_equal(read_nrrd(nrrd(path, None, *lines)).values, HU)
    (tmp_path / "voxels").write_bytes(RAW)
    for sizes in ("3 4 4", "3 3 5", "2 4 5"):
        assert "found more" in refusal(nrrd(path, None, *lines, sizes=sizes)).text
    assert "found more" in refusal(nrrd(path, RAW, "byte skip: -1", sizes="3 4 4")).text


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_a_nifti_has_as_many_voxels_as_its_header_says_and_no_more(tmp_path, ending):
    path = tmp_path / f"ct{ending}"
    nib.save(nib.Nifti1Image(HU.transpose(2, 1, 0), np.diag([1, 1, 3, 1.0])), tmp_path / "ct.nii")
    content = bytearray((tmp_path / "ct.nii").read_bytes())
    content[46:48] = struct.pack("<h", 4)  # slices
    path.write_bytes(gzip.compress(content) if ending == ".nii.gz" else content)
    assert "found more" in refusal(path).text


@pytest.mark.parametrize("kind", ["raw", "compressed", "text"])
def test_a_metaimage_has_as_many_voxels_as_its_header_says_and_no_more(tmp_path, kind):
    line, data = {
        "raw": ("BinaryData = True", RAW),
        "compressed": ("CompressedData = True", zlib.compress(RAW)),
        "text": ("BinaryData = False", TEXT),
    }[kind]
    path = tmp_path / "ct.mha"
    np.testing.assert_array_equal(read_volume(meta(path, data, line))[0].hu, HU)
    assert "found more" in refusal(meta(path, data, line, sizes="3 4 4")).text
    assert refusal(meta(path, data, line, sizes="3 4 6")).code == "truncated"


@pytest.mark.parametrize(
    "name", ["../outside.raw", "{absolute}", "sub/inside.raw", "sub/../../outside.raw", "..", ".", "link.raw", "up.raw"]
)
@pytest.mark.parametrize("kind", ["nrrd", "metaimage"])
def test_a_data_file_lies_beside_its_header_and_nowhere_else(tmp_path, name, kind):
    """What another file holds would be copied into the case folder as voxels."""
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    for path in (tmp_path / "outside.raw", folder / "sub" / "inside.raw", folder / "inside.raw"):
        path.write_bytes(RAW)
    (folder / "link.raw").symlink_to("../outside.raw")
    (folder / "up.raw").symlink_to(tmp_path / "folder" / "sub" / "inside.raw")
    (folder / "beside.raw").symlink_to("inside.raw")

    def header(of: str) -> Path:
        if kind == "nrrd":
            return nrrd(folder / "ct.nhdr", None, f"data file: {of}")
        return meta(folder / "ct.mhd", b"", file=of)

    for fine in ("inside.raw", "./inside.raw", "beside.raw"):
        np.testing.assert_array_equal(read_volume(header(fine))[0].hu, HU)
    refused = refusal(header(name.format(absolute=tmp_path / "outside.raw")))
    assert (refused.code, "beside it" in refused.text) == ("unreadable", True)


NOTHING = ("a named pipe", "a device", "a folder", "a link whose target is missing")


def put(path: Path, kind: str) -> Path:
    if kind == "a named pipe":
        os.mkfifo(path)
    elif kind == "a folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero" if kind == "a device" else "nowhere")
    return path


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.parametrize("kind", NOTHING)
def test_what_is_no_regular_file_is_named_and_not_waited_for(tmp_path, a_ct, kind):
    for ending in (".nrrd", ".nhdr", ".nii", ".nii.gz", ".mha", ".mhd"):
        refused = refusal(put(tmp_path / f"ct{ending}", kind))
        assert (refused.code, kind in refused.text, f"ct{ending}" in refused.text) == ("input", True, True)
    put(tmp_path / "voxels", kind)
    for header in (
        nrrd(tmp_path / "x.nhdr", None, "data file: voxels"),
        nrrd(tmp_path / "y.nhdr", None, "data file: voxels", encoding="ascii"),
        meta(tmp_path / "z.mhd", b"", file="voxels"),
    ):
        assert kind in refusal(header).text
    for name in ("labels.seg.nrrd", "labels"):
        with pytest.raises(InputRefused, match=kind):
            read_labels(put(tmp_path / name, kind), a_ct(HU))
    with pytest.raises(InputRefused, match=rf"^input: risk factors: cannot read .*{kind}"):
        read_risk_factors(put(tmp_path / "factors.json", kind))


def test_risk_factors_nested_without_end_are_refused(tmp_path):
    (tmp_path / "factors.json").write_text("[" * 100_000)
    with pytest.raises(InputRefused, match=r"risk factors .*factors\.json"):
        read_risk_factors(tmp_path / "factors.json")


@pytest.mark.parametrize(
    ("lines", "encoding"),
    [
        (("line skip: 1000000000000",), "raw"),
        (("line skip: 1000000000000",), "gzip"),
        (("line skip: 3",), "raw"),
        (("line skip: -1",), "raw"),
        (("byte skip: 1000000000000",), "raw"),
        (("byte skip: 1000000000000",), "gzip"),
        (("byte skip: -2",), "raw"),
        (("byte skip: -1",), "gzip"),
        (("byte skip: -1",), "ascii"),
    ],
)
def test_a_skip_that_leads_nowhere_is_refused_at_once(tmp_path, lines, encoding):
    data = {"raw": RAW, "gzip": gzip.compress(RAW), "ascii": TEXT}[encoding]
    assert refusal(nrrd(tmp_path / "ct.nrrd", data, *lines, encoding=encoding)).code in ("truncated", "unreadable")


def test_compressed_voxels_do_not_lie_behind_gigabytes_of_something_else(tmp_path):
    far = 65 << 20
    data = gzip.compress(bytes(far) + RAW, 1)
    refused = refusal(nrrd(tmp_path / "ct.nrrd", data, f"byte skip: {far}", encoding="gzip"))
    assert (refused.code, "voxels within" in refused.text) == ("unreadable", True)
    nib.save(nib.Nifti1Image(HU.transpose(2, 1, 0), np.eye(4)), tmp_path / "ct.nii")
    content = bytearray((tmp_path / "ct.nii").read_bytes())
    content[108:112] = struct.pack("<f", far)  # vox_offset
    (tmp_path / "ct.nii.gz").write_bytes(gzip.compress(bytes(content) + bytes(far), 1))
    assert "voxels within" in refusal(tmp_path / "ct.nii.gz").text


def test_lines_and_bytes_are_skipped_where_they_are(tmp_path):
    path = nrrd(tmp_path / "ct.nrrd", b"a line\nanother\n" + gzip.compress(b"12345" + RAW), "line skip: 2",
                "byte skip: 5", encoding="gzip")  # fmt: skip
    np.testing.assert_array_equal(read_nrrd(path).values, HU)


@pytest.mark.parametrize("sizes", ["4000000000 4000000000 5", "4294967296 4294967296 5", "3 4 " + "9" * 4000])
def test_sizes_that_no_memory_holds_are_refused_before_any_is_taken(tmp_path, sizes):
    """The second product is 0 in 64 bits."""
    assert refusal(nrrd(tmp_path / "ct.nrrd", gzip.compress(RAW), sizes=sizes, encoding="gzip")).code == "unreadable"


BOMB, ROOM = 32 << 20, 20 << 20


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="this system does not say how much memory is taken")
@pytest.mark.parametrize("kind", ["gzip", "bzip2", "nii", "mha", "text", "one number", "header"])
def test_a_small_file_does_not_become_a_large_one_in_memory(tmp_path, kind):
    """20 MiB more than now are enough to refuse what would unpack to 32."""
    more = bytes(BOMB)
    if kind in ("gzip", "bzip2"):
        path = nrrd(tmp_path / "ct.nrrd", (gzip if kind == "gzip" else bz2).compress(RAW + more), encoding=kind)
    elif kind == "nii":
        nib.save(nib.Nifti1Image(HU.transpose(2, 1, 0), np.eye(4)), tmp_path / "small.nii")
        path = tmp_path / "ct.nii.gz"
        path.write_bytes(gzip.compress((tmp_path / "small.nii").read_bytes() + more))
    elif kind == "mha":
        path = meta(tmp_path / "ct.mha", zlib.compress(RAW + more), "CompressedData = True")
    elif kind == "header":
        path = tmp_path / "ct.nrrd"
        path.write_bytes(b"NRRD0004\n" + b"# \n" * (BOMB // 3))
    else:
        path = nrrd(tmp_path / "ct.nrrd", b"1" + b" 1"[kind == "one number" :] * (BOMB // 2), encoding="ascii")
    del more
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, before[1]))
    try:
        refused = refusal(path)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    assert refused.code == "unreadable"


@pytest.mark.parametrize("value", ["nan", "inf", "-1", "0", "1e999"])
def test_a_thickness_or_voltage_that_cannot_be_is_refused(tmp_path, a_ct, value):
    write_volume(tmp_path / "ct.nrrd", a_ct(HU, kvp=120.0, slice_thickness_mm=3.0))
    content = (tmp_path / "ct.nrrd").read_bytes()
    for key, stated in ((b"HeartLens_SliceThickness:=", b"3.0"), (b"HeartLens_KVP:=", b"120.0")):
        (tmp_path / "x.nrrd").write_bytes(content.replace(key + stated, key + value.encode()))
        assert "expected a positive number" in refusal(tmp_path / "x.nrrd").text


def test_a_warning_does_not_say_what_the_file_is_called(tmp_path, a_ct):
    """Warnings go into reports, and files are often called after patients."""
    path = tmp_path / "Doe^Jane.nrrd"
    content = nrrd(path, (HU[:2] + 900).tobytes(), sizes="3 4 2").read_bytes()
    path.write_bytes(content.replace(b"space: LPS\n", b""))
    with pytest.raises(InputRefused, match=r"Doe\^Jane\.nrrd"):  # a refusal does: it is shown and not kept
        read_volume(path)
    _, cautions = read_volume(path, allow={"few-slices"})
    assert {caution.code for caution in cautions} == {"unoriented", "few-slices"}
    assert not [caution for caution in cautions if "Doe" in caution.text or str(tmp_path) in caution.text]
