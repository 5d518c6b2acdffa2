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

from efficientvit.errors import BadCheckpoint, BadOutput
from efficientvit.files import replace_file
from efficientvit.model import EfficientViT, build, tensor_names
from efficientvit.size import ImageSize
from efficientvit.spec import ModelSpec, model_spec
from efficientvit.weights.architecture import HEAD_BIAS, check_member, check_stem, classes_of, is_bias_table, windows_of
from efficientvit.weights.chosen import choose_model, some
from efficientvit.weights.declared import (
    ABOUT_CLASSES,
    Facts,
    fitting,
    of_buffers,
    of_checkpoint,
    of_metadata,
    required,
    understood,
    unique,
)
from efficientvit.weights.input_size import PUBLISHED_CLASSES, input_size
from efficientvit.weights.keymaps import Layout, is_ignored
from efficientvit.weights.located import Located, facts_beside, locate
from efficientvit.weights.reading import AS_IT_IS, Reading
from efficientvit.weights.safe_reader import read_weight_files
from efficientvit.weights.scripts import not_read, of_scripts

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@dataclass(frozen=True, slots=True)
class LoadedWeights:
    """A model with weights in it, and where they came from.

    `recovered_from`: they were fine-tuned for int8 (`vit-export recover`); the sha256 of the weights before.

    `model` is in eval mode and float32; `source` is for people; `sha256` is that of the file; `notes` say
    what was done to the weights on the way (a prefix stripped, a bias table resized, a dtype cast); `facts` are what
    the checkpoint says of its input. `size_assumed`: nothing says the input size, and it was taken for the published
    weights'. `average`: they are the running average. `unread`: configurations beside them, where nothing else says
    anything of the input.
    """

    model: EfficientViT
    source: str
    sha256: str
    layout: Layout
    notes: tuple[str, ...] = ()
    facts: Facts = ()
    size_assumed: bool = False
    average: bool = False
    recovered_from: str | None = None
    unread: tuple[str, ...] = ()


def load_checkpoint(
    path: Path,
    model: str,
    image_size: ImageSize | None = None,
    classes: int | None = None,
    reading: Reading = AS_IT_IS,
) -> LoadedWeights:
    """Load weights of M0-M5 in the authors', timm's or our own layout.

    The class count comes from the head; the input size from `image_size`, from what the checkpoint says (a
    `config.json` beside it, its metadata, the training script's arguments), or from the attention windows where only
    one size has them. Where another `image_size` has other windows, the attention bias tables are resized by bicubic
    interpolation of the (window, window) table of absolute offsets, as the authors do. timm interpolates
    differently (as for LeViT), so its logits at such sizes are not ours: the weights are the authors'.

    Args:
        path: the file, whose format is recognized by its content, or a folder as timm's `save_for_hf` writes it.
        model: `m0` to `m5`.
        image_size: of the input, pixels; None for the size that the weights were trained at.
        classes: what the caller counts on; None for whatever the head has.
        reading: which of several models in it, what may contradict what it says, and what the model is to give.

    Raises:
        UnknownModel: `model` is none of the family's.
        BadOption: `image_size` or `classes` cannot be used, `image_size` contradicts what the checkpoint says, or
            nothing says which of several input sizes it was trained at.
        BadCheckpoint: the file cannot be read safely, or is not a sound and complete checkpoint of `model`.
    """
    return load_located(locate(Path(path)), model, image_size, classes, reading)


def load_located(
    located: Located,
    model: str,
    image_size: ImageSize | None = None,
    classes: int | None = None,
    reading: Reading = AS_IT_IS,
) -> LoadedWeights:
    """As `load_checkpoint`, of files that were found."""
    head = reading.head
    spec = model_spec(model, image_size, classes, head)
    path = located.files[0]
    beside, notes = facts_beside(located, spec.name)
    file = read_weight_files(located.files)
    if file.skipped:
        notes.append(f"types of other packages not restored: {some(file.skipped)}")
    chosen = choose_model(path.name, file, spec, reading.ema)
    notes += chosen.notes
    shapes = {name: tuple(tensor.shape) for name, tensor in chosen.tensors.items()}
    check_member(shapes, spec)
    check_stem(shapes)
    count = classes_of(shapes, spec, chosen.other_head)
    if classes not in (None, count):
        raise BadCheckpoint(
            f"'{path.name}' has another number of classes",
            expected=str(classes),
            got=str(count),
            next_step="leave the class count out to take the checkpoint's",
        )
    tensors = {name: tensor for name, tensor in chosen.tensors.items() if not head.leaves_out(name)}
    if unused := len(chosen.tensors) - len(tensors):
        notes.append(f"{unused} tensors of the classifier not used: the export gives {head}")
    _check_names(path, tensors, spec)
    scripts, others = of_scripts(located.scripts, spec.name)
    said = (*of_metadata(file.metadata), *of_checkpoint(file.said), *scripts)
    if count:
        beside, said = required(beside, count), fitting(said, count, notes)
    facts = unique(understood((*beside, *said, *of_buffers(chosen.beside)), notes), notes)
    if unread := not_read(others, facts):
        what = "the input size, mean, std, crop or interpolation"
        notes.append(f"{', '.join(unread)} beside the weights not read: {what} that it states go into options")
    if not head.gives_logits:
        facts = tuple(fact for fact in facts if fact.name not in ABOUT_CLASSES)
    windows = windows_of(shapes)
    published = chosen.unaltered and not file.said and not facts and count == PUBLISHED_CLASSES
    size = input_size(
        windows, facts, image_size, published=published, override=reading.override, any_size=reading.any_size
    )
    if size.assumed:
        notes.append(f"nothing says the input size: {size.pixels}, as the published weights have it, is an assumption")
    loaded = build(spec.resized(size.pixels, count))
    if loaded.spec.windows != windows:
        notes.append(
            f"attention bias tables resized from the windows {windows} of {size.trained} to "
            f"{loaded.spec.windows} of {size.pixels}: bicubic, as the authors do; not fine-tuned at this size"
        )
    loaded.load_state_dict(_checked(path, tensors, loaded, notes), strict=True)
    place = f", state dict under '{chosen.entry}'" if chosen.entry else ""
    name = path.name if len(located.files) == 1 else f"{len(located.files)} shards in {located.name}"
    source = f"{name} ({chosen.layout} layout, {file.container}{place})"
    recovered = file.metadata.get("recovered_from")
    if recovered is not None:
        source = f"recovered from {recovered}: {source}"
        notes.append(_recovered(file.metadata))
    return LoadedWeights(
        model=loaded,
        source=source,
        sha256=located.sha256,
        layout=chosen.layout,
        notes=tuple(notes),
        facts=facts,
        size_assumed=size.assumed,
        average=chosen.average,
        recovered_from=recovered,
        unread=unread,
    )


def _recovered(said: Mapping[str, str]) -> str:
    return (
        f"not the weights of {said.get('recovered_source', 'a checkpoint')}, sha256 {said['recovered_from']}, but "
        f"those fine-tuned for int8 in {said.get('recovered_steps', '?')} steps, without labels, on "
        f"{said.get('recovered_images', '?')}; seed {said.get('recovered_seed', '?')}"
    )


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


def _check_names(path: Path, names: Iterable[str], spec: ModelSpec) -> None:
    """Refuse a checkpoint that lacks a tensor or has one too many. Input size and classes change no name."""
    wanted = [name for name in tensor_names(spec) if not is_ignored(name)]
    lacking = sorted(set(wanted) - set(names))
    if lacking == [HEAD_BIAS]:
        raise BadCheckpoint(
            f"'{path.name}' lacks the bias of its classifier",
            expected="every tensor of the model",
            got=f"no {HEAD_BIAS}",
            next_step="give a complete checkpoint; where the classifier was trained without a bias, add one of zeros: "
            "torch.zeros(classes)",
        )
    _refuse(path, "lacks {n} tensor(s)", lacking)
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
    empty = [name for name, tensor in tensors.items() if tensor.is_meta]
    _refuse(path, "has {n} tensor(s) without values, on PyTorch's device `meta`", empty)
    other = [
        f"{name} {t.dtype}" + ("" if t.layout == torch.strided else f" {t.layout}")
        for name, t in fitted.items()
        if t.dtype not in _FLOATS or t.layout != torch.strided
    ]
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
            got=some(names),
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


def _with_sorted_header(payload: bytes) -> bytes:
    """The same safetensors bytes, header sorted: the library writes metadata in a random order."""
    (length,) = struct.unpack_from("<Q", payload)
    header = json.dumps(json.loads(payload[8 : 8 + length]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # the format aligns the data to 8 bytes
    return struct.pack("<Q", len(header)) + header + payload[8 + length :]
