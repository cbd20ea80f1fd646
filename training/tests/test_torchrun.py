"""Every torchrun line that a page shows reaches our command whole: torchrun keeps none of its words to itself."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from needed import torch  # noqa: F401  - skips, or fails in CI, without it

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = [REPOSITORY / "training" / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
COMMANDS = [
    line.partition("  #")[0].strip()
    for page in PAGES
    for line in page.read_text(encoding="utf-8").splitlines()
    if line.startswith("torchrun ")
]


def parsed_by_torchrun(words):
    from torch.distributed.run import get_args_parser

    return get_args_parser().parse_args(words)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_shown_command_is_started_with_all_of_its_words(command):
    words = shlex.split(command)[1:]
    module = words.index("-m") + 1
    taken = parsed_by_torchrun(words)
    assert (taken.module, taken.training_script) == (True, words[module])
    assert taken.training_script_args == words[module + 1 :]


@pytest.mark.parametrize("name", ["train_dino", "train_unet", "train_slices", "finetune_slices"])
def test_no_option_of_a_loop_is_one_that_torchrun_takes_for_its_own(name):
    """Before the first value, torchrun reads abbreviations of its own options in ours: --start is --start-method."""
    source = (REPOSITORY / "training" / f"{name}.py").read_text() + (REPOSITORY / "training/engine/cli.py").read_text()
    shown = set(re.findall(r'add_argument\(\s*"(--[a-z-]+)"', source))
    assert "--shards" in shown
    for option in shown:
        taken = parsed_by_torchrun(["--nproc-per-node=2", "-m", f"training.{name}", option, "value"])
        assert taken.training_script_args == [option, "value"]
