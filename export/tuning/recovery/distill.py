"""Short distillation: the rounded form learns to answer as the float model does, on images without labels."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from efficientvit.model import EfficientViT
from export.tuning.recovery.fake_quantize import ranges, rounded_form
from runtimes.runtime import Array

BATCH, RATE, WARM_UP, LOOK = 16, 3e-5, 10, 10
"""Images a step, AdamW's learning rate, reached after so many steps, and steps between two looks."""

_AVERAGE = 0.95
"""Of the running average, which is what is looked at: single steps are noisier than what there is to gain."""

_HELD_OUT = 8
_SHIFT = 8
_TINY = 1e-12


@dataclass(frozen=True, slots=True)
class Recovery:
    """`model`: the best that was seen, the given one if none was better.

    `before`, `after`: squared error of the rounded form's answers and features over the float ones' variance, on
    images that were held out. `best`: the step of that model. `steps`: those that were made. `images`: learned from.
    """

    model: EfficientViT
    before: float
    after: float
    best: int
    steps: int
    images: int


def recover(
    given: EfficientViT,
    images: Array,
    *,
    seconds: float,
    steps: int | None = None,
    seed: int = 0,
    step: Callable[[str], None] = lambda _: None,
    clock: Callable[[], float] = time.monotonic,
) -> Recovery:
    """Fine-tune a copy of a trained form for int8. Of equal arguments and `steps`, on one machine, the same weights.

    Every eighth image is held out: the best weights on those are taken.

    Args:
        given: float32, in eval mode; its normalizations keep their statistics.
        images: (n, 3, H, W) normalized float32, at least 16.
        seconds: no further step is begun after them.
        steps: at most so many.
        seed: of the order of the images and of what is done to them.
        step: told what goes on.
        clock: seconds.
    """
    start, generator = clock(), torch.Generator().manual_seed(seed)
    held = torch.tensor(images[::_HELD_OUT])
    learned = torch.tensor(images[[number for number in range(len(images)) if number % _HELD_OUT]])
    student = rounded_form(given)
    with torch.no_grad():
        for part in torch.tensor(images).split(BATCH):
            student(part)
    for each in ranges(student):
        each.seeing = False
    averaged = rounded_form(given)
    for own, other in zip(ranges(averaged), ranges(student), strict=True):
        own.take(other)
    teacher = _Watched(given.eval())
    watched = _Watched(student)
    looked_at = _Watched(averaged)
    right = [teacher(part) for part in held.split(BATCH)]

    def error() -> float:
        with torch.no_grad():
            found = [_loss(looked_at(part), own) for part, own in zip(held.split(BATCH), right, strict=True)]
        return float(torch.stack(found).mean())

    optimizer = torch.optim.AdamW(student.parameters(), lr=RATE, weight_decay=0.0)
    before = after = error()
    best, kept, done = 0, given.state_dict(), 0
    while (steps is None or done < steps) and clock() - start < seconds:
        batch = _changed(learned[torch.randint(len(learned), (BATCH,), generator=generator)], generator)
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1.0, (done + 1) / WARM_UP)
        optimizer.zero_grad()
        loss = _loss(watched(batch), teacher(batch))
        loss.backward()
        nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        done += 1
        with torch.no_grad():
            for mean, new in zip(averaged.parameters(), student.parameters(), strict=True):
                mean.lerp_(new, 1 - _AVERAGE)
        if done % LOOK == 0 and (now := error()) < after:
            best, after = done, now
            kept = {name: value.clone() for name, value in averaged.state_dict().items()}
        step(f"step {done}: error {after:.5f}, {before:.5f} before")
    teacher.leave()
    found = EfficientViT(given.spec)
    found.load_state_dict(kept)
    return Recovery(found.eval(), before, after, best, done, len(learned))


class _Watched:
    """A model's outputs and what its stages give, without gradients of the teacher's."""

    def __init__(self, model: EfficientViT) -> None:
        self._model, self._seen = model, list[Tensor]()
        self._hooks = [
            model.stage(number).register_forward_hook(lambda _, __, result: self._seen.append(result))
            for number in range(1, model.spec.head.last_stage + 1)
        ]
        self._learns = any(True for _ in ranges(model))

    def __call__(self, images: Tensor) -> list[Tensor]:
        self._seen.clear()
        with torch.set_grad_enabled(self._learns and torch.is_grad_enabled()):
            given = self._model(images)
        return [*(given if isinstance(given, tuple) else (given,)), *self._seen]

    def leave(self) -> None:
        """Take the hooks out again."""
        for hook in self._hooks:
            hook.remove()


def _loss(found: list[Tensor], right: list[Tensor]) -> Tensor:
    """The mean over outputs and features of their squared error over the variance between images."""
    parts = [
        (a - b).square().mean() / (b - b.mean(0)).square().mean().clamp(min=_TINY)
        for a, b in zip(found, right, strict=True)
    ]
    return torch.stack(parts).mean()


def _changed(batch: Tensor, generator: torch.Generator) -> Tensor:
    """Mirrored or not, and shifted by a few pixels: (B, 3, H, W)."""
    mirrored = torch.rand(len(batch), generator=generator) < 1 / 2
    batch = torch.where(mirrored[:, None, None, None], batch.flip(3), batch)
    down, right = (int(torch.randint(2 * _SHIFT + 1, (), generator=generator)) for _ in range(2))
    height, width = batch.shape[2:]
    padded = functional.pad(batch, [_SHIFT] * 4, mode="reflect")
    return padded[:, :, down : down + height, right : right + width].contiguous()
