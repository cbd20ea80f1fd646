"""Relations that every drawn heart must keep, and sizes that must come out as published."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest

import training.evaluation.second_family as family
from heartlens.core.lesions import Artery
from training.evaluation.second_family.calcium import draw_plaques
from training.evaluation.second_family.coronaries import STEP_MM, Course, draw_courses
from training.evaluation.second_family.heart import Heart, draw_heart, frame_of
from training.evaluation.second_family.published import SIZES_MM
from training.evaluation.second_family.shapes import Ellipsoid, Grid, Tube, distances

FAMILY = Path(family.__path__[0])
PHANTOM = Path(__file__).resolve().parents[4] / "HeartLensCAC" / "heartlens" / "phantom"


@pytest.fixture(scope="module", params=[0, 1, 2])
def person(request) -> tuple[Heart, dict[str, Course]]:
    rng = np.random.default_rng(request.param)
    heart = draw_heart(rng, is_woman=request.param == 1)
    return heart, {course.name: course for course in draw_courses(rng, heart)}


def test_arteries_run_outside_the_heart(person):
    heart, courses = person
    solids = [s for name, s in heart.solids.items() if "sinus" not in name and name != "aorta"]
    for course in courses.values():
        inside = distances(solids, course.points).min(axis=0) < -0.3
        assert inside.mean() < 0.04, course.name


def test_the_left_main_leaves_the_left_sinus_between_trunk_and_left_atrium(person):
    heart, courses = person
    line = courses["left main"].points
    assert abs(distances([heart.solids["left sinus"], heart.solids["aorta"]], line[:1]).min()) < 3
    trunk, atrium = heart.solids["pulmonary trunk"], heart.solids["left atrium"]
    assert isinstance(trunk, Tube)
    assert isinstance(atrium, Ellipsoid)
    level = trunk.points[np.abs(trunk.points[:, 2] - line[-1, 2]).argmin()]
    assert level[1] < line[-1, 1] < atrium.center[1]  # in front of it, and behind
    assert line[-1, 0] > line[0, 0] + 4  # to the left


def test_the_lad_ends_in_front_and_the_lcx_behind(person):
    heart, courses = person
    lad, lcx, rca = (courses[name].points for name in ("anterior descending", "circumflex", "right"))
    assert lad[-1] @ heart.along > lad[0] @ heart.along + 50 * heart.scale  # toward the apex
    assert lcx[:, 1].max() > lad[:, 1].max() + 15
    assert rca[:, 0].min() < -25 * heart.scale  # the right border
    assert rca[-1, 2] < rca[0, 2] - 25 * heart.scale  # down to the crux
    for name, low, high in (("anterior descending", 85, 160), ("circumflex", 40, 120), ("right", 75, 170)):
        assert low < courses[name].length_mm < high, name


def test_an_ellipsoid_is_as_far_as_its_radius_says_and_a_plane_cuts_it():
    ball = Ellipsoid(np.array([1.0, 0, 0]), np.eye(3), np.full(3, 10.0))
    cut = Ellipsoid(ball.center, ball.axes, ball.semi_mm, planes=((ball.center, np.array([0.0, 0, 1])),))
    points = np.array([[13.0, 0, 0], [1, 0, -4]])
    assert distances([ball, cut], points)[0] == pytest.approx([2, -6], abs=1e-3)
    assert distances([ball, cut], points)[1] == pytest.approx([2, 4], abs=1e-3)


def test_a_tube_is_as_wide_as_it_says_on_a_grid_too():
    tube = Tube(np.array([(0.0, 0, 0), (0, 0, 10)]), np.array([2.0, 4.0]))
    axis = np.arange(-5, 16, 1, dtype=np.float32)
    grid = Grid(axis, axis, axis)
    assert tube.on(grid)[5 + 5, 5, 5 + 3] == pytest.approx(0, abs=1e-5)  # 3 mm off, halfway, where 3 mm is its radius
    assert tube.on(grid)[5, 5, 5 + 3] == pytest.approx(1, abs=1e-5)


def test_a_frame_has_right_angles_and_its_axis_points_left_forward_and_down():
    frame = frame_of(47, 31)
    assert frame @ frame.T == pytest.approx(np.eye(3), abs=1e-12)
    assert frame[0] == pytest.approx([0.627, -0.585, -0.515], abs=1e-3)
    assert frame[2, 2] > 0


def test_drawn_sizes_are_the_published_ones():
    rng = np.random.default_rng(5)
    for name, measured in SIZES_MM.items():
        drawn = np.array([measured.draw(rng) for _ in range(400)])
        assert drawn.mean() == pytest.approx(measured.mean, abs=0.2 * measured.sd), name
        assert np.abs(drawn - measured.mean).max() <= 2 * measured.sd + 1e-9, name


def test_plaques_range_from_grains_to_whole_vessels_and_cross_the_fork(person):
    rng, courses = np.random.default_rng(0), list(person[1].values())
    plaques = [draw_plaques(rng, courses) for _ in range(120)]
    assert 0.1 < np.mean([not of for of in plaques]) < 0.3
    lengths = np.array([len(d.radii) * 0.5 for of in plaques for d in of])
    assert lengths.min() < 2.5
    assert lengths.max() > 50
    main = courses[0].points[-1]
    crossing = [
        of for of in plaques
        if {Artery.LM, Artery.LAD} <= {d.artery for d in of if np.linalg.norm(d.centers - main, axis=1).min() < 3.5}
    ]  # fmt: skip
    assert len(crossing) > 6
    assert {d.artery for of in plaques for d in of} == {Artery.LM, Artery.LAD, Artery.LCX, Artery.RCA}
    assert STEP_MM < 1


def tables_of(folder: Path) -> dict[str, str]:
    """Constants of modules that hold numbers, by name: what they are made of."""
    found = {}
    for path in folder.rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            if not isinstance(node, (ast.Assign, ast.AnnAssign)) or node.value is None:
                continue
            if any(isinstance(n, ast.Constant) and isinstance(n.value, float) for n in ast.walk(node.value)):
                for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                    found[ast.unparse(target)] = ast.dump(node.value)
    return found


def test_the_second_family_has_nothing_of_the_first():
    for path in FAMILY.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{a.name}" for a in node.names]
            for name in names:
                assert "phantom" not in name, path.name
                if name.startswith("heartlens."):
                    assert name.split(".")[1] in ("core", "scoring"), f"{path.name} imports {name}"
    own, first = tables_of(FAMILY), tables_of(PHANTOM)
    assert min(len(own), len(first)) > 10
    assert set(own) & set(first) == set()
    assert not set(own.values()) & {text for text in first.values() if text.count("Constant") > 1}
