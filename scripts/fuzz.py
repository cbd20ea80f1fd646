#!/usr/bin/env python3
"""Damage a small chest and its labels in thousands of ways and see that no number moves without a word.

`make fuzz` runs it; `--only N` runs one case again and says what came of it.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPOSITORY / "HeartLensCAC"), str(REPOSITORY / "HeartLensCAC" / "Testing")]


def main() -> int:
    """Run the cases; the exit code is 1 where one must not be."""
    from damage import KINDS, Originals, cases, run_case

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=3000, help="cases (default 3000)")
    parser.add_argument("--seed", type=int, default=1, help="another seed draws other damage")
    parser.add_argument("--only", type=int, metavar="N", help="one case, by its number")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        originals = Originals(Path(folder))
        if options.only is not None:
            n = options.only
            print(run_case(originals, KINDS[n % len(KINDS)], random.Random(f"{options.seed}/{n}")))
            return 0
        ends: Counter[str] = Counter()
        bad = 0
        for n, outcome in cases(originals, options.count, options.seed):
            ends[outcome.end] += 1
            if outcome.is_bad:
                bad += 1
                print(f"BAD {n}: {outcome.what}: {outcome.end} {outcome.said[:300]}", flush=True)
        for end, count in sorted(ends.items(), key=lambda item: -item[1]):
            print(f"{count:6d} {end}")
        print(f"{bad} of {options.count} must not be (seed {options.seed})")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
