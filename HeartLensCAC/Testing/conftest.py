"""What every test may ask for: real data where there is some, programs where they are installed."""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from installed import need
from tiny_ct import make_ct

from heartlens.core.ct import CTVolume

REPOSITORY = Path(__file__).resolve().parents[2]
SHARED_DATA = REPOSITORY.parent / "shared" / "data"


def skip_or_fail(reason: str) -> None:
    """Skip on a user's machine; in CI a missing part is a failure, because nobody would notice a skip."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI must have this: {reason}")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of openly licensed real CT, which is not part of the repository."""
    if not SHARED_DATA.is_dir():
        pytest.skip("needs the real CT data beside the repository (shared/data), which is not distributed")
    return SHARED_DATA


@pytest.fixture(scope="session")
def require_tool() -> Callable[[str], str]:
    """`require_tool("dciodvfy")` is the path of a program that judges our output independently."""

    def find(name: str) -> str:
        path = shutil.which(name)
        if path is None:
            skip_or_fail(f"the program {name} is not installed (see .ci/run for its package)")
        return str(path)

    return find


@pytest.fixture(scope="session")
def browser(require_tool: Callable[[str], str]) -> Iterator[Any]:
    """Debian's Chromium, without a screen and without a GPU."""
    playwright = need("playwright.sync_api", "pip install 'heartlens[test]'")
    with playwright.sync_playwright() as started:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        chromium = started.chromium.launch(executable_path=require_tool("chromium"), args=arguments)
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def a_ct() -> Callable[..., CTVolume]:
    """`a_ct(hu, spacing_mm=(3, 0.5, 0.5), **header)` is a CT of a few voxels with a visible answer."""
    return make_ct


@pytest.fixture(scope="session")
def qrm_series(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real QRM calcium phantom, 47 DICOM slices, unzipped."""
    folder = tmp_path_factory.mktemp("qrm")
    with zipfile.ZipFile(shared_data / "qrm_cci_canon" / "series.zip") as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture(scope="session")
def chest_series(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real chest CT without contrast and without coronary calcium, 64 slices, unzipped."""
    folder = tmp_path_factory.mktemp("chest")
    with zipfile.ZipFile(shared_data / "lung_pet_ct_dx_a0001" / "series.zip") as archive:
        archive.extractall(folder)
    return folder
