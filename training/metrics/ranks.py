"""Ranks of values, equal ones sharing theirs."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def mean_ranks(values: ArrayLike) -> NDArray[np.float64]:
    """(n,) ranks from 1; equal values share the mean of theirs.

    Examples
    --------
    >>> mean_ranks([10, 0, 0, 5])
    array([4. , 1.5, 1.5, 3. ])
    """
    _, place, count = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    return (last - (count - 1) / 2)[place.reshape(-1)]
