"""A network as an ONNX file: any number of slices, weights inside, at wish as 16-bit numbers."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import torch
from torch import nn

SMALL = 1024
"""Tensors with fewer numbers stay as they are: biases and norms cost nothing."""


def rounded_to_half(network: nn.Module) -> None:
    """Round the large weights to what 16 bits can hold; they stay 32-bit numbers in memory."""
    with torch.no_grad():
        for tensor in network.parameters():
            if tensor.numel() >= SMALL:
                tensor.copy_(tensor.half().float())


def half_state(network: nn.Module) -> dict[str, torch.Tensor]:
    """The state of a network after `rounded_to_half`, large weights as 16-bit numbers of the same values."""
    state = network.state_dict()
    return {k: (v.half() if v.is_floating_point() and v.numel() >= SMALL else v) for k, v in state.items()}


def write_onnx(network: nn.Module, example: torch.Tensor, path: Path) -> None:
    """Any number of slices of the example's size; operators of opset 20, weights inside the file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's exporter warns of its own parts, which no user can change
        program = torch.onnx.export(
            network,
            (example,),
            input_names=["image"],
            output_names=["told"],
            dynamic_shapes=({0: torch.export.Dim("slices", min=1, max=4096)},),
            opset_version=20,
            external_data=False,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    program.save(str(path), external_data=False)


def store_as_half(path: Path) -> None:
    """Keep the large weights of an ONNX file as 16-bit numbers, and turn them back when the file is loaded.

    The sums stay 32-bit. Values that 16 bits do not hold are changed: round the network first.
    """
    import onnx

    model = onnx.load(path)
    graph = model.graph
    casts = []
    for tensor in graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT and np.prod(tensor.dims) >= SMALL:
            name = tensor.name
            small = onnx.numpy_helper.to_array(tensor).astype(np.float16)
            tensor.CopyFrom(onnx.numpy_helper.from_array(small, f"{name}.half"))
            casts.append(onnx.helper.make_node("Cast", [f"{name}.half"], [name], to=onnx.TensorProto.FLOAT))
    nodes = list(graph.node)
    del graph.node[:]
    graph.node.extend([*casts, *nodes])
    onnx.checker.check_model(model)
    onnx.save(model, path)
