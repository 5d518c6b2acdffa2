"""What an export can be asked for, as one table: the command line, the Python API and recipes are held to it.

A keyword is the command line's option without its dashes: `--image-size` is `image_size`, and `image-size` in a recipe.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, TypedDict, get_type_hints

from msgspec import Meta

OnDisk: TypeAlias = str | Path
"""A file or a folder. A recipe names it from the folder that the recipe lies in."""

Names: TypeAlias = str | list[str] | tuple[str, ...]
SizeText: TypeAlias = int | str
"""`N` for a square, or `HxW`."""

Channels: TypeAlias = list[float] | tuple[float, float, float]
EvidenceName: TypeAlias = Literal["native", "vendor", "reference", "built"]


class OwnOptions(TypedDict, total=False):
    """Every option of `vit-export export` but those of the targets, with the text that `--help` shows."""

    target: Annotated[Names, Meta(description="Format to export to.")]
    image_size: Annotated[SizeText, Meta(
        description="Size of the input in pixels, multiples of 16: N for a square, or HxW, the height first, such as "
        "480x640. [default: the weights' own]"
    )]  # fmt: skip
    head: Annotated[str, Meta(
        description="What the model gives: logits; features, the maps of stages 1 to 3 (strides 16, 32, 64) that a "
        "detector takes, or features:2,3 for some; embedding, stage 3's map averaged over the grid, before the "
        "classifier's normalization. none is the same as embedding, as in timm (num_classes=0). [default: logits]"
    )]  # fmt: skip
    input: Annotated[str, Meta(
        description="What the artifact takes: tensor, normalized float32; pixels, 8-bit RGB (batch, height, width, 3) "
        "of the network's size, which it normalizes; image, photos of any size, which it also resizes and crops as "
        "Pillow does, or image:HxW of a stated size. A Core ML package takes tensor or pixels, and image is the same "
        "as pixels there. [default: pixels for Core ML, else tensor]"
    )]  # fmt: skip
    output: Annotated[str, Meta(
        description="What it gives in addition to the logits: probabilities, or topk[:K], scores and numbers of the K "
        "best classes. [default: logits; a Core ML package with labels gives label and probabilities]"
    )]  # fmt: skip
    batch: Annotated[int | str, Meta(description="Batch size, in images, or dynamic. [default: 1]")]
    opset: Annotated[int, Meta(
        description="ONNX opset, 11 to 23, from 13 on with int8; older Jetsons and boards need 11 to 17. [default: 18, "
        "which most runtimes read]"
    )]  # fmt: skip
    precision: Annotated[str, Meta(description="Numeric format. [default: each target's first]")]
    calibrate: Annotated[OnDisk, Meta(
        description="Required for int8: folder of about 100 photos to calibrate on, or `golden` for a trial on the "
        "golden images."
    )]  # fmt: skip
    reduce_range: Annotated[bool, Meta(
        description="With -t onnx -p int8: weights in 7 bits, for x86 CPUs without VNNI, where sums of 8-bit products "
        "saturate. `vit-export doctor` says whether this host needs it."
    )]  # fmt: skip
    all_int8: Annotated[bool, Meta(
        description="With -p int8: reject a file over its budget. [default: leave layers in float32 until it is within]"
    )]  # fmt: skip
    weights: Annotated[OnDisk, Meta(
        description="Checkpoint: auto (published weights, else seeded), pretrained, seeded or seeded:N (drawn from "
        "seed N, untrained, no network), a file (.pth, .safetensors), a folder with config.json and weights, "
        "hf-hub:owner/name[@revision], or timm's name. What it says of its input is the default. [default: auto]"
    )]  # fmt: skip
    ema: Annotated[bool, Meta(
        description="Take the running average in the checkpoint (state_dict_ema, model_ema). [default: the weights "
        "themselves]"
    )]  # fmt: skip
    override: Annotated[bool, Meta(
        description="Options may contradict what the checkpoint says of its input (config.json, args). [default: "
        "refuse]"
    )]  # fmt: skip
    golden: Annotated[OnDisk, Meta(
        description="Folder of photos to check on, in addition to the synthetic images. [default: none]"
    )]  # fmt: skip
    skip_bad_photos: Annotated[bool, Meta(
        description="Leave out files of --golden, --calibrate and --eval that are no images. [default: refuse them]"
    )]  # fmt: skip
    resize: Annotated[SizeText, Meta(
        description="What a photo is resized to before the center crop, in pixels: N for the short side, or HxW to "
        "cover. [default: 256/224 of the image size]"
    )]  # fmt: skip
    interpolation: Annotated[Literal["bicubic", "bilinear", "nearest", "lanczos", "box", "hamming"], Meta(
        description="Interpolation filter for resizing. [default: what the checkpoint says, else bicubic]"
    )]  # fmt: skip
    mean: Annotated[Channels, Meta(
        description="Per-channel normalization mean, of pixels from 0 to 1. [default: what the checkpoint says, else "
        "ImageNet's]"
    )]  # fmt: skip
    std: Annotated[Channels, Meta(
        description="Per-channel normalization standard deviation, of pixels from 0 to 1. [default: what the "
        "checkpoint says, else ImageNet's]"
    )]  # fmt: skip
    require: Annotated[EvidenceName, Meta(
        description="Evidence that exit code 0 needs: native (the real runtime ran the file), vendor (its vendor's "
        "runtime did, on another kind of host than the device), reference (an evaluator ran it), or built (it was "
        "made). [default: reference]"
    )]  # fmt: skip
    release: Annotated[bool, Meta(description="Require trained weights, photos in --golden, and native evidence.")]
    quality_budget: Annotated[float, Meta(
        description="RMS of the relative error that compressed weights or int8 may cost, for example 0.1. [default: a "
        "third of the error of an answer that ignores the image]"
    )]  # fmt: skip
    eval: Annotated[OnDisk, Meta(
        description="Folder of labeled images, one sub-folder for each class, named by index or label. Top-1 accuracy "
        "that is lost against the reference becomes a gate. [default: none]"
    )]  # fmt: skip
    accuracy_budget: Annotated[float, Meta(
        description="With --eval: top-1 accuracy that may be lost, in percentage points. [default: 0.5]"
    )]  # fmt: skip
    latency_budget: Annotated[float, Meta(
        description="The most that a batch may take, median, on one thread of this host, in ms. [default: reported "
        "only]"
    )]  # fmt: skip
    load_budget: Annotated[float, Meta(
        description="The most that loading the file may take, in a process of its own, in ms. [default: reported only]"
    )]  # fmt: skip
    memory_budget: Annotated[float, Meta(
        description="The most that running it may take over an empty runtime's, in a process of its own, in MB (10^6 "
        "bytes). [default: reported only]"
    )]  # fmt: skip
    size_budget: Annotated[float, Meta(
        description="The most that the file may have, in MB (10^6 bytes). [default: reported only]"
    )]  # fmt: skip
    out: Annotated[OnDisk, Meta(description="Folder that gets one folder for each artifact. [default: exports]")]
    no_kit: Annotated[bool, Meta(description="Leave out the kit that checks the artifact on its device.")]
    no_time: Annotated[bool, Meta(description="Check, but do not measure latency.")]


class ExportOptions(OwnOptions, total=False):
    """And those of the built-in targets. An installed target's are taken too, by their flags."""

    labels: OnDisk
    weights_bits: int
    weights_method: Literal["linear", "palette"]
    ane_budget: float
    author: str
    license: str
    ios: int
    sm: int | list[int] | tuple[int, ...]
    profile: list[int] | tuple[int, int, int]
    timing_cache: OnDisk


class RunOptions(TypedDict, total=False):
    """What a whole command can be asked for, and not an artifact."""

    jobs: Annotated[int, Meta(ge=1, description="Worker processes at a time. [default: as CPUs and memory allow]")]
    no_cache: Annotated[bool, Meta(
        description="Make and check everything anew, and keep nothing: see `vit-export cache`."
    )]  # fmt: skip


def flag(name: str) -> str:
    """A keyword as the command line has it."""
    return f"--{name.replace('_', '-')}"


def about(name: str) -> str:
    """The help of an option that is no target's."""
    for table in (OwnOptions, RunOptions):
        hints = get_type_hints(table, include_extras=True)
        if name in hints:
            (meta,) = (each for each in hints[name].__metadata__ if isinstance(each, Meta))
            assert meta.description is not None
            return meta.description
    raise KeyError(name)


def given(options: "dict[str, Any]") -> "dict[str, Any]":
    """Without what says nothing: None, False, and an empty tuple, as the command line has for what was not typed."""
    return {name: value for name, value in options.items() if value is not None and value is not False and value != ()}


def command_of(models: "tuple[str, ...]", options: "dict[str, Any]") -> "tuple[str, ...]":
    """The arguments of the command line that ask for the same."""
    words = list(models)
    for name, value in given(options).items():
        if value is True:
            words.append(flag(name))
        elif name in ("target", "sm"):
            words += [flag(name), ",".join(map(str, [value] if isinstance(value, str | int) else value))]
        elif isinstance(value, list | tuple):
            words += [flag(name), *map(str, value)]
        else:
            words += [flag(name), str(value)]
    return tuple(words)
