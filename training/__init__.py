"""Building and judging the models of HeartLens, offline; run from a checkout."""

import atexit
import os
import secrets
import shutil
import tempfile
from pathlib import Path

import heartlens  # noqa: F401  # switches the usage data of ONNX Runtime off, before anything here can load it

# numpy's matrix products are small here (a slice is laid on a view's grid), and many processes read slices at once.
# With a thread for each core they wait for each other by spinning: on two busy cores 105 ms of CPU a slice, alone 9.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# torch's threads wait for each other in the same way. Where other work takes a core they burn what is left: thirty
# steps of the smallest pre-training took 72 s on two busy cores, and 21 s with threads that sleep while they wait.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# Making an optimizer makes a folder for compiled code, named after the user, and a first figure a list of all fonts in
# the user's home. Both go with the process; who set a place for them keeps it.
_caches = Path(tempfile.gettempdir()) / f"heartlens-training-{secrets.token_hex(8)}"
os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(_caches / "torch"))
os.environ.setdefault("MPLCONFIGDIR", str(_caches / "matplotlib"))


def _clear_caches(process: int) -> None:
    if os.getpid() == process:  # not a child that was forked from it
        shutil.rmtree(_caches, ignore_errors=True)


atexit.register(_clear_caches, os.getpid())
