"""Every way out is true: what a message tells the user to do is done, and leads to a score or to another word."""

from __future__ import annotations

import ast
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import small_chest
from dicom_builder import write_ct_series
from pydicom import dcmread
from schematic_chest import schematic_chest

from heartlens.__main__ import main
from heartlens.core.ct import CTVolume
from heartlens.core.errors import OVERRIDABLE
from heartlens.io.nrrd import write_nrrd
from heartlens.io.volumes import write_volume

PACKAGE = Path(__file__).resolve().parents[1] / "heartlens"
ONE = {"StudyInstanceUID": "1.2.3", "SeriesInstanceUID": "1.2.3.4", "FrameOfReferenceUID": "1.2.9"}

Words = list[str]


class Place:
    """A folder with the small chest in `ct` and its labels, and how it is scored."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ct = folder / "ct"
        self.labels = small_chest.write_labels(folder / "labels.nrrd")

    def chest(self, edit: Callable | None = None, name: str = "ct", **tags) -> list[Path]:
        return small_chest.write_series(self.folder / name, edit=edit, **{**ONE, **tags})

    def score(self, *words: str, source: Path | None = None, labels: Path | None = None) -> Words:
        given = ["--segmentation", str(labels or self.labels)]
        return ["score", str(source or self.ct), *given, *map(str, words)]


def copied_slice(place: Place):
    paths = place.chest()
    shutil.copy(paths[3], place.ct / "copy.dcm")
    return place.score(), "remove one of each", lambda told: (place.ct / "copy.dcm").unlink()


def missing_slice(place: Place):
    paths = place.chest()
    paths[9].rename(place.folder / "kept")
    return place.score(), "copy the whole series", lambda told: (place.folder / "kept").rename(paths[9])


def two_series(place: Place):
    place.chest(name="ct/a")
    place.chest(name="ct/b", SeriesInstanceUID="1.2.3.5")
    return place.score(), "choose with --series", lambda told: ["--series", told.split("UID ")[1].split(",")[0]]


def two_phases(place: Place):
    place.chest(name="ct/a", NominalPercentageOfCardiacPhase=70)
    place.chest(name="ct/b", NominalPercentageOfCardiacPhase=40)
    return place.score(), "choose with --series", lambda told: ["--series", told.split("UID ")[1].split(",")[0]]


def halves(place: Place):
    a, b = (place.chest(name=f"ct/{n}", AcquisitionNumber=n) for n in (1, 2))
    for path in (*a[17:], *b[:16]):
        path.unlink()
    place.labels = small_chest.write_labels(place.folder / "l.nrrd", small_chest.codes()[:17])
    return place.score(), "choose with --series", lambda told: ["--series", told.split("UID ")[1].split(";")[0]]


def two_patients(place: Place):
    place.chest(name="ct/a")
    place.chest(name="ct/b", SeriesInstanceUID="1.2.3.5", PatientID="P2")
    return place.score(), "choose with --series", lambda told: ["--series", "1.2.3.5"]


def unknown_series(place: Place):
    place.chest()
    return place.score("--series", "9.9"), "no series has UID 9.9; found", lambda told: ["--series", "1.2.3.4"]


def two_voltages(place: Place):
    paths = place.chest(lambda d, n: setattr(d, "KVP", 100 if n > 12 else 120))

    def alone(told: str) -> None:
        for path in paths[13:]:
            path.unlink()
        small_chest.write_labels(place.labels, small_chest.codes()[:13])

    return place.score(), "a folder of their own", alone


def few_slices(place: Place):
    for path in place.chest()[2:]:
        path.unlink()
    small_chest.write_labels(place.labels, small_chest.codes()[:2])
    return place.score(), "--allow few-slices", lambda told: ["--allow", "few-slices"]


def one_slice(place: Place):
    for path in place.chest(SliceThickness=None)[1:]:
        path.unlink()
    small_chest.write_labels(place.labels, np.zeros((1, 40, 40), np.uint8))
    words = place.score("--allow", "few-slices")
    return words, "say it with --thickness-mm", lambda told: ["--thickness-mm", "3"]


def contrast(place: Place):
    place.chest(ContrastBolusAgent="Iohexol")
    return place.score(), "--allow contrast", lambda told: ["--allow", "contrast"]


def derived(place: Place):
    place.chest(ImageType=["DERIVED", "SECONDARY"])
    return place.score(), "--allow derived", lambda told: ["--allow", "derived"]


def no_hu(place: Place):
    place.chest(RescaleType="OD")
    return place.score(), "--allow no-hu", lambda told: ["--allow", "no-hu"]


def not_axial(place: Place):
    write_ct_series(
        place.ct, small_chest.hu(), plane=((0, 1), (2, -1)), spacing_mm=(5.0, 5.0, 5.0), corner_lps_mm=(0, 0, 0)
    )
    return ["score", str(place.ct), "--bundle", "none"], "--allow not-axial", lambda told: ["--allow", "not-axial"]


def whole_chest(place: Place, edit: Callable) -> Words:
    """By rules alone: with labels nobody asks whether HU are cut off or how the patient lies."""
    ct = schematic_chest(noise_hu=25, add=[(25, -40, -20, 2.5, 700)])
    write_volume(place.folder / "ct.nrrd", CTVolume(edit(ct.hu), ct.affine, ct.header))
    return ["score", str(place.folder / "ct.nrrd"), "--bundle", "none"]


def clipped(place: Place):
    words = whole_chest(place, lambda hu: np.minimum(hu, 240))
    return words, "--allow clipped", lambda told: ["--allow", "clipped"]


def orientation(place: Place):
    words = whole_chest(place, lambda hu: np.ascontiguousarray(hu[::-1]))
    return words, "--allow orientation", lambda told: ["--allow", "orientation"]


def no_voltage(place: Place):
    place.chest(KVP=None)
    return place.score("--kvp-adapted"), "give --kvp N", lambda told: ["--kvp", "120"]


def no_thickness(place: Place):
    place.chest(SliceThickness=None)
    words = place.score("--normalisation", "thickness")
    return words, "give --thickness-mm X", lambda told: ["--thickness-mm", "3"]


def broken_number(place: Place, key: str, option: str):
    place.chest()
    write_nrrd(place.folder / "ct.nrrd", small_chest.hu(), small_chest.affine(), {key: "many"})
    words = place.score(source=place.folder / "ct.nrrd")
    return words, f"give {option}", lambda told: [option, "3" if option == "--thickness-mm" else "120"]


def broken_voltage(place: Place):
    return broken_number(place, "HeartLens_KVP", "--kvp")


def broken_thickness(place: Place):
    return broken_number(place, "HeartLens_SliceThickness", "--thickness-mm")


def wrong_slab(place: Place):
    place.chest()
    return place.score("--slab-mm", "100"), "--slab-mm: ", lambda told: ["--slab-mm", "6"]


def voltage_without_thresholds(place: Place):
    place.chest(KVP=150)
    return place.score("--kvp-adapted"), "--kvp-adapted: ", lambda told: ["--kvp", "100"]


def old_result(place: Place):
    place.chest()
    words = place.score("--out", place.folder / "out")
    assert main(words) == 0
    return words, "--force to replace it", lambda told: ["--force"]


def foreign_folder(place: Place):
    place.chest()
    (place.folder / "out").mkdir()
    (place.folder / "out" / "thesis.txt").write_text("years of work")
    words = place.score("--out", place.folder / "out")
    return words, "choose another --out", lambda told: ["--out", str(place.folder / "other")]


def file_as_out(place: Place):
    place.chest()
    (place.folder / "out").write_text("")
    words = place.score("--out", place.folder / "out")
    return words, "--out must name a folder", lambda told: ["--out", str(place.folder / "other")]


def unknown_language(place: Place):
    place.chest()
    words = place.score("--out", place.folder / "out", "--language", "tlh")
    return words, "--language: expected one of en (English)", lambda told: ["--language", "en"]


def labels_beside(place: Place):
    place.chest()
    small_chest.write_labels(place.labels, np.roll(small_chest.codes(), 9, 2))
    return place.score(), "give a label map of zeros", lambda told: small_chest.write_labels(
        place.labels, np.zeros(small_chest.SHAPE, np.uint8)
    ) and None  # fmt: skip


def segments_without_keys(place: Place):
    place.chest()
    path = small_chest.write_labels(place.folder / "l.seg.nrrd")
    renamed = place.folder / "l.nrrd"
    return place.score(labels=path), "call it .nrrd", lambda told: shutil.copy(path, renamed) and [
        "--segmentation", str(renamed)
    ]  # fmt: skip


def labels_of_another_grid(place: Place):
    place.chest()
    small_chest.write_labels(place.labels, small_chest.codes()[1:])
    return place.score(), "expected 40 x 40 x 20 voxels", lambda told: small_chest.write_labels(place.labels) and None


def volume_in_a_folder(place: Place):
    place.ct.mkdir()
    write_volume(place.ct / "a ct.nrrd", CTVolume(small_chest.hu(), small_chest.affine()))

    def given(told: str) -> Words:
        return shlex.split(told[told.index("heartlens score ") + 10 :].strip()) + place.score()[2:]

    return place.score(), "give the file itself", given


def broken_file(place: Place):
    place.chest()
    (place.ct / "x.dcm").write_bytes(b"not DICOM")
    return place.score(), "or remove it", lambda told: (place.ct / "x.dcm").unlink()


def cut_file(place: Place):
    paths = place.chest()
    whole = paths[5].read_bytes()
    paths[5].write_bytes(whole[:-1000])
    return place.score(), "copy it again", lambda told: paths[5].write_bytes(whole) and None


SCENES = (
    copied_slice, missing_slice, two_series, two_phases, halves, two_patients, unknown_series, two_voltages, few_slices,
    one_slice, contrast, derived, no_hu, not_axial, clipped, orientation, no_voltage, no_thickness, broken_voltage,
    broken_thickness, wrong_slab, voltage_without_thresholds, old_result, foreign_folder, file_as_out, unknown_language,
    labels_beside, segments_without_keys, labels_of_another_grid, volume_in_a_folder, broken_file, cut_file,
)  # fmt: skip

HELD_ELSEWHERE = {
    "--device": "test_inference.py: without a GPU --device cpu is told, and it is what every other test runs on",
    "--export-html": "viewer/test_copy.py: a file that is there is told, and every copy of these tests is a new one",
    "--port": "viewer/test_server.py: a taken port is told, and every server of these tests takes one that is free",
    "--adjudicate": "test_comparing.py: refused for several scans",
    "--keep": "cohort/test_reading.py: a cohort that was run so can be read",
    "--against": "viewer/test_rounds.py: named with --adjudicate, and every third case is made with both",
    "--second": "viewer/test_rounds.py: named with the name that it needs, and every second reading is made with one",
    "--reader": "viewer/test_rounds.py: the same",
    "--prior": "viewer/test_prior.py: named with what is said of two scans, and every prior scan is shown with it",
    "--prior-date": "test_comparing.py: the change a year is there when both days are said",
    "--current-date": "test_comparing.py: the same",
    "--unreviewed": "test_export.py: a case that nobody reviewed is exported with it",
    "--same-person": "test_comparing.py: two names that the user says are one person's",
    "--profile": "test_command_line.py: the message lists the names",
    "--scheme": "test_command_line.py: the message lists the names",
    "--key-page": "test_command_line.py: it is named with the folder that it needs",
    "--pdf": "test_command_line.py: the same",
    "--fhir": "test_command_line.py: the same",
    "--embed-ct": "test_command_line.py: it is named with the folder that it needs",
    "--predecessor": "test_command_line.py: the same",
    "--reword": "unit/app/draft/test_command.py: it is named with what it needs",
    "--model": "unit/app/draft/test_command.py: the same",
    "--allow-remote": "unit/app/draft/test_endpoint.py: another computer is asked with it alone",
    "--timeout": "unit/app/draft/test_command.py: its range is said",
    "--scheduler": "test_command_line.py: it and --slurm exclude each other",
    "--slurm": "test_command_line.py: the same",
    "--workers": "cohort/test_runs.py: a cohort is scored with 0 of them and with 2",
    "--limit": "test_command_line.py: it is named with --workers, and its range is said",
    "--keys": "cohort/test_tables.py: it lists the keys that a message asks for",
    "--one-per": 'cohort/test_planning.py: with "all", both of two series that suit equally well are planned',
    "--pacs": "pacs/cohort_stories.py: a cohort is planned from an archive",
    "--patient-id": "pacs/cohort_stories.py: the same, and who is in none is told",
    "--retry": "cohort/test_damage.py: a status is made again, and a word that is none is refused",
    "--memory": "cohort/test_damage.py: a size that is none is refused by its name",
    "--settings": "cohort/test_tables.py: the message lists the keys, and the beginning of one names it",
    "--config": "unit/pacs/node/test_command.py: a pacs.toml that is elsewhere is named by it",
    "--study": "pacs/client_stories.py: what is found is scored by it",
    "--date": "pacs/client_stories.py: it narrows what is found",
    "--accept": "unit/pacs/node/test_command.py: a node that lets nobody in is refused, and one with it listens",
    "--ae": "unit/pacs/node/test_command.py: titles that are none are refused by its name",
    "--changes": "unit/pacs/node/test_command.py: without callers it is the other door",
    "--changes-auth": "unit/pacs/node/test_command.py: variables that are not set are refused by its name",
    "--changes-clear": "unit/pacs/node/test_command.py: http:// to another computer is refused without it",
    "--home": "unit/pacs/node/test_command.py: a second node needs another one",
    "--listen": "unit/pacs/node/test_receiver.py: a taken port is told, and every node of these tests takes a free one",
    "--status-port": "unit/pacs/node/test_command.py: every node of these tests takes 0, for none",
    "--quiet": "unit/pacs/node/test_command.py: times that make no sense are refused by their names",
    "--unverified": "unit/pacs/node/test_command.py: the same",
    "--ask-again": "unit/pacs/node/test_command.py: the same",
    "--tls-certificate": "unit/pacs/node: test_command.py refuses what is no PEM, test_receiver.py receives with it",
    "--tls-key": "unit/pacs/node/test_receiver.py: the same",
    "--tls-clients": "unit/pacs/node/test_receiver.py: the same",
}
"""Options in messages whose way out another test goes."""


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
def test_what_a_message_says_can_be_done_and_helps(tmp_path, capsys, scene):
    words, way_out, do = scene(Place(tmp_path))
    assert main(words) == 3
    told = capsys.readouterr().err
    assert way_out in told
    done = do(told)
    more = done if isinstance(done, list) else []
    code = main(more if more[:1] == ["score"] else [*words, *more])
    again = capsys.readouterr()
    assert code == 0, again.err  # a score, for each of these: no message leads on to another one
    assert "Agatston" in again.out


OF_OTHERS = {"--preload", "--no-dashboard", "--dashboard-address"}
"""What the code tells Dask's workers, and no user."""

COMMANDS = (
    "score", "review", "progress", "compare", "second", "third", "export", "draft",
    "cohort plan", "cohort run", "cohort one", "cohort status", "cohort table", "cohort review",
    "pacs find", "pacs score", "pacs send", "pacs doctor", "node",
)  # fmt: skip


def options_in_messages() -> dict[str, set[str]]:
    """Options that sentences of the program name, docstrings and help aside; by the file that says them."""
    found: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        left_out = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("add_argument", "add_parser"):
                left_out |= {id(part) for part in ast.walk(node)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in left_out:
                for option in re.findall(r"--[a-z][a-z-]+", node.value):
                    found.setdefault(option, set()).add(path.name)
    return found


def test_every_option_that_a_message_names_is_tried_here(capsys):
    for words in COMMANDS:
        with pytest.raises(SystemExit):
            main([*words.split(), "--help"])
    known = set(re.findall(r"--[a-z][a-z0-9-]+", capsys.readouterr().out))
    told = {option: files for option, files in options_in_messages().items() if option not in OF_OTHERS}
    assert set(told) <= known, "a message names an option that does not exist"
    here = Path(__file__).read_text(encoding="utf-8")
    tried = {option for option in told if f'"{option}"' in here or f"{option} " in here}
    assert set(told) <= tried | set(HELD_ELSEWHERE), f"no scene follows {set(told) - tried}"


def test_every_refusal_that_can_be_lifted_is_lifted_by_its_code():
    here = Path(__file__).read_text(encoding="utf-8")
    assert {code for code in OVERRIDABLE if f'"--allow", "{code}"' in here} == OVERRIDABLE


def test_a_file_that_was_not_changed_is_what_it_was(tmp_path):
    """The scenes begin from a chest that scores."""
    place = Place(tmp_path)
    place.chest()
    assert main(place.score("--json")) == 0
    assert dcmread(next(place.ct.iterdir())).SeriesInstanceUID == "1.2.3.4"
