"""Backbones side by side on slices of unseen patients.

The report shows what their classifiers say (the form of DINO-LG's Figure 6), and where they look (Figure 3).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from heartlens.core.errors import InputRefused
from heartlens.networks.slice_classifier import SliceClassifier
from heartlens.networks.view import NetworkView
from training.datasets.shards import ShardSet
from training.datasets.slice_dataset import NOT_CORONARY, SliceSet
from training.dino.attention import AttentionMap, attention_of_slices
from training.dino.features import embed_slices
from training.evaluation import plots as figures
from training.evaluation.classifiers import mean_of_patients, summarize_classifier
from training.evaluation.results import BackboneSummary, Estimate
from training.slice_classifier.linear_probe import head_probability
from training.slice_classifier.weights import WEIGHTS, load_classifier

LOOKED_AT = 200
"""Calcified slices whose attention is read, at most: a large backbone takes seconds for each on a CPU."""

SHOWN = 3
"""Slices in the report, each of another patient."""

SHOWN_PX = 256
"""Pixels of a slice in the report; the attention on it has its own, coarser patches."""


def compare_backbones(
    runs: Mapping[str, Path], shards: ShardSet, scans: Sequence[int], *, draws: int, seed: int, device: str = "auto"
) -> tuple[dict[str, BackboneSummary], list[tuple[str, str]]]:
    """Judge the classifiers of several runs of `training.train_slices` and the backbones inside them.

    Parameters
    ----------
    runs
        folder of a run, by the name that the report shows, such as "DINO" and "DINO-LG"
    scans
        Numbers of labeled scans of patients that none of them has seen.
    device
        "auto" (a GPU where there is one), "cpu" or "cuda", on which slices are embedded.

    Returns
    -------
    summaries : dict[str, BackboneSummary]
        By name.
    pictures : list[tuple[str, str]]
        (data URL, caption), a slice and the attention of every backbone on it

    Raises
    ------
    InputRefused
        "unreadable" a run; "input" runs that see slices in different views
    """
    classifiers = {name: load_classifier(run / WEIGHTS) for name, run in runs.items()}
    views = {view for _, view, _ in classifiers.values()}
    if len(views) > 1:
        raise InputRefused(
            "input", f"{', '.join(runs)} see slices in different views; compare backbones of the same view"
        )
    view = views.pop()
    slices = SliceSet(shards, scans)
    patients = np.array([shards.scans[n].patient for n in slices.places[:, 0].tolist()])
    calcified = np.flatnonzero(slices.is_calcified)
    evenly = np.linspace(0, len(calcified) - 1, min(LOOKED_AT, len(calcified))).round().astype(int)
    looked_at = calcified[evenly]
    rows = attention_of_slices({name: c.backbone for name, (c, _, _) in classifiers.items()}, slices, looked_at, view)
    summaries = {}
    for name, (classifier, _, cut_off) in classifiers.items():
        p = _probability(classifier, slices, view, _device(device))
        by_patient = [
            (slices.is_calcified[patients == one].tolist(), p[patients == one]) for one in np.unique(patients)
        ]
        shares = [
            [row[name].on_calcium for row, n in zip(rows, looked_at, strict=True) if patients[n] == one]
            for one in np.unique(patients)
        ]
        defined = [[share for share in group if np.isfinite(share)] for group in shares]
        areas = [row[name].calcium_area for row in rows if np.isfinite(row[name].calcium_area)]
        summaries[name] = BackboneSummary(
            classifier=summarize_classifier(by_patient, cut_off, draws=draws, seed=seed),
            looked_at=sum(map(len, defined)),
            attention_on_calcium=mean_of_patients(defined, draws=draws, seed=seed) if areas else Estimate(None),
            calcium_area=float(np.mean(areas)) if areas else None,
        )
    pictures = [
        _picture(slices, int(looked_at[n]), rows[n], view) for n in _most_calcified(rows, patients[looked_at].tolist())
    ]
    return summaries, pictures


def _device(name: str) -> torch.device:
    return torch.device("cuda" if name == "cuda" or (name == "auto" and torch.cuda.is_available()) else "cpu")


@torch.no_grad()
def _probability(
    classifier: SliceClassifier, slices: SliceSet, view: NetworkView, device: torch.device
) -> NDArray[np.float64]:
    numbers = np.arange(len(slices))
    embeddings = embed_slices(classifier.backbone.to(device), slices, numbers, view, device=device)
    return head_probability(classifier.head, embeddings)


def _most_calcified(rows: Sequence[Mapping[str, AttentionMap]], patients: Sequence[str]) -> list[int]:
    """Rows with the most calcium in view, one a patient."""
    areas = [next(iter(row.values())).calcium.sum() for row in rows]
    chosen: dict[str, int] = {}
    for n in np.argsort(-np.array(areas), kind="stable").tolist():
        chosen.setdefault(patients[n], n)
    return list(chosen.values())[:SHOWN]


def _picture(slices: SliceSet, number: int, row: Mapping[str, AttentionMap], view: NetworkView) -> tuple[str, str]:
    """The slice finer than the network sees it, and each backbone's attention, mean over its heads."""
    scan, k = slices.places[number].tolist()
    low, high = figures.ATTENTION_WINDOW_HU
    fine = replace(view.at_size(max(SHOWN_PX, view.size_px)), window_hu=figures.ATTENTION_WINDOW_HU)
    where = slices.spacing_mm(number), slices.heart_mm(number) if view.center == "heart" else None
    rendered = fine.render_slice(np.array(slices.shards.image(scan)[k]), *where)
    is_calcium = ~np.isin(np.array(slices.shards.labels(scan)[k]), NOT_CORONARY)
    calcium = replace(fine, window_hu=(0.0, 1000.0)).render_slice(np.where(is_calcium, 1000.0, 0.0), *where) > 0
    picture = figures.attention_figure(
        (rendered + 1) / 2 * (high - low) + low,
        {f"{name} ({shown.on_calcium:.1%} on calcium)": shown.mean for name, shown in row.items()},
        lesions=calcium,
    )
    area = next(iter(row.values())).calcium_area
    caption = f"{slices.name(number)}: calcium outlined, on {area:.1%} of the patches"
    return figures.data_url(picture, kind="png", dpi=130), caption
