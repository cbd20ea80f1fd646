r"""Chew's table: networks and ensembles by the study's five figures and their time, and pictures of what they call.

python -m training.chew_table CHEW_1 CHEW_2 CHEW_3 CHEW_4 CHEW_5 --baseline CHEW_1 --ensemble CHEW_3 CHEW_5 \
    --shards DIR --splits FILE --out DIR [--part test] [--gallery 7]

Each positional run is a row, prediction x image; each run of --ensemble is one more, with the baseline's square.
Writes table.md, table.json and gallery/*.png (the study's Figures 4 to 10).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from heartlens.core.atomic import atomic_file, atomic_folder
from heartlens.core.errors import InputRefused
from training.datasets.hearts import find_hearts
from training.datasets.segmentation_dataset import SliceSamples
from training.datasets.shards import ShardSet
from training.datasets.splits import SPLITS, Splits, check_splits, scans_of
from training.deploy.bundle_writer import Trained, read_trained
from training.engine.cli import DONE, add_data, run_command
from training.engine.distributed import Ranks
from training.engine.json_records import write_json
from training.engine.provenance import machine, source_commit
from training.engine.run_log import make_run_folder
from training.evaluation.galleries.networks import network_pictures, networks_table, row_of
from training.evaluation.plots import save_png
from training.segmentation.ensembles import Ensemble

SCHEMA = "heartlens.chew-table/1"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m training.chew_table", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run_folder", type=Path, nargs="+", metavar="RUN", help="run of chew-*.toml; a row each")
    parser.add_argument("--baseline", type=Path, metavar="RUN", help="run of model 1, for --ensemble")
    parser.add_argument("--ensemble", type=Path, nargs="+", default=[], metavar="RUN",
                        help="runs whose product with the baseline's square is a row too")  # fmt: skip
    add_data(parser)
    parser.add_argument("--out", type=Path, required=True, help="folder of the table")
    parser.add_argument("--part", choices=SPLITS, default="test", help="of the splits (default test)")
    parser.add_argument("--batch", type=int, default=8, help="slices at once (default 8)")
    parser.add_argument("--gallery", type=int, default=7, metavar="N", help="slices in pictures (default 7)")
    parser.set_defaults(run=_run)
    return run_command(parser, arguments)


def _run(options: argparse.Namespace) -> int:
    if options.ensemble and options.baseline is None:
        raise InputRefused("input", "--ensemble needs --baseline, the run whose square it is multiplied with; give it")
    folders = dict.fromkeys([*options.run_folder, *options.ensemble, *([options.baseline] if options.baseline else [])])
    trained = {folder: read_trained(folder) for folder in folders}
    recipe = next(iter(trained.values())).recipe
    if any(one.recipe.samples.outputs != 1 or one.recipe.view != recipe.view for one in trained.values()):
        raise InputRefused(
            "input", "expected networks of one output that see the same view; choose runs of chew-*.toml"
        )
    shards, splits = ShardSet.open(*options.shards), Splits.load(options.splits)
    check_splits(shards, splits)
    scans = scans_of(shards, getattr(splits, options.part))
    make_run_folder(options.out)
    hearts = {} if recipe.view.is_whole_field else find_hearts(shards, scans, options.out / "hearts.json", Ranks())
    samples = SliceSamples(shards, scans, recipe.view, recipe.samples, hearts, recipe.seed)
    members: dict[str, tuple[Trained, Trained | None]] = {
        folder.name: (trained[folder], None) for folder in options.run_folder
    }
    for folder in options.ensemble:
        members[f"{folder.name} x {options.baseline.name}²"] = trained[folder], trained[options.baseline]
    rows = [row_of(name, *pair, samples, options.batch) for name, pair in members.items()]
    text = (
        f"{options.part}: {len(samples)} slices of {len(scans)} scans. Losses over all their pixels; lower is better. "
        f"Time on {machine()}. Commit {source_commit()}.\n\n{networks_table(rows)}\n"
    )
    document = {
        "schema": SCHEMA, "commit": source_commit(), "machine": machine(), "part": options.part,
        "slices": len(samples), "rows": [row._asdict() for row in rows],
    }  # fmt: skip
    ensembles = {
        name: Ensemble(one.network, None if two is None else two.network, recipe.view.neighbors)
        for name, (one, two) in members.items()
    }
    pictures = network_pictures(ensembles, samples, options.gallery)
    write_json(options.out / "table.json", document)
    with atomic_file(options.out / "table.md") as sibling:
        sibling.write_text(text, encoding="utf-8")
    if pictures:
        with atomic_folder(options.out / "gallery", force=True, is_ours=_is_gallery) as gallery:
            for n, (name, picture) in enumerate(pictures, 1):
                save_png(picture, gallery / f"{n:02d} {name.replace('/', '-')}.png", dpi=130)
    print(text, end="")
    print(f"Table: {options.out}")
    return DONE


def _is_gallery(folder: Path) -> bool:
    return all(path.suffix == ".png" for path in folder.iterdir())


if __name__ == "__main__":
    sys.exit(main())
