"""Volumes and label maps on disk: every orientation gives the same voxels, every damage is refused."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import itertools
import zlib
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from heartlens.core.ct import CTHeader, CTVolume
from heartlens.core.errors import InputRefused
from heartlens.core.lesions import Artery
from heartlens.io.nrrd import read_nrrd, write_nrrd
from heartlens.io.volumes import read_labels, read_volume, write_seg_nrrd, write_volume

RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@pytest.fixture
def ct(a_ct):
    """5 slices of 4 rows and 3 columns, every voxel another value, air and calcium among them."""
    return moved(a_ct(np.arange(60).reshape(5, 4, 3) * 20 - 500, spacing_mm=(2.5, 0.7, 0.7)))


def moved(ct: CTVolume) -> CTVolume:
    affine = ct.affine.copy()
    affine[:3, 3] = [-12.25, 30.5, -401.125]
    return CTVolume(ct.hu, affine, ct.header)


def turned(values: np.ndarray, affine: np.ndarray, order: tuple[int, ...], flips: tuple[bool, ...]):
    """The same voxels in another axis order and direction, and the affine that belongs to them."""
    columns = [2 - axis for axis in order[::-1]]  # array axis a holds index 2 - a of (i, j, k)
    out = affine.copy()
    out[:3, :3] = affine[:3, columns]
    values = np.transpose(values, order)
    for axis, flip in enumerate(flips):
        if flip:
            column = 2 - axis
            out[:3, 3] += out[:3, column] * (values.shape[axis] - 1)
            out[:3, column] *= -1
            values = np.flip(values, axis)
    return np.ascontiguousarray(values), out


ORIENTATIONS = list(itertools.product(itertools.permutations(range(3)), itertools.product([False, True], repeat=3)))


@pytest.mark.parametrize(("order", "flips"), ORIENTATIONS)
@pytest.mark.parametrize("ending", [".nrrd", ".nii.gz", ".mha"])
def test_all_48_orientations_give_the_same_volume(tmp_path, ct, order, flips, ending):
    path = tmp_path / f"ct{ending}"
    values, affine = turned(ct.hu, ct.affine, order, flips)
    if ending == ".nrrd":
        write_nrrd(path, values, affine)
    elif ending == ".nii.gz":
        nib.save(nib.Nifti1Image(values.transpose(2, 1, 0), RAS @ affine), path)
    else:
        write_with_simpleitk(path, values, affine)
    read, cautions = read_volume(path)
    assert cautions == []
    np.testing.assert_array_equal(read.hu, ct.hu)
    np.testing.assert_allclose(read.affine, ct.affine, atol=0 if ending == ".nrrd" else 1e-4)


def write_with_simpleitk(path: Path, values: np.ndarray, affine: np.ndarray) -> None:
    image = sitk.GetImageFromArray(values)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((affine[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    sitk.WriteImage(image, str(path))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    shape=st.tuples(st.integers(3, 5), st.integers(1, 6), st.integers(1, 6)),
    angle=st.floats(-0.1, 0.1),
    origin=st.tuples(*[st.floats(-1e3, 1e3)] * 3),
    spacing=st.tuples(st.floats(0.2, 2), st.floats(0.3, 6)),
    seed=st.integers(0, 1000),
    fractional=st.booleans(),
)
def test_nrrd_keeps_every_bit(tmp_path, shape, angle, origin, spacing, seed, fractional):
    hu = np.random.default_rng(seed).integers(-1024, 3071, shape).astype(np.float32 if fractional else np.int16)
    hu.flat[0] = -999.5 if fractional else -1000
    c, s = np.cos(angle), np.sin(angle)
    affine = np.eye(4)
    affine[:3, :3] = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) * [spacing[0], spacing[0], spacing[1]]
    affine[:3, 3] = origin
    ct = CTVolume(hu, affine, CTHeader(kvp=100.0, slice_thickness_mm=0.1 + 0.2))
    write_volume(tmp_path / "ct.nrrd", ct)
    read, _ = read_volume(tmp_path / "ct.nrrd")
    assert read.hu.dtype == hu.dtype
    np.testing.assert_array_equal(read.hu, hu)
    np.testing.assert_array_equal(read.affine, affine)
    assert (read.header.kvp, read.header.slice_thickness_mm) == (100.0, 0.1 + 0.2)


@pytest.mark.parametrize("ending", [".nrrd", ".nii", ".nii.gz", ".mha"])
def test_what_is_written_is_what_other_readers_see(tmp_path, ct, ending):
    path = tmp_path / f"ct{ending}"
    write_volume(path, ct)
    image = sitk.ReadImage(str(path))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), ct.hu)
    np.testing.assert_allclose(image.GetOrigin(), [-12.25, 30.5, -401.125], atol=1e-4)
    np.testing.assert_allclose(image.GetSpacing(), [0.7, 0.7, 2.5], atol=1e-6)
    np.testing.assert_allclose(image.GetDirection(), np.eye(3).ravel(), atol=1e-6)
    if ending.startswith(".nii"):
        np.testing.assert_allclose(nib.load(path).affine, RAS @ ct.affine, atol=1e-4)
    np.testing.assert_array_equal(read_volume(path)[0].hu, ct.hu)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_what_the_user_says_counts_more_than_the_file(tmp_path, ct):
    write_volume(tmp_path / "ct.nrrd", ct)
    read, _ = read_volume(tmp_path / "ct.nrrd", kvp=80, slice_thickness_mm=1.5)
    assert (read.header.kvp, read.header.slice_thickness_mm) == (80.0, 1.5)


def test_nifti_says_neither_tube_voltage_nor_thickness(tmp_path, ct):
    write_volume(tmp_path / "ct.nii.gz", ct)
    read, _ = read_volume(tmp_path / "ct.nii.gz")
    assert (read.header.kvp, read.header.slice_thickness_mm) == (None, None)


NRRD_SPACES = {"left-posterior-superior": (1, 1), "right-anterior-superior": (-1, -1), "RAS": (-1, -1), "LAS": (1, -1)}


@pytest.mark.parametrize(("space", "signs"), NRRD_SPACES.items())
@pytest.mark.parametrize("encoding", ["raw", "gzip", "bzip2", "ascii"])
@pytest.mark.parametrize("detached", [False, True])
def test_nrrd_of_other_programs_is_read_in_each_space_and_encoding(tmp_path, ct, space, signs, encoding, detached):
    x, y = signs
    origin = ct.affine[:3, 3] * [x, y, 1]
    header = (
        f"NRRD0005\n# made elsewhere\ntype: short\ndimension: 3\nspace: {space}\nsizes: 3 4 5\n"
        f"space directions: ({0.7 * x}, 0, 0) (0,{0.7 * y},0) (0,0,2.5)\nkinds: domain domain domain\nendian: big\n"
        f"encoding: {encoding}\nspace origin: ({origin[0]},{origin[1]},{origin[2]})\nnote:=a:=b\n"
    ).encode()
    raw = ct.hu.astype(">i2").tobytes()
    data = {
        "raw": lambda: raw,
        "gzip": lambda: gzip.compress(raw),
        "bzip2": lambda: bz2.compress(raw),
        "ascii": lambda: " ".join(str(v) for v in ct.hu.ravel()).encode(),
    }[encoding]()
    path = tmp_path / ("ct.nhdr" if detached else "ct.nrrd")
    if detached:
        path.write_bytes(header + b"data file: ct.data\n")
        (tmp_path / "ct.data").write_bytes(data)
    else:
        path.write_bytes(header + b"\n" + data)
    read, cautions = read_volume(path)
    assert cautions == []
    np.testing.assert_array_equal(read.hu, ct.hu)
    np.testing.assert_allclose(read.affine, ct.affine, atol=1e-12)
    assert read_nrrd(path).keys == {"note": "a:=b"}


def test_nrrd_without_orientation_is_read_with_a_caution(tmp_path, ct):
    header = (
        b"NRRD0004\ntype: int16\ndimension: 3\nsizes: 3 4 5\nspacings: 0.7 0.7 2.5\nendian: little\nencoding: raw\n\n"
    )
    (tmp_path / "ct.nrrd").write_bytes(header + ct.hu.tobytes())
    read, cautions = read_volume(tmp_path / "ct.nrrd")
    assert [caution.code for caution in cautions] == ["unoriented"]
    assert read.spacing_mm == (2.5, 0.7, 0.7)
    np.testing.assert_array_equal(read.hu, ct.hu)


def test_nifti_with_only_a_qform_lies_where_nibabel_says(tmp_path, ct):
    turn = nib.quaternions.quat2mat([0.999, 0.02, -0.03, 0.01])
    affine = np.eye(4)
    affine[:3, :3] = turn * [0.7, 0.7, 2.5]
    affine[:3, 3] = [1.5, -20, 300]
    image = nib.Nifti1Image(np.asarray(ct.hu.transpose(2, 1, 0)), affine)
    image.set_sform(None, 0)
    image.set_qform(affine, 1)
    nib.save(image, tmp_path / "ct.nii")
    read, _ = read_volume(tmp_path / "ct.nii")
    affine_by_nibabel = RAS @ nib.load(tmp_path / "ct.nii").affine
    np.testing.assert_allclose(read.spacing_mm, (2.5, 0.7, 0.7), rtol=1e-6)
    corner = read.lps_mm(np.argwhere(read.hu == ct.hu[0, 0, 0])[0])
    np.testing.assert_allclose(corner, affine_by_nibabel[:3, 3], atol=1e-3)


def test_nifti_2_with_scaled_integers_and_float64_is_read_like_nibabel_does(tmp_path, ct):
    image = nib.Nifti2Image(ct.hu.transpose(2, 1, 0) + 0.5, RAS @ ct.affine)
    nib.save(image, tmp_path / "double.nii.gz")
    assert read_volume(tmp_path / "double.nii.gz")[0].hu.dtype == np.float32
    image = nib.Nifti1Image(ct.hu.transpose(2, 1, 0) * 0.25, RAS @ ct.affine)
    image.header.set_data_dtype(np.int16)
    image.header.set_slope_inter(0.25, -3)
    nib.save(image, tmp_path / "scaled.nii")
    read, _ = read_volume(tmp_path / "scaled.nii", allow={"no-hu"})
    np.testing.assert_allclose(read.hu.transpose(2, 1, 0), nib.load(tmp_path / "scaled.nii").get_fdata(), atol=1e-4)


@pytest.mark.parametrize("dtype", [np.int32, np.float64, np.int64])
def test_wide_types_with_integral_hu_become_int16(tmp_path, ct, dtype):
    values = ct.hu.astype(dtype).transpose(2, 1, 0)
    nib.save(nib.Nifti1Image(values, RAS @ ct.affine, dtype=dtype), tmp_path / "ct.nii")
    read, _ = read_volume(tmp_path / "ct.nii")
    assert read.hu.dtype == np.int16
    np.testing.assert_array_equal(read.hu, ct.hu)


def save_nifti(path, values, affine):
    nib.save(nib.Nifti1Image(values, affine), path)


def air_and(*values):
    """(3, 4, 5) voxels for NIfTI, air first."""
    array = np.zeros((3, 4, 5), np.float32)
    array.flat[: len(values) + 1] = [-1000, *values]
    return array


SHEAR = np.array([[0.7, 0, 0, 0], [0, 0.7, 0.8, 0], [0, 0, 3, 0], [0, 0, 0, 1.0]])
OBLIQUE = np.array([[0.7, 0, 0, 0], [0, 0.6, -0.9, 0], [0, 0.21, 2.571, 0], [0, 0, 0, 1.0]])


@pytest.mark.parametrize(
    ("values", "affine", "code", "reason"),
    [
        (air_and(), SHEAR, "tilt", "tilted gantry"),
        (air_and(), OBLIQUE, "not-axial", "found 0.94"),
        (air_and(), np.diag([0.7, 3, 0.7, 1.0]), "not-axial", "0.7 x 3 mm: a coronal or sagittal stack"),
        (air_and(np.nan), np.diag([0.7, 0.7, 3, 1]), "unreadable", "NaN"),
        (air_and()[:, :, :2], np.diag([0.7, 0.7, 3, 1]), "few-slices", "3 slices or more, found 2"),
        (np.zeros((3, 4, 5, 2)), np.diag([0.7, 0.7, 3, 1]), "unreadable", "3 x 4 x 5 x 2"),
        (np.zeros((3, 4)), np.diag([0.7, 0.7, 3, 1]), "unreadable", "one 3-D volume"),
        (np.zeros((3, 4, 5), np.complex64), np.diag([0.7, 0.7, 3, 1]), "unreadable", "complex"),
    ],
)
def test_what_is_no_axial_ct_is_refused(tmp_path, values, affine, code, reason):
    save_nifti(tmp_path / "ct.nii.gz", values, affine)
    with pytest.raises(InputRefused) as refusal:
        read_volume(tmp_path / "ct.nii.gz")
    assert refusal.value.code == code
    assert reason in refusal.value.text
    assert "ct.nii.gz" in refusal.value.text


@pytest.mark.parametrize(
    ("values", "affine", "code"),
    [
        (air_and(), OBLIQUE @ np.diag([1, 1, 1, 1.0]), "not-axial"),
        (air_and(), np.diag([0.7, 3, 0.7, 1.0]), "not-axial"),
        (air_and()[:, :, :1], np.diag([0.7, 0.7, 3, 1]), "few-slices"),
    ],
)
def test_an_allowed_refusal_becomes_a_caution(tmp_path, values, affine, code):
    if affine[1, 2] == -0.9:
        affine = affine.copy()
        affine[:3, :3], _ = np.linalg.qr(affine[:3, :3])
        affine[:3, :3] *= np.sign(np.diag(affine[:3, :3]))
    save_nifti(tmp_path / "ct.nii.gz", values, affine)
    ct, cautions = read_volume(tmp_path / "ct.nii.gz", allow={code})
    assert [c.code for c in cautions] == [code]
    assert cautions[0].text.startswith("allowed by the user")
    assert ct.hu.size == values.size


def test_pixel_of_150_percent_is_still_axial(tmp_path):
    save_nifti(tmp_path / "ct.nii", air_and(), np.diag([0.5, 0.75, 3, 1]))
    assert read_volume(tmp_path / "ct.nii")[0].spacing_mm == pytest.approx((3, 0.75, 0.5))


@pytest.mark.parametrize("ending", [".nrrd", ".nii", ".nii.gz", ".mha"])
@pytest.mark.parametrize("part", [0.0, 0.02, 0.5, 0.9])
def test_a_truncated_file_is_refused_and_never_filled_with_zeros(tmp_path, a_ct, ending, part):
    noise = np.random.default_rng(1).integers(-1000, 1000, (6, 30, 30))
    path = tmp_path / f"ct{ending}"
    write_volume(path, a_ct(noise))
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])
    with pytest.raises(InputRefused) as refusal:
        read_volume(path)
    assert refusal.value.code in {"truncated", "unreadable"}


@pytest.mark.parametrize("ending", [".nrrd", ".nii.gz"])
def test_a_flipped_bit_in_compressed_voxels_is_noticed(tmp_path, a_ct, ending):
    path = tmp_path / f"ct{ending}"
    write_volume(path, a_ct(np.random.default_rng(1).integers(-1000, 1000, (6, 30, 30))))
    data = bytearray(path.read_bytes())
    data[-1000] ^= 0x10
    path.write_bytes(data)
    with pytest.raises(InputRefused):
        read_volume(path)


@pytest.mark.parametrize("ending", [".nrrd", ".nii", ".nii.gz", ".mha", ".mhd", ".nhdr"])
def test_text_under_a_volume_name_is_refused(tmp_path, ending):
    path = tmp_path / f"ct{ending}"
    path.write_text("hello, this is no image\n" * 40)
    with pytest.raises(InputRefused) as refusal:
        read_volume(path)
    assert refusal.value.code == "unreadable"


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("sizes: 3 4 9000000000", "unreadable"),
        ("sizes: 3 4 -5", "unreadable"),
        ("sizes: 3 4", "unreadable"),
        ("type: block", "unreadable"),
        ("encoding: hex", "unreadable"),
        ("space: scanner-xyz", "unreadable"),
        ("space directions: (1,0,0) none (0,0,1)", "unreadable"),
        ("space directions: (1,0,0) (0,1,0) (0,0,x)", "unreadable"),
        ("space directions: (1,0,0) (0,1,0) (0,0,0)", "unreadable"),
        ('space units: "um" "um" "um"', "unreadable"),
        ("data file: LIST", "unreadable"),
        ("data file: nowhere.raw", "unreadable"),
        ("nonsense", "unreadable"),
    ],
)
def test_a_damaged_nrrd_header_is_refused(tmp_path, ct, line, code):
    path = tmp_path / "ct.nrrd"
    write_volume(path, ct)
    header, _, data = path.read_bytes().partition(b"\n\n")
    field = line.partition(":")[0].encode()
    lines = [text for text in header.split(b"\n") if not text.startswith(field + b":")]
    path.write_bytes(b"\n".join([*lines, line.encode()]) + b"\n\n" + data)
    with pytest.raises(InputRefused) as refusal:
        read_volume(path)
    assert refusal.value.code == code


@pytest.mark.parametrize("name", ["none.nrrd", "none.nii.gz", "none.mha", "folder.nrrd", "ct.jpg"])
def test_a_path_that_is_no_volume_file_is_refused_as_input(tmp_path, name):
    (tmp_path / "folder.nrrd").mkdir()
    (tmp_path / "ct.jpg").write_bytes(b"x")
    with pytest.raises(InputRefused) as refusal:
        read_volume(tmp_path / name)
    assert refusal.value.code == "input"
    with pytest.raises(InputRefused) as refusal:
        read_labels(tmp_path / name, CTVolume(np.zeros((1, 1, 1), np.int16), np.eye(4)))
    assert refusal.value.code == "input"


def test_a_vector_or_colour_image_is_refused(tmp_path):
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((3, 4, 5, 3), np.uint8), isVector=True), str(tmp_path / "a.mha"))
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((3, 4, 5, 3), np.uint8), isVector=True), str(tmp_path / "a.nrrd"))
    for name in ("a.mha", "a.nrrd"):
        with pytest.raises(InputRefused) as refusal:
            read_volume(tmp_path / name)
        assert refusal.value.code == "unreadable"


def test_nothing_is_left_where_nothing_can_be_written(tmp_path, ct):
    for name in ("no-such-folder/ct.nrrd", "no-such-folder/ct.nii.gz", "ct.png"):
        with pytest.raises(InputRefused) as refusal:
            write_volume(tmp_path / name, ct)
        assert refusal.value.code == "output"
    assert list(tmp_path.iterdir()) == []


# Label maps


def labels_of(ct: CTVolume) -> np.ndarray:
    labels = np.zeros(ct.shape, np.uint8)
    labels.reshape(-1)[[1, 7, 20, 30, 44, 59]] = [1, 2, 3, 4, 5, 6]
    return labels


@pytest.mark.parametrize(("order", "flips"), ORIENTATIONS)
@pytest.mark.parametrize("ending", [".nrrd", ".nii.gz"])
def test_a_label_map_in_any_orientation_falls_on_its_voxels(tmp_path, ct, order, flips, ending):
    path = tmp_path / f"labels{ending}"
    values, affine = turned(labels_of(ct), ct.affine, order, flips)
    if ending == ".nrrd":
        write_nrrd(path, values, affine)
    else:
        nib.save(nib.Nifti1Image(values.transpose(2, 1, 0), RAS @ affine), path)
    np.testing.assert_array_equal(read_labels(path, ct), labels_of(ct))


@pytest.mark.parametrize("dtype", [np.int16, np.float32, np.uint16, np.int32])
def test_label_maps_of_any_number_type_are_read(tmp_path, ct, dtype):
    write_nrrd(tmp_path / "labels.nrrd", labels_of(ct).astype(dtype), ct.affine)
    codes = read_labels(tmp_path / "labels.nrrd", ct)
    assert codes.dtype == np.uint8
    assert codes.reshape(-1)[[1, 59]].tolist() == [Artery.LM, Artery.UNASSIGNED]


@pytest.mark.parametrize("bad", [7, -1, 2.5, 117])
def test_a_label_that_is_no_artery_is_refused_with_the_meaning_of_all(tmp_path, ct, bad):
    labels = labels_of(ct).astype(np.float32)
    labels[0, 0, 0] = bad
    write_nrrd(tmp_path / "labels.nrrd", labels, ct.affine)
    with pytest.raises(InputRefused) as refusal:
        read_labels(tmp_path / "labels.nrrd", ct)
    assert refusal.value.code == "labels"
    assert "1 LM, 2 LAD, 3 LCX, 4 RCA, 5 OTHER, 6 UNASSIGNED" in refusal.value.text
    assert refusal.value.text.endswith(f"found {bad}")


def shifted(affine, mm):
    out = affine.copy()
    out[0, 3] += mm
    return out


def scaled(affine, factor):
    out = affine.copy()
    out[:3, 2] *= factor
    return out


@pytest.mark.parametrize(
    ("change", "shape"),
    [
        (lambda a: shifted(a, 0.05), (5, 4, 3)),
        (lambda a: shifted(a, 0.7), (5, 4, 3)),
        (lambda a: scaled(a, 1.02), (5, 4, 3)),
        (lambda a: a, (4, 4, 3)),
        (lambda a: a, (6, 4, 3)),
        (lambda a: SHEAR, (5, 4, 3)),
    ],
)
def test_labels_on_another_grid_are_refused_with_both_grids(tmp_path, ct, change, shape):
    labels = np.ones(shape, np.uint8)
    write_nrrd(tmp_path / "labels.nrrd", labels, change(ct.affine))
    with pytest.raises(InputRefused) as refusal:
        read_labels(tmp_path / "labels.nrrd", ct)
    assert refusal.value.code == "grid"
    assert "3 x 4 x 5" in refusal.value.text


def test_a_hundredth_of_a_voxel_is_the_same_grid(tmp_path, ct):
    write_nrrd(tmp_path / "labels.nrrd", labels_of(ct), shifted(ct.affine, 0.007))
    np.testing.assert_array_equal(read_labels(tmp_path / "labels.nrrd", ct), labels_of(ct))


# Real files of other programs


@pytest.mark.parametrize(
    ("name", "orientation", "shape", "hu"),
    [
        ("abdomen_noncontrast_3mm.nii.gz", "RAS, int32", (112, 101, 122), (-1207, 3382)),
        ("cta_dissection_heart_1p5mm.nii.gz", "LPS, int16", (164, 126, 120), (-1078, 3343)),
    ],
)
def test_real_nifti_is_read_as_simpleitk_reads_it(shared_data, name, orientation, shape, hu):
    path = shared_data / "totalsegmentator_tests" / name
    ct, cautions = read_volume(path)
    image = sitk.DICOMOrient(sitk.ReadImage(str(path)), "LPS")
    assert (ct.shape, cautions) == (shape, [])
    assert (int(ct.hu.min()), int(ct.hu.max())) == hu
    np.testing.assert_array_equal(ct.hu, sitk.GetArrayFromImage(image))
    np.testing.assert_allclose(ct.affine[:3, 3], image.GetOrigin(), atol=1e-4)


def test_a_real_label_map_with_organs_is_refused_and_one_with_a_single_label_is_read(shared_data):
    folder = shared_data / "totalsegmentator_tests"
    ct, _ = read_volume(folder / "abdomen_small_3mm.nii.gz")
    with pytest.raises(InputRefused, match="labels"):
        read_labels(folder / "abdomen_small_3mm_seg117.nii.gz", ct)
    ct, _ = read_volume(folder / "cta_dissection_heart_1p5mm.nii.gz")
    aorta = read_labels(folder / "cta_dissection_heart_1p5mm_aorta.nii.gz", ct)
    truth = nib.load(folder / "cta_dissection_heart_1p5mm_aorta.nii.gz").get_fdata()
    assert np.count_nonzero(aorta == Artery.LM) == np.count_nonzero(truth) > 1000


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(["ct.nrrd", "ct.nii", "ct.nii.gz", "ct.mha", "s.seg.nrrd"]),
    changes=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=6),
)
def test_a_damaged_file_is_read_or_refused_but_never_crashes(tmp_path, ct, kind, changes):
    path = tmp_path / kind
    if kind == "s.seg.nrrd":
        write_seg_nrrd(path, ct, labels_of(ct))
    else:
        write_volume(path, ct)
    data = bytearray(path.read_bytes())
    for place, value in changes:
        data[int(place * (len(data) - 1))] = value
    path.write_bytes(data)
    for read in (read_volume, lambda p: read_labels(p, ct)):
        with contextlib.suppress(InputRefused):
            read(path)


def test_a_tube_voltage_that_is_no_number_is_refused_unless_it_is_said(tmp_path, ct):
    path = tmp_path / "ct.nrrd"
    write_volume(path, replace(ct, header=replace(ct.header, kvp=120.0)))
    path.write_bytes(path.read_bytes().replace(b"HeartLens_KVP:=120.0", b"HeartLens_KVP:=12?.0"))
    with pytest.raises(
        InputRefused, match=r"give --kvp; expected a positive number for HeartLens_KVP, found '12\?\.0'"
    ):
        read_volume(path)
    assert read_volume(path, kvp=100.0)[0].header.kvp == 100.0


MHA = """ObjectType = Image
NDims = 3
BinaryData = True
BinaryDataByteOrderMSB = {msb}
CompressedData = {compressed}
TransformMatrix = 0 1 0 1 0 0 0 0 1
{offset} = 1.5 -2.5 3.5
CenterOfRotation = 0 0 0
AnatomicalOrientation = RAI
ElementSpacing = 0.7 0.7 2.5
DimSize = 4 3 5
ElementType = MET_SHORT
{more}ElementDataFile = {data}
"""


@pytest.mark.parametrize("msb", [False, True])
@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("offset", ["Offset", "Position", "Origin"])
@pytest.mark.parametrize("data", ["LOCAL", "ct.raw", "ct.zraw"])
def test_metaimage_of_other_programs_is_read_as_simpleitk_reads_it(tmp_path, ct, msb, compressed, offset, data):
    raw = np.ascontiguousarray(ct.hu.transpose(0, 2, 1)).astype(">i2" if msb else "<i2").tobytes()
    raw = zlib.compress(raw) if compressed else raw
    more = f"CompressedDataSize = {len(raw)}\n" if compressed else ""
    header = MHA.format(msb=msb, compressed=compressed, offset=offset, data=data, more=more).encode()
    path = tmp_path / ("ct.mha" if data == "LOCAL" else "ct.mhd")
    path.write_bytes(header + (raw if data == "LOCAL" else b""))
    if data != "LOCAL":
        (tmp_path / data).write_bytes(raw)
    read, _ = read_volume(path)
    image = sitk.DICOMOrient(sitk.ReadImage(str(path)), "LPS")
    np.testing.assert_array_equal(read.hu, ct.hu)  # the file holds rows as columns, its matrix turns them back
    np.testing.assert_array_equal(read.hu, sitk.GetArrayFromImage(image))
    np.testing.assert_allclose(read.affine[:3, 3], image.GetOrigin())


def test_a_header_that_ends_the_process_in_simpleitk_is_refused(tmp_path):
    header = MHA.format(msb=False, compressed=True, offset="Offset", data="LOCAL", more="CompressedDataSize = 20\n")
    for old, new in (
        ("4 3 5", "4 3 900000000"), ("MET_SHORT", "MET_OTHER"), ("= LOCAL", "= "), ("= LOCAL", "= LIST"),
        ("NDims = 3", "DimSize = 2 3 5"), ("Offset", "Origin = 0 0 0\nPosition"), ("0.7 0.7", "0.7"),
        ("0 1 0 1 0 0 0 0 1", "1 0 0"), ("DimSize", "Dim"), ("0.7 0.7 2.5", "0 0 0"),
    ):  # fmt: skip
        (tmp_path / "ct.mha").write_bytes(header.replace(old, new).encode() + zlib.compress(bytes(120)))
        with pytest.raises(InputRefused):
            read_volume(tmp_path / "ct.mha")


def nifti_of(path, ct, edit):
    """A NIfTI of a CT whose header was edited after it was written, as nibabel would make its parts agree."""
    image = nib.Nifti1Image(np.asarray(ct.hu.transpose(2, 1, 0)), RAS @ ct.affine)
    image.set_qform(RAS @ ct.affine, 1)
    image.set_sform(RAS @ ct.affine, 1)
    nib.save(image, path)
    data = path.read_bytes()
    header = nib.Nifti1Header(data[:348], check=False)
    edit(header)
    path.write_bytes(header.binaryblock + data[348:])
    return path


def scaled_sform(header, factor):
    header["srow_x"][:3], header["srow_y"][:3] = header["srow_x"][:3] * factor, header["srow_y"][:3] * factor


def mirrored_qform(header):
    header["quatern_b"], header["quatern_c"], header["quatern_d"] = 0, 0, 0


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda h: h.set_xyzt_units("micron"), "xyzt_units is 3, micrometers"),
        (lambda h: h.set_xyzt_units("meter"), "xyzt_units is 1, meters"),
        (lambda h: scaled_sform(h, 1.5), "sform and qform"),
        (mirrored_qform, "sform and qform"),
        (lambda h: (h.__setitem__("qform_code", 0), h["pixdim"].__setitem__(slice(1, 3), 1.0)), "pixdim"),
    ],
    ids=["micrometers", "meters", "another step", "other axes", "pixdim"],
)
def test_a_nifti_header_that_contradicts_itself_is_refused(tmp_path, ct, edit, words):
    path = nifti_of(tmp_path / "ct.nii", ct, edit)
    with pytest.raises(InputRefused) as refused:
        read_volume(path)
    assert refused.value.code == "geometry"
    assert words in refused.value.text


def test_a_nifti_in_micrometers_that_means_them_is_read(tmp_path, ct):
    def to_micrometers(header):
        header.set_xyzt_units("micron")
        for name in ("srow_x", "srow_y", "srow_z"):
            header[name] = header[name] * 1000
        header["qform_code"] = 0
        header["pixdim"][1:4] *= 1000

    read, _ = read_volume(nifti_of(tmp_path / "ct.nii", ct, to_micrometers))
    np.testing.assert_allclose(read.affine, ct.affine, atol=1e-3)
