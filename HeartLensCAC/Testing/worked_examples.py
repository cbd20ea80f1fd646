"""The worked examples of docs/method.md: images whose score can be done by hand, and the score under each protocol.

Pixels are 0.5 x 0.5 mm = 0.25 mm2; slices are 3 mm unless said. Each column is a protocol; `OPTIONS` says it on the
command line.
"""

from __future__ import annotations

import numpy as np

from heartlens.core.protocol import PROFILES, ScoringProtocol

DEFAULT = PROFILES["agatston-1990"]
EIGHT = ScoringProtocol(connectivity=8)
NO_K = ScoringProtocol(normalisation="none")
COLUMNS = {
    "def": DEFAULT, "8c": EIGHT, "sie": PROFILES["siemens"], "phi": PROFILES["philips"], "can": PROFILES["canon"],
    "none": NO_K,
}  # fmt: skip


def block(rows, columns, hu, *, at=(2, 2), size=12, fill=0):
    """One slice with a block of one HU value."""
    image = np.full((size, size), fill, np.float64)
    image[at[0] : at[0] + rows, at[1] : at[1] + columns] = hu
    return image


def t3(hu=280):
    image = block(3, 4, 150)
    image[3, 3] = hu
    return image


def t5():
    lower, upper = block(2, 4, 200), block(2, 4, 180)
    lower[2, 2] = 450
    return np.stack([lower, upper])


def t6():
    image = block(2, 2, 450)
    image[4:6, 4:6] = 150
    return image


def t7():
    image = np.zeros((12, 12))
    image[[2, 3, 3], [2, 2, 3]] = 250
    image[[4, 5, 5], [4, 4, 5]] = 250
    return image


def all_280():
    return np.stack([block(3, 4, 280)] * 2)


EXAMPLES = {  # name: (image, dz, T, {column: score}); spec 1.6, by hand
    "T1 2x2 at 130": (block(2, 2, 130), 3, 3, dict.fromkeys(COLUMNS, 1.0)),
    "T2 1x3 at 500": (block(1, 3, 500), 3, 3, {"def": 0, "8c": 0, "sie": 3, "phi": 3, "can": 3, "none": 0}),
    "T3 3x4 at 150, one 280": (t3(), 3, 3, dict.fromkeys(COLUMNS, 6.0)),
    "T4a 129": (block(3, 4, 129), 3, 3, dict.fromkeys(COLUMNS, 0.0)),
    "T4a 130": (block(3, 4, 130), 3, 3, dict.fromkeys(COLUMNS, 3.0)),
    "T4b 199": (block(3, 4, 199), 3, 3, dict.fromkeys(COLUMNS, 3.0)),
    "T4b 200": (block(3, 4, 200), 3, 3, dict.fromkeys(COLUMNS, 6.0)),
    "T4c 299": (block(3, 4, 299), 3, 3, dict.fromkeys(COLUMNS, 6.0)),
    "T4c 300": (block(3, 4, 300), 3, 3, dict.fromkeys(COLUMNS, 9.0)),
    "T4d 399": (block(3, 4, 399), 3, 3, dict.fromkeys(COLUMNS, 9.0)),
    "T4d 400": (block(3, 4, 400), 3, 3, dict.fromkeys(COLUMNS, 12.0)),
    "T5 two slices": (t5(), 3, 3, dict.fromkeys(COLUMNS, 10.0)),
    "T6 corner": (t6(), 3, 3, {"def": 5, "8c": 8, "sie": 5, "phi": 5, "can": 5, "none": 5}),
    "T7 two Ls": (t7(), 3, 3, {"def": 0, "8c": 3, "sie": 3, "phi": 3, "can": 3, "none": 0}),
    "T8 thin": (all_280(), 1.5, 1.5, {"def": 6, "8c": 6, "sie": 6, "phi": 6, "can": 6, "none": 12}),
    "T9 overlap": (all_280(), 1.5, 3.0, {"def": 6, "8c": 6, "sie": 6, "phi": 6, "can": 6, "none": 12}),
    "T13 peak 199.5": (t3(199.5), 3, 3, dict.fromkeys(COLUMNS, 3.0)),
}

OPTIONS = {
    "def": (),
    "8c": ("--connectivity", "8"),
    "sie": ("--profile", "siemens"),
    "phi": ("--profile", "philips"),
    "can": ("--profile", "canon"),
    "none": ("--normalisation", "none"),
}
