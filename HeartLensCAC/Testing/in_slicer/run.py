"""Run the tests of this folder inside Slicer and write down what they gave: `Slicer --python-script run.py TOLD.json`.

Fails closed: a folder without tests, a test file that cannot be imported and a crash are all failures, because
`scripts/in_slicer.py` asks for the file as well as for the exit code.
"""

import json
import sys
import traceback
import unittest
from pathlib import Path

import slicer

HERE = Path(__file__).resolve().parent


def run(result_file):
    """Returns the exit code."""
    sys.path.insert(0, str(HERE))
    suite = unittest.TestLoader().discover(str(HERE), pattern="slicer_*.py", top_level_dir=str(HERE))
    result = unittest.TextTestRunner(verbosity=2, stream=sys.stdout).run(suite)
    bad = len(result.errors) + len(result.failures) + len(result.unexpectedSuccesses)
    result_document = {
        "slicer": slicer.app.applicationVersion,
        "run": result.testsRun,
        "bad": bad,
        "skipped": len(result.skipped),
    }
    Path(result_file).write_text(json.dumps(result_document))
    return 0 if result.testsRun > len(result.skipped) and not bad else 1


if __name__ == "__main__":
    try:
        code = run(sys.argv[-1])
    except BaseException:  # Slicer would print it and stay open
        traceback.print_exc()
        code = 1
    slicer.util.exit(code)
