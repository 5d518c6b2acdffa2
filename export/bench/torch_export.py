"""A PyTorch module as the paper times it (BatchNorm folded, traced), saved as a torch.export program."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from efficientvit.errors import StageFailed
from efficientvit.size import ImageSize
from efficientvit.spec import ModelSpec
from runtimes.artifact import Artifact, Format
from runtimes.host.machine import versions

if TYPE_CHECKING:
    from torch import Tensor, nn


def fold_batch_norms(module: "nn.Module", image_size: ImageSize) -> int:
    """Fold each BatchNorm2d that is fed by a convolution into it, in place; how many there were.

    Which is fed by which is watched on one image, since each family of models has modules of its own for the pair.
    That nobody else reads the convolution is not looked into: what would be wrong then, the gates reject.
    """
    import torch
    from torch import nn
    from torch.nn.utils.fusion import fuse_conv_bn_weights

    made: dict[int, tuple[nn.Conv2d, Tensor]] = {}  # the tensor is held, or its id would be another's
    pairs: list[tuple[nn.Conv2d, nn.BatchNorm2d]] = []

    def watch(part: nn.Module, given: Any, result: Any) -> None:
        if isinstance(part, nn.Conv2d):
            made[id(result)] = (part, result)
        elif isinstance(part, nn.BatchNorm2d) and id(given[0]) in made:
            pairs.append((made[id(given[0])][0], part))

    hooks = [part.register_forward_hook(watch) for part in module.modules()]
    try:
        with torch.no_grad():
            module(torch.zeros(image_size.nchw(1), dtype=next(module.parameters()).dtype))
    finally:
        for hook in hooks:
            hook.remove()
    for conv, norm in pairs:
        assert norm.running_mean is not None
        assert norm.running_var is not None
        conv.weight, conv.bias = fuse_conv_bn_weights(
            conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        )
    folded = {id(norm) for _, norm in pairs}
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if id(child) in folded:
                # timm's own BatchNormAct2d drops and activates too.
                rest = (getattr(child, what, None) for what in ("drop", "act"))
                setattr(parent, name, nn.Sequential(*(part for part in rest if part is not None)))
    return len(pairs)


def to_torch(module: "nn.Module", spec: ModelSpec, batch: int, out: Path) -> Artifact:
    """Write `module`, in eval mode, as a program for batches of `batch` to `out`, a `.pt2` file.

    Raises:
        StageFailed: torch.export cannot trace it.
    """
    import torch

    image = torch.zeros(spec.image_size.nchw(batch))
    try:
        with torch.no_grad():
            program = torch.export.export(module, (image,))
    except (RuntimeError, torch._dynamo.exc.TorchDynamoException) as error:
        raise StageFailed(f"torch.export fails on {spec.name}", got=str(error)) from error
    torch.export.save(program, out)
    return Artifact.on_disk(
        out, Format.TORCH, spec, made_by="torch.export", batch=batch, tools=versions("torch", "timm")
    )
