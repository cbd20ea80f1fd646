"""A case to read in the browser, its server, and a real Chromium."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from installed import need

INSTALL = "pip install 'heartlens[test]'"

need("starlette", INSTALL)
need("uvicorn", INSTALL)

from viewer.reviewed_chest import Server, other_hu, write_case  # noqa: E402
from viewer.two_readings import read_first, read_second  # noqa: E402

from heartlens.app.rounds.readings import make_second  # noqa: E402


@pytest.fixture(scope="session")
def written_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the small chest, its series and its case."""
    place = tmp_path_factory.mktemp("chest") / "place"
    place.mkdir()
    write_case(place)
    return place


@pytest.fixture(scope="session")
def other_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with another person's chest, its series and its case."""
    place = tmp_path_factory.mktemp("other") / "place"
    place.mkdir()
    write_case(place, image=other_hu(), PatientID="P2")
    return place


@pytest.fixture
def case(written_once: Path, tmp_path: Path) -> Path:
    """A case folder of one's own; the series stays where it is."""
    shutil.copytree(written_once / "result", tmp_path / "result")
    return tmp_path / "result" / "case"


@pytest.fixture
def server(case: Path) -> Iterator[Server]:
    """`heartlens review` on it."""
    with Server(case) as running:
        yield running


@pytest.fixture(scope="session")
def read_twice_once(written_once, tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("twice")
    shutil.copytree(written_once / "result", place / "first")
    read_first(place / "first")
    make_second(place / "first" / "case", place / "second", "Ravi")
    read_second(place / "second")
    return place


@pytest.fixture
def twice(read_twice_once, tmp_path) -> Path:
    """A folder with both readings, `first` and `second`."""
    shutil.copytree(read_twice_once, tmp_path / "twice")
    return tmp_path / "twice"


@pytest.fixture(scope="session")
def two_readings(read_twice_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for the tests of two readings beside the third case; none of them edits."""
    place = tmp_path_factory.mktemp("third")
    first, second = read_twice_once / "first", read_twice_once / "second"
    with Server(first, "--against", second, "--adjudicate", place / "third") as running:
        yield running


@pytest.fixture(scope="session")
def unedited(written_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all tests whose requests are refused; each of them sees that nothing was changed."""
    place = tmp_path_factory.mktemp("unedited") / "result"
    shutil.copytree(written_once / "result", place)
    with Server(place) as running:
        yield running
