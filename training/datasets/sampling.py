"""Which samples a step sees: pure functions of (seed, epoch), shared out by rank.

Nothing is drawn from a running generator, so a resumed run continues in the middle of an epoch by its step number
alone, and two ranks see together exactly what one would see.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def epoch_order(samples: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """A permutation of 0..samples-1 that depends on nothing but seed and epoch.

    Examples
    --------
    >>> bool((epoch_order(5, 7, 0) == epoch_order(5, 7, 0)).all())
    True
    """
    return np.random.default_rng([seed, epoch]).permutation(samples)


def balanced_order(is_positive: ArrayLike, seed: int, epoch: int, positive_share: float = 0.5) -> NDArray[np.int64]:
    """An epoch in which a fixed share of every stretch is positive: each positive once, negatives drawn to match.

    Calcium is rare (a tenth of slices): in a plain order most batches would hold nothing to learn from. Every
    positive is seen once an epoch; negatives are a fresh part of them in each epoch, and are repeated only when
    there are too few.

    Parameters
    ----------
    is_positive
        (samples,) bool
    positive_share
        Of each batch; 0.5 alternates.

    Returns
    -------
    NDArray[np.int64]
        Sample numbers. With no positives or no negatives it is `epoch_order`.

    Examples
    --------
    >>> order = balanced_order([True, False, False, False, True, False], seed=1, epoch=0)
    >>> [int(n) in (0, 4) for n in order]
    [True, False, True, False]
    """
    if not 0 < positive_share < 1:
        raise ValueError(f"positive_share must lie between 0 and 1, got {positive_share}")
    truth = np.asarray(is_positive, dtype=bool)
    positives, negatives = np.flatnonzero(truth), np.flatnonzero(~truth)
    if not positives.size or not negatives.size:
        return epoch_order(truth.size, seed, epoch)
    positives = positives[epoch_order(positives.size, seed, epoch)]
    length = round(positives.size / positive_share)
    wanted = length - positives.size
    shuffled = [epoch_order(negatives.size, seed + 1, epoch * 1000 + n) for n in range(-(-wanted // negatives.size))]
    negatives = negatives[np.concatenate(shuffled)[:wanted]] if wanted else negatives[:0]
    # Place n is positive where the running count floor((n + 1) * share) steps up; the first place always is.
    count = np.ceil(np.arange(length + 1) * positive_share - 1e-9)
    at = np.diff(count) > 0
    order = np.empty(length, np.int64)
    at[np.flatnonzero(at)[positives.size :]] = False
    order[at] = positives[: int(at.sum())]
    order[~at] = np.resize(negatives, int((~at).sum()))
    return order


def with_mined(
    order: NDArray[np.int64], is_positive: ArrayLike, mined: NDArray[np.int64], seed: int, epoch: int
) -> NDArray[np.int64]:
    """The same epoch with mined negatives in the place of others: each once, in at most half of the negatives' places.

    The epoch stays as long as it was, so that schedules remain functions of the step.

    Parameters
    ----------
    order
        Of `balanced_order`.
    mined
        Numbers of negatives on which the network fired.

    Examples
    --------
    >>> with_mined(np.array([0, 3, 1, 4, 0, 5]), [True, True, False, False, False, False], np.array([2]), 1, 0)
    array([0, 2, 1, 4, 0, 5])
    """
    places = np.flatnonzero(~np.asarray(is_positive, dtype=bool)[order])
    chosen = mined[epoch_order(mined.size, seed + 2, epoch)][: places.size // 2]
    changed = order.copy()
    changed[places[np.arange(chosen.size) * places.size // max(1, chosen.size)]] = chosen
    return changed


def batch_at(step: int, batch: int, length_of_epoch: int) -> tuple[int, slice]:
    """Epoch and place in its order of the batch of one step; what does not fill a batch is left for other epochs.

    Examples
    --------
    10 samples in batches of 4 make 2 steps an epoch:

    >>> batch_at(3, 4, 10)
    (1, slice(4, 8, None))
    """
    steps = steps_per_epoch(batch, length_of_epoch)
    epoch, n = divmod(step, steps)
    return epoch, slice(n * batch, (n + 1) * batch)


def steps_per_epoch(batch: int, length_of_epoch: int) -> int:
    """Whole batches in an epoch; a batch larger than the epoch is one step."""
    if length_of_epoch < 1:
        raise ValueError("an epoch needs at least one sample; the split is empty")
    return max(1, length_of_epoch // batch)


def share_of_rank(batch: NDArray[np.int64], rank: int, world: int) -> NDArray[np.int64]:
    """The samples of a batch that one rank takes: every world-th, so that all shares differ by at most one.

    Raises
    ------
    ValueError
        The batch does not divide by the number of ranks; means over shares would not be the mean of all.
    """
    if len(batch) % world:
        raise ValueError(f"a batch of {len(batch)} does not divide by {world} processes; choose another batch size")
    return batch[rank::world]


def sample_rng(seed: int, epoch: int, sample: int) -> np.random.Generator:
    """The generator that augments one sample in one epoch, whichever rank or worker does it."""
    return np.random.default_rng([seed, epoch, sample])
