"""What runs a bundle's networks: ONNX Runtime on the CPU, torch on a GPU, from the same weights."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from heartlens.core.errors import InputRefused
from heartlens.networks.answers import Promise
from heartlens.networks.bundle import ARCHITECTURES, SLICES, VESSEL, Bundle
from heartlens.networks.bundle_file import content_of

if TYPE_CHECKING:
    import torch

EXTERNAL_DATA = b"\n\x08location\x12"
"""How ONNX names a file outside that holds weights: the key of an external data entry."""

MOST_LEVELS, MOST_WIDTH = 64, 8192
"""Layers and numbers of one layer; torch would build any number of them before it looks at the weights."""

CGROUP = Path("/sys/fs/cgroup")
"""Where Linux says how much of the machine a container may use."""


class OutOfDeviceMemory(MemoryError):
    """The GPU has not enough memory left for this batch."""


class OnnxNetwork:
    """A bundle's network on the CPU, through ONNX Runtime.

    Parameters
    ----------
    bundle
        Whose network.
    role
        Which network.
    threads
        Of ONNX Runtime; 0 lets it choose.
    """

    def __init__(self, bundle: Bundle, role: str = VESSEL, *, threads: int = 0) -> None:
        import onnxruntime

        # Where another program in this process loaded it first, it did not see that HeartLens wants silence.
        onnxruntime.disable_telemetry_events()
        onnxruntime.set_default_logger_severity(
            4
        )  # what goes wrong comes as an exception; a second telling names files
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Threads that wait by spinning would take the cores of whoever else is at work.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        file = bundle.file(role, "onnx")
        content = content_of(file, bundle.folder)
        if EXTERNAL_DATA in content:
            raise InputRefused("unreadable", f"{file.path}: its weights lie in another file; export the bundle again")
        try:
            self.session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime raises a dozen kinds for a graph that it cannot run
            raise _refusal(file.path, error, "input") from None
        inputs, outputs = self.session.get_inputs(), self.session.get_outputs()
        self.promise = Promise.of(bundle, role)
        self.promise.require_graph([(x.type, x.shape) for x in inputs], [(x.type, x.shape) for x in outputs])
        self.name = inputs[0].name

    def __call__(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, channels, size, size) -> (n, classes, size, size) logits, or (n,) probabilities of slices.

        Raises
        ------
        InputRefused
            "unreadable": the network fails, or gives no answer (another shape, a number that is none)
        MemoryError
            There is not enough for this batch.
        """
        try:
            answer = self.session.run(None, {self.name: image})[0]
        except Exception as error:
            raise _refusal(self.promise.path, error, "unreadable") from None
        return self.promise.require(answer, len(image))


def _refusal(path: str, error: Exception, code: str) -> Exception:
    text = " ".join(str(error).split())[:200]
    if "alloc" in text.lower() or isinstance(error, MemoryError):  # ONNX Runtime's own bad_alloc
        return MemoryError(text)
    return InputRefused(code, f"{path}: ONNX Runtime cannot run it: {text}; export the bundle again")


class TorchNetwork:
    """A bundle's network through torch, from the same weights.

    Parameters
    ----------
    bundle
        Whose network.
    role
        Which network.
    device
        "cpu" or "cuda"

    Raises
    ------
    InputRefused
        "input": an architecture that this version cannot build, or weights that are not its own
    """

    def __init__(self, bundle: Bundle, role: str = VESSEL, *, device: str = "cpu") -> None:
        import torch
        from safetensors import SafetensorError
        from safetensors.torch import load

        self.torch, self.device = torch, device
        file = bundle.file(role, "safetensors")
        numbers = dict(file.architecture)
        name = numbers.pop("name", None)
        if name not in ARCHITECTURES[role]:
            raise InputRefused(
                "input",
                f"{file.path}: unknown architecture {name!r}; torch here knows {', '.join(ARCHITECTURES[role])}; "
                "use the ONNX file, or update HeartLens",
            )
        self.promise = Promise.of(bundle, role, "safetensors")
        try:
            weights = load(content_of(file, bundle.folder))
            with torch.device("meta"):  # takes no memory: numbers of another network may ask for any amount
                shapes = {key: value.shape for key, value in _build(role, numbers).state_dict().items()}
            if shapes != {key: value.shape for key, value in weights.items()}:
                raise ValueError("tensors have other names or shapes")
            network = _build(role, numbers)
            network.load_state_dict(weights)
        except (TypeError, ValueError, RuntimeError, OverflowError, SafetensorError) as error:
            first_line = str(error).splitlines()[0][:200]
            raise InputRefused("input", f"{file.path}: weights and architecture do not fit: {first_line}") from None
        try:
            self.network = network.to(device).eval()
        except torch.cuda.OutOfMemoryError as error:
            raise OutOfDeviceMemory(str(error).splitlines()[0]) from None

    def __call__(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """As `OnnxNetwork`.

        Raises
        ------
        OutOfDeviceMemory
            The batch is too large for the GPU as it is now.
        """
        try:
            with self.torch.inference_mode():
                logits: NDArray[np.float32] = self.network(self.torch.from_numpy(image).to(self.device)).cpu().numpy()
        except self.torch.cuda.OutOfMemoryError as error:
            raise OutOfDeviceMemory(str(error).splitlines()[0]) from None
        except RuntimeError as error:
            first_line = str(error).splitlines()[0][:200]
            raise InputRefused("unreadable", f"{self.promise.path}: torch cannot run it: {first_line}") from None
        return self.promise.require(logits, len(image))


def _build(role: str, numbers: dict[str, Any]) -> torch.nn.Module:
    for name, value in numbers.items():
        if type(value) is not int or not 0 <= value <= (MOST_LEVELS if name == "depth" else MOST_WIDTH):
            raise ValueError(f"architecture: {name} is {str(value)[:40]!r}")
    if role == SLICES:
        from heartlens.networks.backbone import Backbone, BackboneShape
        from heartlens.networks.slice_classifier import SliceClassifier

        return SliceClassifier(Backbone(BackboneShape(**numbers)))
    from heartlens.networks.vessel_unet import UNet, UNetNumbers

    return UNet(UNetNumbers(**numbers))


def torch_can_run(bundle: Bundle) -> bool:
    """Whether every network of a bundle has weights for torch, of an architecture that is known here."""
    roles = {file.role for file in bundle.files}
    known = {
        file.role
        for file in bundle.files
        if file.format == "safetensors" and file.architecture.get("name") in ARCHITECTURES.get(file.role, ())
    }
    return bool(roles) and roles == known


def cpu_threads() -> int:
    """How many threads may compute: what `OMP_NUM_THREADS` says, else the cores that this process has.

    A container often sees all cores of the machine and may use two of them; more threads than that wait for each other.
    """
    setting = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if setting.isdecimal() and int(setting) > 0:
        return int(setting)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _container_cores()
    return max(1, min(cores, quota) if quota else cores)


def _container_cores() -> int | None:
    """Whole cores that the control group grants, rounded up; None when it sets no limit."""
    try:
        quota, period = (CGROUP / "cpu.max").read_text().split()[:2]  # version 2
    except (OSError, ValueError):
        try:
            quota = (CGROUP / "cpu" / "cpu.cfs_quota_us").read_text().strip()  # version 1
            period = (CGROUP / "cpu" / "cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    if not (quota.isdecimal() and period.isdecimal() and int(quota) and int(period)):
        return None
    return -(-int(quota) // int(period))


def sees_cuda() -> bool:
    """Whether torch is installed and the driver has a GPU for it.

    Asks the driver itself: to import torch takes seconds, which a machine without a GPU should not spend.
    """
    if importlib.util.find_spec("torch") is None or importlib.util.find_spec("safetensors") is None:
        return False
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        count = ctypes.c_int(0)
        if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)) or not count.value:
            return False
    except (OSError, AttributeError):
        return False
    import torch

    return bool(torch.cuda.is_available())  # a CPU build of torch sees none
