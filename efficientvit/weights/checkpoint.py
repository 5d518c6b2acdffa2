"""Checkpoints: the authors', timm's and our own, loaded strictly into the trained form."""

import json
import struct
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor
from torch.nn import functional

from efficientvit.digests import file_digest
from efficientvit.errors import BadCheckpoint, BadOutput
from efficientvit.files import replace_file
from efficientvit.model import EfficientViT, build
from efficientvit.size import ImageSize
from efficientvit.spec import PUBLISHED_SIZE, ModelSpec, model_spec
from efficientvit.weights.architecture import (
    check_member,
    classes_of,
    is_bias_table,
    sizes_with,
    trained_size,
    windows_of,
)
from efficientvit.weights.keymaps import Layout, is_ignored, is_mit_efficientvit, recognize, to_own, wrapper_prefix
from efficientvit.weights.safe_reader import WeightFile, read_weight_file

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_NAMED = 5  # how many tensors an error names before it only counts


@dataclass(frozen=True, slots=True)
class LoadedWeights:
    """A model with weights in it, and where they came from.

    `model` is in eval mode and float32; `source` is for people; `sha256` is that of the file; `notes` say
    what was done to the weights on the way (a prefix stripped, a bias table resized, a dtype cast).
    """

    model: EfficientViT
    source: str
    sha256: str
    layout: Layout
    notes: tuple[str, ...] = ()


def load_checkpoint(
    path: Path, model: str, image_size: ImageSize | None = None, classes: int | None = None
) -> LoadedWeights:
    """Load `.pth` or `.safetensors` weights of M0-M5 in the authors', timm's or our own layout.

    The class count comes from the head, the input size from the file's metadata or from the attention
    windows. Where another `image_size` has other windows, the attention bias tables are resized by bicubic
    interpolation of the (window, window) table of absolute offsets, as the authors do. timm interpolates
    differently (as for LeViT), so its logits at such sizes are not ours: the weights are the authors'.

    Args:
        path: the file; its format is recognized by its content.
        model: `m0` to `m5`.
        image_size: of the input, pixels; None for the size that the weights were trained at.
        classes: what the caller counts on; None for whatever the head has.

    Raises:
        UnknownModel: `model` is none of the family's.
        BadOption: `image_size` or `classes` cannot be used.
        BadCheckpoint: the file cannot be read safely, or is not a sound and complete checkpoint of `model`.
    """
    spec = model_spec(model, image_size, classes)
    path = Path(path)
    file = read_weight_file(path)
    layout, tensors, notes = _in_own_names(path, file)
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    check_member(shapes, spec)
    count = classes_of(shapes)
    if classes not in (None, count):
        raise BadCheckpoint(
            f"'{path.name}' has another number of classes",
            expected=str(classes),
            got=str(count),
            next_step="leave the class count out to take the checkpoint's",
        )
    _check_names(path, shapes, spec)
    windows = windows_of(shapes)
    declared = file.metadata.get("image_size")
    trained_at = trained_size(windows, declared)
    if declared is not None and declared != str(trained_at):
        notes.append(f"image_size {declared[:20]!r} in its metadata contradicts the attention windows: ignored")
    elif declared is None and image_size is None and trained_at != PUBLISHED_SIZE:
        others = ", ".join(str(size) for size in sizes_with(windows)[:6] if size != trained_at)
        notes.append(f"input size taken as {trained_at}; the windows also fit {others or 'no other size'}")
    loaded = build(spec.resized(image_size or trained_at, count))
    if loaded.spec.windows != windows:
        notes.append(
            f"attention bias tables resized from the windows {windows} of {trained_at} to "
            f"{loaded.spec.windows} of {image_size}: bicubic, as the authors do; not fine-tuned at this size"
        )
    loaded.load_state_dict(_checked(path, tensors, loaded, notes), strict=True)
    place = f", state dict under '{file.entry}'" if file.entry else ""
    source = f"{path.name} ({layout} layout, {file.container}{place})"
    return LoadedWeights(loaded, source, file_digest(path), layout, tuple(notes))


def save_checkpoint(model: EfficientViT, path: Path, **metadata: str) -> None:
    """Write `model` as safetensors in our own layout, at once or not at all; equal weights give equal bytes.

    Args:
        model: its state dict is stored in the dtype it has.
        path: the file to write; one that is there is replaced.
        metadata: more entries for the header, in addition to `format`, `model`, `image_size` and `classes`.

    Raises:
        BadOutput: the file cannot be written.
    """
    about = {
        **metadata,
        "format": "vit-export",
        "model": model.spec.name,
        "image_size": str(model.spec.image_size),
        "classes": str(model.spec.classes),
    }
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    payload = _with_sorted_header(save(tensors, about))
    try:
        replace_file(path, lambda part: part.write_bytes(payload))
    except OSError as error:
        raise BadOutput(
            f"cannot write '{path}'",
            got=str(error),
            next_step="choose a folder that exists and can be written",
        ) from error


def resize_bias_table(table: Tensor, window: int) -> Tensor:
    """(heads, old²) -> (heads, window²), bicubic over the 2-D table of absolute offsets (|dy|, |dx|)."""
    old = round(table.shape[1] ** 0.5)
    image = table.view(1, -1, old, old)
    return functional.interpolate(image, (window, window), mode="bicubic", align_corners=False).flatten(2)[0]


def _in_own_names(path: Path, file: WeightFile) -> tuple[Layout, dict[str, Tensor], list[str]]:
    """The layout, the tensors under our names, and the notes so far."""
    notes: list[str] = []
    if file.unused_entries:
        notes.append(f"taken from '{file.entry}'; not used: {', '.join(map(repr, file.unused_entries))}")
    copies: dict[str, dict[str, Tensor]] = {}
    for name, tensor in file.tensors.items():
        prefix = wrapper_prefix(name)
        copies.setdefault(prefix, {})[name.removeprefix(prefix)] = tensor
    # One file may carry the model and its running average side by side, as `model.` and `model_ema.`.
    models = sorted((prefix for prefix in copies if recognize(copies[prefix])), key=lambda p: ("ema" in p, p))
    if not models:
        raise _foreign(path, list(file.tensors))
    chosen = models[0]
    if chosen:
        notes.append(f"prefix '{chosen}' stripped from {len(copies[chosen])} tensor names")
    if models[1:]:
        notes.append(f"other copies of the model were not used: {', '.join(map(repr, models[1:]))}")
    strangers = {name: t for prefix in copies.keys() - models for name, t in copies[prefix].items()}
    tensors = {**strangers, **copies[chosen]}
    layout = recognize(copies[chosen])
    assert layout is not None
    renamed = {name: own for name, own in to_own(tensors, layout).items() if not is_ignored(name)}
    doubled = [own for own, count in Counter(renamed.values()).items() if count > 1]
    if doubled:
        raise BadCheckpoint(
            f"'{path.name}' has {len(doubled)} tensors twice, under names of two layouts",
            got=_some(doubled),
            next_step="give a checkpoint of one layout",
        )
    return layout, {own: tensors[name] for name, own in renamed.items()}, notes


def _foreign(path: Path, names: list[str]) -> BadCheckpoint:
    mit = is_mit_efficientvit(names)
    return BadCheckpoint(
        f"'{path.name}' holds "
        + ("MIT's EfficientViT (B0-L3), another model of that name" if mit else "another model"),
        expected="EfficientViT M0-M5 (Liu et al., CVPR 2023) in the authors', timm's or our own layout",
        got=_some(names),
        next_step="M0-M5 are `timm/efficientvit_m0.r224_in1k` to m5 on the Hugging Face hub",
    )


def _check_names(path: Path, names: Iterable[str], spec: ModelSpec) -> None:
    """Refuse a checkpoint that lacks a tensor or has one too many. Input size and classes change no name."""
    with torch.device("meta"):
        wanted = [name for name in EfficientViT(spec).state_dict() if not is_ignored(name)]
    _refuse(path, "lacks {n} tensor(s)", sorted(set(wanted) - set(names)))
    _refuse(path, "has {n} tensor(s) too many", sorted(set(names) - set(wanted)))


def _checked(path: Path, tensors: Mapping[str, Tensor], model: EfficientViT, notes: list[str]) -> dict[str, Tensor]:
    """A complete float32 state dict for `model`, or BadCheckpoint naming the tensors that are wrong."""
    target = model.state_dict()
    flat = {name for name, tensor in tensors.items() if target[name].shape == (*tensor.shape, 1, 1)}
    if flat:
        notes.append(f"{len(flat)} tensor(s) came without their two trailing dimensions of size 1")
    fitted = {
        name: _fit_table(name, tensor[..., None, None] if name in flat else tensor, target[name])
        for name, tensor in tensors.items()
    }
    misshapen = [
        f"{name} {tuple(tensors[name].shape)} for {tuple(target[name].shape)}"
        for name, tensor in fitted.items()
        if tensor.shape != target[name].shape
    ]
    _refuse(path, "has {n} tensor(s) of a wrong shape", misshapen)
    other = [f"{name} {t.dtype}" for name, t in fitted.items() if t.dtype not in _FLOATS or t.layout != torch.strided]
    _refuse(path, "has {n} tensor(s) that are not dense floating-point", other)
    casts = Counter(str(t.dtype).removeprefix("torch.") for t in tensors.values() if t.dtype != torch.float32)
    notes += [f"{count} {dtype} tensors cast to float32" for dtype, count in sorted(casts.items())]
    state = {name: tensor.float() for name, tensor in fitted.items()}
    _refuse(path, "has {n} tensor(s) with NaN or Inf", _with(state, lambda t: ~t.isfinite()))
    variances = {name: tensor for name, tensor in state.items() if name.endswith("running_var")}
    _refuse(path, "has {n} tensor(s) with a negative variance", _with(variances, lambda t: t < 0))
    return {**target, **state}


def _refuse(path: Path, what: str, names: list[str]) -> None:
    if names:
        raise BadCheckpoint(
            f"'{path.name}' {what.format(n=len(names))}",
            expected="every tensor of the model, once, dense, floating-point and finite",
            got=_some(names),
            next_step="give a complete, unaltered checkpoint",
        )


def _fit_table(name: str, tensor: Tensor, wanted: Tensor) -> Tensor:
    """A bias table at the window that is wanted; anything else as it is."""
    if not is_bias_table(name) or tensor.shape[1] == wanted.shape[1] or tensor.dtype not in _FLOATS:
        return tensor
    return resize_bias_table(tensor.float(), round(wanted.shape[1] ** 0.5))


def _with(state: Mapping[str, Tensor], bad: Callable[[Tensor], Tensor]) -> list[str]:
    counts = {name: int(bad(tensor).sum()) for name, tensor in state.items()}
    return [f"{name} ({count} of {state[name].numel()})" for name, count in counts.items() if count]


def _some(names: list[str]) -> str:
    rest = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def _with_sorted_header(payload: bytes) -> bytes:
    """The same safetensors bytes, header sorted: the library writes metadata in a random order."""
    (length,) = struct.unpack_from("<Q", payload)
    header = json.dumps(json.loads(payload[8 : 8 + length]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # the format aligns the data to 8 bytes
    return struct.pack("<Q", len(header)) + header + payload[8 + length :]
