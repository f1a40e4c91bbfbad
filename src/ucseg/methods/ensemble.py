"""What one or several networks' logits say together."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ucseg.losses.segmentation import normalised_probabilities
from ucseg.method_parts.uncertainty import entropy
from ucseg.types import Prediction


def mean_prediction(logits: dict[str, Tensor], binary: bool) -> Prediction:
    """The mean of the networks' probabilities, its entropy as a part of log C, and the networks as members.

    For methods that are not trained to have a meaningful vacuity.

    Args:
        logits: B x C x S by name of network; a single one is not listed as a member.
        binary: per-class sigmoids (divided by their sum) instead of softmax.
    """
    members = {name: normalised_probabilities(z, binary) for name, z in logits.items()}
    probabilities = torch.stack(list(members.values())).mean(dim=0)
    # A sure prediction has entropy zero; the contract asks for more than that.
    uncertainty = (entropy(probabilities) / math.log(probabilities.shape[1])).clamp(1e-6, 1.0)
    return Prediction(probabilities, uncertainty, members if len(members) > 1 else {})
