"""A geometry that no scanner makes is refused, and every one that a scanner makes is not."""

import numpy as np
import pytest

from heartlens.anatomy.extent import require_possible_extent
from heartlens.core.ct import CTVolume
from heartlens.core.errors import InputRefused


def volume(shape, spacing_mm):
    return CTVolume(np.zeros(shape, np.int16), np.diag([*spacing_mm[::-1], 1.0]))


@pytest.mark.parametrize(
    ("shape", "spacing_mm"),
    [
        ((48, 512, 512), (3.0, 0.39, 0.39)),
        ((300, 512, 512), (0.5, 0.3125, 0.3125)),
        ((40, 512, 512), (5.0, 1.367, 1.367)),
        ((40, 128, 128), (5.0, 3.1, 3.1)),
        ((1, 512, 512), (8.0, 0.781, 0.781)),
        ((40, 512, 400), (2.5, 0.703, 0.7031)),
    ],
)
def test_what_scanners_make_is_read(shape, spacing_mm):
    require_possible_extent(volume(shape, spacing_mm))


@pytest.mark.parametrize(
    ("shape", "spacing_mm", "words"),
    [
        ((48, 512, 512), (3.0, 1.95, 1.95), "found 998.4 mm"),  # spacing five times too large
        ((48, 128, 128), (3.0, 13.0, 13.0), "pixels of 0.1 to 6 mm, found 13 mm"),
        ((48, 512, 512), (0.003, 0.00039, 0.00039), "found 0.00039 mm"),  # mm that are called micrometers
        ((48, 512, 512), (3000.0, 390.0, 390.0), "found 390 mm"),
        ((48, 512, 512), (3.0, 1.3, 0.65), "square pixels, found 0.65 x 1.3 mm"),
        ((48, 512, 512), (25.0, 0.4, 0.4), "steps between slices"),
        ((48, 512, 512), (3.0, 0.12, 0.12), "found 61.44 mm"),
        ((512, 512, 512), (5.0, 1.0, 1.0), "a scan of 0 to 2200 mm"),
    ],
)
def test_what_no_scanner_makes_is_refused_with_the_number(shape, spacing_mm, words):
    hu = np.broadcast_to(np.zeros(1, np.int16), shape)
    with pytest.raises(InputRefused) as refused:
        require_possible_extent(CTVolume(hu, np.diag([*spacing_mm[::-1], 1.0])))
    assert refused.value.code == "geometry"
    assert words in refused.value.text


def test_a_coronal_stack_that_the_user_allowed_has_no_square_pixels():
    require_possible_extent(volume((512, 60, 512), (0.8, 3.0, 0.8)), is_axial=False)
