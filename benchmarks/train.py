"""Train a model on `benchmarks.patches`: a checkpoint on which quality figures of int8 mean something.

A smoke test and nothing more: fourteen classes of patches say little about ImageNet, but unlike random weights these
have learned ranges, outliers and margins. Deterministic on one machine with one thread.

    python -m benchmarks.train OUT.safetensors [--model m0] [--steps N]
"""

import math
import time
from pathlib import Path

import click
import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.patches import PHOTOGRAPHS, evaluation_patches, training_batches
from efficientvit.images.preprocessing import Preprocessing, to_tensor
from efficientvit.model import EfficientViT, build
from efficientvit.size import square
from efficientvit.spec import MODELS, model_spec
from efficientvit.weights.checkpoint import save_checkpoint

SIZE, BATCH, STEPS = 224, 32, 3000
_RATE, _DECAY, _SMOOTHING, _WARM_UP = 1.5e-3, 0.05, 0.1, 150


def evaluation_set(each: int) -> tuple[Tensor, Tensor]:
    """(n, 3, SIZE, SIZE) through the preprocessing contract, as an app would, and (n,) labels."""
    preprocessing = Preprocessing(image_size=square(SIZE))
    names = [Path(name).stem for name in PHOTOGRAPHS]
    images, labels = [], []
    for name, patch in evaluation_patches(each):
        rgb = np.array(Image.fromarray(patch).convert("RGB"))
        images.append(torch.from_numpy(to_tensor(rgb, preprocessing)).reshape(3, SIZE, SIZE))
        labels.append(names.index(name))
    return torch.stack(images), torch.tensor(labels)


@torch.no_grad()
def accuracy(model: EfficientViT, images: Tensor, labels: Tensor) -> float:
    """Share of the images whose top-1 class is right."""
    model.eval()
    hits = [model(part).argmax(1) == own for part, own in zip(images.split(50), labels.split(50), strict=True)]
    return float(torch.cat(hits).double().mean())


@click.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--model", type=click.Choice(list(MODELS)), default="m0", show_default=True)
@click.option("--steps", default=STEPS, show_default=True, help=f"Of {BATCH} images.")
def main(out: Path, model: str, steps: int) -> None:
    """Train and write OUT as float16 safetensors, with the recipe and the accuracy in its metadata."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    trained = build(model_spec(model, square(SIZE), len(PHOTOGRAPHS)))
    decayed = [p for p in trained.parameters() if p.ndim > 1]
    rest = [p for p in trained.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": _DECAY}, {"params": rest, "weight_decay": 0.0}], lr=_RATE
    )

    def schedule(step: int) -> float:
        return min((step + 1) / _WARM_UP, 0.5 * (1 + math.cos(math.pi * step / steps)))

    rate = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule)
    mean, std = (torch.tensor(v).reshape(1, 3, 1, 1) for v in (Preprocessing().mean, Preprocessing().std))
    images, labels = evaluation_set(50)
    start = time.monotonic()
    trained.train()
    for step, (batch, targets) in enumerate(training_batches(SIZE, BATCH, steps, seed=1)):
        loss = functional.cross_entropy(trained((batch - mean) / std), targets, label_smoothing=_SMOOTHING)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(trained.parameters(), 1.0)
        optimizer.step()
        rate.step()
        if step % 250 == 249:
            now = accuracy(trained, images, labels)
            click.echo(f"step {step + 1}: loss {loss.item():.3f}, accuracy {now:.3f}, {time.monotonic() - start:.0f} s")
            trained.train()
    trained.half().float().eval()
    final = accuracy(trained, images, labels)
    for parameter in trained.state_dict().values():
        if parameter.is_floating_point():
            assert torch.equal(parameter, parameter.half().float()), "the checkpoint holds what was measured"
    save_checkpoint(trained.half(), out, accuracy=f"{final:.4f}", data="benchmarks.patches", steps=str(steps))
    click.echo(f"{out}: accuracy {final:.4f} on {len(labels)} evaluation patches")


if __name__ == "__main__":
    main()
