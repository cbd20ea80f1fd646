"""The command `heartlens draft`: a result in sentences, for a reader to check and edit."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heartlens import __version__
from heartlens.app.console import say
from heartlens.app.options import UsageError
from heartlens.core.errors import InputRefused

if TYPE_CHECKING:
    from heartlens.app.draft.rewording import Rewording
    from heartlens.case.comparison.opened import OpenedCase
    from heartlens.report.draft.sentences import DraftText

DONE = 0

DRAFT_SCHEMA = "heartlens.draft/1"

HEAD = "Draft text, "
"""How every draft begins; who replaces one looks for it."""


def add_draft(commands: Any) -> None:
    """Add the command to those of the command line."""
    draft = commands.add_parser("draft", help="say a result in sentences (English), for a reader to check and edit")
    draft.add_argument("result", type=Path, help="case or report folder")
    draft.add_argument("--out", type=Path, metavar="FILE", help="file to make; without it the draft is printed")
    draft.add_argument("--json", action="store_true", help="JSON with sentences, values, and what a model was asked")
    draft.add_argument("--force", action="store_true", help="replace an earlier draft")
    draft.add_argument(
        "--reword", metavar="URL",
        help="let a model behind an OpenAI-compatible endpoint of this computer re-word it; it is shown the sentences "
        "without their values, and what it changes otherwise is refused",
    )  # fmt: skip
    draft.add_argument("--model", metavar="NAME", help="of the model at that endpoint")
    draft.add_argument("--allow-remote", action="store_true", help="let the endpoint be another computer")
    draft.add_argument("--timeout", type=float, default=120.0, metavar="S", help="seconds for its answer (default 120)")
    draft.set_defaults(run=run_draft)


def run_draft(options: argparse.Namespace) -> int:
    """Write the draft of a result, and print it or where it lies."""
    from heartlens.case.comparison.opened import open_case

    _check_words(options)
    if options.out is not None:
        check_file(options.out, force=options.force)
    opened = open_case(options.result)
    if options.out is not None and opened.folder.resolve() in options.out.resolve().parents:
        raise InputRefused("output", f"{options.out} lies in the case, which holds its own files alone: choose another")
    draft, rewording = draft_of_case(opened), None
    if options.reword is not None:
        from heartlens.app.draft.rewording import reword

        rewording = reword(
            draft, options.reword, options.model, allow_remote=options.allow_remote, seconds=options.timeout
        )
    if options.json:
        text = json.dumps(draft_document(opened, draft, rewording), indent=1)
    else:
        text = draft_page(draft, rewording)
    if options.out is None:
        print(text)
    else:
        write_draft(options.out, text, force=options.force)
        print(f"Draft: {options.out}")
    if rewording is not None and rewording.note:
        say(f"note: {rewording.note}")
    return DONE


def _check_words(options: argparse.Namespace) -> None:
    if options.reword is None:
        if options.model is not None or options.allow_remote:
            raise UsageError("--model and --allow-remote say whom to ask: give --reword URL, too")
        return
    if not options.model or len(options.model) > 200 or not options.model.isprintable():
        raise UsageError("--reword needs --model NAME, of at most 200 characters on one line")
    if not 0 < options.timeout <= 3600:
        raise UsageError(f"--timeout must be above 0 and at most 3600 seconds, got {options.timeout:g}")


def draft_of_case(opened: OpenedCase) -> DraftText:
    """The draft of a saved case in the state that is known of it."""
    from heartlens.report.draft.template import draft_of

    return draft_of(
        opened.case.report,
        opened.assessment,
        state=opened.state_words,
        acquired=opened.acquired,
        labels=opened.case.provenance.labels,
    )


def draft_page(draft: DraftText, rewording: Rewording | None = None) -> str:
    """The draft with the line above it that says who wrote it.

    Parameters
    ----------
    draft
        Of a result.
    rewording
        By a model; None where none was asked.
    """
    lines = None if rewording is None else rewording.lines
    by = f"written by HeartLens {__version__} and by no reader."
    if rewording is not None and lines is not None:
        by = f"re-worded by the model {rewording.model}, checked by HeartLens {__version__}, and written by no reader."
    return f"{HEAD}{by}\n\n{draft.text(lines)}"


def draft_document(opened: OpenedCase, draft: DraftText, rewording: Rewording | None = None) -> dict[str, Any]:
    """What `--json` gives, schema `heartlens.draft/1` (report/draft/draft.schema.json)."""
    return {
        "schema": DRAFT_SCHEMA,
        "version": __version__,
        "state": opened.state.value,
        "evaluable": opened.assessment.evaluable.value,
        "text": draft_page(draft, rewording),
        "sentences": [sentence.text for sentence in draft.sentences],
        "values": dict(draft.values),
        "rewording": None if rewording is None else rewording.to_json(),
        "voxels_sha256": opened.case.voxel_checksum,
    }


def is_draft(path: Path) -> bool:
    """Whether a file is a draft of ours, so that replacing it loses nothing else."""
    try:
        with path.open(encoding="utf-8") as file:
            start = file.read(200)
    except (OSError, ValueError):
        return False
    return start.startswith(HEAD) or f'"schema": "{DRAFT_SCHEMA}"' in start


def check_file(path: Path, *, force: bool) -> None:
    """Refuse a file that may not be written.

    Parameters
    ----------
    path
        To write.
    force
        An earlier draft may be replaced.

    Raises
    ------
    InputRefused
        ``output``: it is there already, or is no draft, or its folder is not there.
    """
    if path.is_symlink() or path.exists():
        if not force:
            raise InputRefused("output", f"{path} exists; choose another --out, or --force to replace a draft")
        if not path.is_file() or not is_draft(path):
            raise InputRefused("output", f"{path} exists and is no draft of HeartLens; --force does not replace it")
    if not path.absolute().parent.is_dir():
        raise InputRefused("output", f"{path.absolute().parent} is no folder: make it, or choose another --out")


def write_draft(path: Path, text: str, *, force: bool) -> None:
    """Write a draft as a whole or not at all.

    Parameters
    ----------
    path
        Of the file.
    text
        What it holds.
    force
        An earlier draft may be replaced.

    Raises
    ------
    InputRefused
        ``output``: something else is there, or the disk does not take it.
    """
    from heartlens.core.atomic import atomic_file

    with atomic_file(path) as sibling:
        sibling.write_text(f"{text}\n", encoding="utf-8")
        check_file(path, force=force)  # a model may have taken minutes
