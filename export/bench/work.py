"""How much a model computes, and which share of what a core can multiply a row of a benchmark reaches."""

import functools
from collections.abc import Mapping

from efficientvit.spec import ModelSpec
from export.bench.baselines import BASELINES
from runtimes.precision import Dtype
from validation.timing.limit import Limit, Limits, highest, measured_limits


@functools.cache
def macs_of(spec: ModelSpec) -> int:
    """Multiply-accumulates for one image: of all products and convolutions, counted by PyTorch on the trained form.

    Of one of `BASELINES`, on timm's module.
    """
    import torch
    from torch import nn
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"), torch.no_grad():
        if spec.name in BASELINES:
            import timm

            model: nn.Module = timm.create_model(spec.name, pretrained=False)
        else:
            from efficientvit.model import EfficientViT

            model = EfficientViT(spec)
        with FlopCounterMode(display=False) as counted:
            model.eval()(torch.zeros(spec.image_size.nchw(1)))
    return int(counted.get_total_flops()) // 2


def share(limits: Limits, arithmetic: str, operations_per_s: float, threads: int) -> float | None:
    """Of what so many cores multiply in that arithmetic; None where no library here was measured in it."""
    known = {str(each): limit for each, limit in limits.items()}
    if arithmetic not in known:
        return None
    return operations_per_s / (known[arithmetic].operations_per_s * threads)


class Watched:
    """What one core multiplies, measured before and after something else: the best of both, in `limits`."""

    def __init__(self) -> None:
        self.limits: Mapping[Dtype, Limit] = {}

    def measure(self) -> None:
        """Once more."""
        self.limits = highest([*self.limits.values(), *measured_limits().values()])
