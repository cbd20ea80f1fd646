"""Says how likely a slice shows coronary calcium: a linear head on the backbone's embedding."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from heartlens.networks.backbone import Backbone


class SliceClassifier(nn.Module):
    """Backbone and head. The backbone is pre-trained and stays as it is while the head is fitted.

    Parameters
    ----------
    backbone
        See `heartlens.networks.backbone`.
    """

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(backbone.shape.dim, 1)

    def logits(self, view: Tensor) -> Tensor:
        """(n, 1, size, size) -> (n,) log odds."""
        return self.head(self.backbone(view))[:, 0]

    def forward(self, view: Tensor) -> Tensor:
        """(n, 1, size, size), as `NetworkView` lays it out -> (n,) p(calcified), float32."""
        return torch.sigmoid(self.logits(view).float())
