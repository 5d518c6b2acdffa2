"""What people would ship otherwise: timm's own model through `torch.onnx.export`, nothing rewritten."""

import logging
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from efficientvit.errors import StageFailed
from export.workers.gc_freeze import collector_at_rest
from runtimes.host.packages import missing

if TYPE_CHECKING:
    from torch import nn

    from efficientvit.model import EfficientViT


def stock_model(model: "EfficientViT") -> "nn.Module":
    """timm's EfficientViT with these weights, in eval mode.

    Raises:
        MissingExtra: timm is not installed.
    """
    if (error := missing("timm", "baselines", "exporting timm's own model")) is not None:
        raise error
    import timm

    from efficientvit.weights.keymaps import Layout, to_own

    spec, ours = model.spec, model.state_dict()
    size = spec.image_size.height, spec.image_size.width
    stock: nn.Module = timm.create_model(
        f"efficientvit_{spec.name}", img_size=size, num_classes=spec.classes,
        embed_dim=spec.dims, num_heads=spec.heads, depth=spec.depths, kernels=spec.kernels,
    )  # fmt: skip
    state = stock.state_dict()
    names = to_own(state, Layout.TIMM)
    stock.load_state_dict({name: ours.get(names[name], value) for name, value in state.items()})
    return stock.eval()


def export_stock(model: "EfficientViT", out: Path, batch: int) -> Path:
    """Write timm's EfficientViT with these weights to `out`, as a user would.

    Raises:
        MissingExtra: timm is not installed.
        StageFailed: its exporter fails.
    """
    import torch

    spec, stock = model.spec, stock_model(model)
    image = torch.zeros(spec.image_size.nchw(batch))
    quiet = logging.getLogger("torch.onnx")
    level = quiet.level
    quiet.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), collector_at_rest():
            warnings.simplefilter("ignore")  # of timm's caches, which the exporter does not like
            torch.onnx.export(stock, (image,), out, dynamo=True, verbose=False, external_data=False)
    except Exception as error:  # the exporter's own, of any kind
        raise StageFailed(f"torch.onnx.export fails on timm's efficientvit_{spec.name}", got=str(error)) from error
    finally:
        quiet.setLevel(level)
    return out
