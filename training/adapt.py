"""Adapt a bundle to scans that nobody labeled: a reward network says which labelings anatomy allows.

python -m training.adapt --start BUNDLE --source SHARDS ... --target SHARDS ... --out BUNDLE
    [--method ppo|self-training]

After RL4Seg. The source's labels teach the reward network what a valid labeling is; the last layer of the vessel
network then learns on half of the target's patients by PPO, kept near its start and to what it knew of the source. The
other half shows what came of it: where its scans have labels, they judge and never teach. A bundle that calls less
validly, or worse where there are labels, is not written. The same command resumes: what the network sees of each scan
is kept.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from heartlens.core.atomic import atomic_file, check_folder
from heartlens.core.errors import InputRefused
from heartlens.networks.bundle import Bundle, find_bundle, load_bundle
from heartlens.networks.vessel_unet import UNet
from training.adaptation.adapted import FIGURES, count_islands, export_adapted, figures, table_of
from training.adaptation.islands import ScanIslands, islands_of_shards, vessel_network
from training.adaptation.policy import Policy, PolicyRecipe, Round, adapt
from training.adaptation.reward import RewardRecipe, reward_auroc, train_reward
from training.datasets.shards import ShardSet
from training.deploy.bundle_writer import ship_bundle
from training.engine.cli import DONE, REFUSED, Progress, deadline_after, run_command
from training.engine.config import load_recipe
from training.engine.provenance import source_commit
from training.engine.run_log import make_run_folder
from training.metrics.intervals import Interval

RECIPE = Path(__file__).parent / "runs" / "adapt.toml"

RECORD, RECORD_SCHEMA = "adapt.json", "heartlens.adapt/1"

LEAST_AUROC = 0.8
"""A reward network that tells valid labels from distorted ones worse than this steers nowhere."""


@dataclass(frozen=True)
class AdaptRecipe:
    """One run.

    Parameters
    ----------
    seed
        Of splits, distortions and draws.
    target_judges, source_judges
        Shares of patients who are not learned from.
    """

    seed: int = 0
    target_judges: float = 0.5
    source_judges: float = 0.3
    reward: RewardRecipe = field(default_factory=RewardRecipe)
    policy: PolicyRecipe = field(default_factory=PolicyRecipe)

    def __post_init__(self) -> None:
        if not (0 < self.target_judges < 1 and 0 < self.source_judges < 1):
            raise ValueError(f"shares must lie between 0 and 1, got {self.target_judges} and {self.source_judges}")


LEAST_PATIENTS = 4
"""Of each domain, so that somebody teaches and somebody judges."""

TARGET, SOURCE, BEFORE = "target", "source", "as it was"

TOLERATED = 0.02
"""A share that falls by less is not worse; nan, where nothing could be asked, is not, either."""


class Half(NamedTuple):
    """Scans of a domain: who teaches and who judges, by number."""

    shards: ShardSet
    teach: tuple[int, ...]
    judge: tuple[int, ...]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m training.adapt", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--start", required=True, metavar="BUNDLE", help="name or folder of the bundle to go on from")
    parser.add_argument("--source", type=Path, nargs="+", required=True, metavar="SHARDS", help="labeled scans of the "
                        "kind that it was trained on")  # fmt: skip
    parser.add_argument("--target", type=Path, nargs="+", required=True, metavar="SHARDS", help="scans to adapt to; "
                        "labels, where there are some, judge and never teach")  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, help="folder of the new bundle")
    parser.add_argument("--work", type=Path, metavar="DIR", help="keeps everything else (default: OUT-work)")
    parser.add_argument("--method", choices=("ppo", "self-training"), help="default: as the recipe says, ppo")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="settings other than runs/adapt.toml")
    parser.add_argument("--minutes", dest="deadline", type=deadline_after, metavar="N", help="no round begins later")
    parser.set_defaults(run=_run)
    return run_command(parser, arguments)


def _run(options: argparse.Namespace) -> int:
    folder = find_bundle(options.start)
    if folder is None:
        raise InputRefused("input", "--start none: rules have no weights; give a bundle")
    check_folder(options.out.absolute())
    recipe = load_recipe(AdaptRecipe, RECIPE, options.set)
    if options.method is not None:
        recipe = replace(recipe, policy=replace(recipe.policy, method=options.method))
    start, work = load_bundle(folder), options.work or options.out.with_name(f"{options.out.name}-work")
    make_run_folder(work)
    source, target = _halves(options.source, options.target, recipe)
    network = vessel_network(start)
    cache = work / "islands" / _identity(start)
    taught, sliver, targets, judges = (
        _read(start, network, shards, scans, cache)
        for shards, scans in [(source.shards, source.teach), (source.shards, source.judge),
                              (target.shards, target.teach), (target.shards, target.judge)]
    )  # fmt: skip
    if not any(map(len, targets)):
        raise InputRefused("input", "--target: no scan has an island that counts; there is nothing to adapt to")
    reward = train_reward(taught, start.vessel.classes, recipe.reward, recipe.seed)
    auroc = reward_auroc(reward, sliver, recipe.reward, recipe.seed)
    print(f"The reward network tells valid labels from distorted ones with an AUROC of {auroc:.3f}.", flush=True)
    if not auroc >= LEAST_AUROC:
        raise InputRefused(
            "input", f"--source: expected an AUROC of {LEAST_AUROC} or more, found {auroc:.3f}; give more labeled scans"
        )
    before = Policy(network.head)
    after, rounds, ended = adapt(
        before, targets, sliver, reward, recipe.policy, seed=recipe.seed, deadline=options.deadline, on_round=_say
    )
    if ended:
        print(f"Ended early: {ended}; the round before it is taken.")
    rows = _judged(start, {BEFORE: before, recipe.policy.method: after}, judges, sliver)
    print(table_of(rows))
    reason = why_not(rows, recipe.policy.method)
    record = {  # a share of nothing is null
        "schema": RECORD_SCHEMA, "shipped": not reason, "why_not": reason, "recipe": asdict(recipe),
        "commit": source_commit(), "auroc": auroc, "ended": ended, "rounds": [asdict(r) for r in rounds],
        "patients": {name: len({half.shards.scans[n].patient for n in (*half.teach, *half.judge)})
                     for name, half in (("source", source), ("target", target))},
        "judged": {name: {key: _plain(value) for key, value in row.items()} for name, row in rows.items()},
    }  # fmt: skip
    with atomic_file(work / RECORD) as sibling:
        sibling.write_text(json.dumps(record, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    print(f"Record: {work / RECORD}")
    if reason:
        print(f"error: not shipped: {reason}", file=sys.stderr)
        return REFUSED
    said = f"{len(target.teach)} scans that nobody labeled, by {recipe.policy.method}"
    lineage = {"commit": source_commit(), "method": recipe.policy.method, "scans": len(target.teach)}
    made = export_adapted(start, after, work, options.out.name, target.shards.ct(target.teach[0]), lineage, said)
    ship_bundle(made.folder, options.out, {"adapted": {"method": recipe.policy.method, "auroc": auroc}})
    print(f"Bundle: {options.out}")
    return DONE


def _plain(found: tuple[int, int, float, Interval]) -> list[float | None]:
    """Events, of how many, the share, and the ends of its interval; what is undefined is null."""
    return [None if math.isnan(v) else v for v in (*found[:3], *found[3])]


def _halves(source: Sequence[Path], target: Sequence[Path], recipe: AdaptRecipe) -> tuple[Half, Half]:
    """The patients of both domains, drawn once for a seed; nobody is in both."""
    labeled, new = ShardSet.open(*source), ShardSet.open(*target)
    both = {s.patient for s in labeled.scans} & {s.patient for s in new.scans}
    both |= {s.voxels_sha256 for s in labeled.scans} & {s.voxels_sha256 for s in new.scans}
    if both:
        raise InputRefused("input", f"--target: {len(both)} patients or scans are in --source, too; give other people")
    of_source = [n for n, scan in enumerate(labeled.scans) if scan.is_labeled]
    return (
        _half("--source", labeled, of_source, recipe.source_judges, recipe.seed),
        _half("--target", new, list(range(len(new.scans))), recipe.target_judges, recipe.seed + 1),
    )


def _half(option: str, shards: ShardSet, scans: Sequence[int], judges: float, seed: int) -> Half:
    patients = sorted({shards.scans[n].patient for n in scans})
    if len(patients) < LEAST_PATIENTS:
        what = "patients with labels" if option == "--source" else "patients"
        raise InputRefused(
            "input", f"{option}: expected {LEAST_PATIENTS} {what} or more, found {len(patients)}; give more scans"
        )
    drawn = np.random.default_rng([seed, 14]).permutation(len(patients))
    judging = {patients[n] for n in drawn[: max(1, round(judges * len(patients)))]}
    return Half(
        shards,
        tuple(n for n in scans if shards.scans[n].patient not in judging),
        tuple(n for n in scans if shards.scans[n].patient in judging),
    )


def _read(bundle: Bundle, network: UNet, shards: ShardSet, scans: Sequence[int], cache: Path) -> list[ScanIslands]:
    bar = Progress("scan", len(scans))
    found = []
    try:
        for islands in islands_of_shards(bundle, network, shards, scans, cache):
            found.append(islands)
            bar.step()
    finally:
        bar.close()
    return found


def _identity(bundle: Bundle) -> str:
    """The islands of another bundle are others."""
    return hashlib.sha256(json.dumps(bundle.checksums(), sort_keys=True).encode()).hexdigest()[:12]


def _say(done: Round) -> None:
    print(f"validity {done.reward:.3f}, {done.divergence:.3f} nats from the start, source {done.kept:.3f}", flush=True)


Rows = dict[str, dict[str, tuple[int, int, float, Interval]]]


def _judged(
    bundle: Bundle, policies: Mapping[str, Policy], judges: Sequence[ScanIslands], sliver: Sequence[ScanIslands]
) -> Rows:
    """Each policy on the patients who judge, of the target and of the source."""
    return {
        f"{domain}, {name}": figures([count_islands(bundle, policy, scan) for scan in scans])
        for domain, scans in ((TARGET, judges), (SOURCE, sliver))
        for name, policy in policies.items()
    }


def why_not(rows: Rows, method: str) -> str:
    """Why what was adapted may not ship; empty where it may.

    Parameters
    ----------
    rows
        Of `_judged`: before and after, of target and source.
    method
        That it was adapted by.
    """
    reasons = []
    for domain in (TARGET, SOURCE):
        before, after = rows[f"{domain}, {BEFORE}"], rows[f"{domain}, {method}"]
        for figure in FIGURES:
            old, new = before[figure][2], after[figure][2]
            if old - new > TOLERATED:
                reasons.append(f"{domain}: {figure} fell from {old:.2f} to {new:.2f}")
    return "; ".join(reasons)


if __name__ == "__main__":
    sys.exit(main())
