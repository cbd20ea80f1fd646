"""Libraries that some tests need: absent, those tests skip on a user's machine and fail in CI."""

from __future__ import annotations

import importlib
import os
from typing import Any

import pytest


def need(name: str, install: str) -> Any:
    """The module, or a skip of the whole test file; in CI a failure, because nobody would notice a skip.

    Parameters
    ----------
    name : as in ``import name``
    install : what to type to get it
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        reason = f"needs {name}: {install} ({error})"
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI must have this: {reason}", pytrace=False)
        pytest.skip(reason, allow_module_level=True)
