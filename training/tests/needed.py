"""Libraries that tests of `training` need: absent, they skip on a user's machine and fail in CI."""

from __future__ import annotations

import importlib
import os
from typing import Any

import pytest


def need(name: str) -> Any:
    """The module, or a skip of the whole test file; in CI a failure, because nobody would notice a skip."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        reason = f"needs {name}: install training/requirements.txt ({error})"
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI must have this: {reason}", pytrace=False)
        pytest.skip(reason, allow_module_level=True)


torch = need("torch")
torch.set_num_threads(1)  # the same sums in the same order on every machine; and other work shares the cores
