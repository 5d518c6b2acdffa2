"""Which model a state dict belongs to, read from the shapes of its tensors (under our own names).

Pure functions over names and shapes: nothing here imports torch.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import isqrt

from efficientvit.errors import BadCheckpoint, BadOption
from efficientvit.size import ImageSize, square
from efficientvit.spec import (
    LARGEST_IMAGE,
    MODELS,
    SMALLEST_IMAGE,
    STEM_STRIDE,
    ModelSpec,
    Triple,
    model_spec,
)

Shapes = Mapping[str, tuple[int, ...]]
STEM = "stem.conv1.conv.weight"
HEAD, HEAD_BIAS = "head.linear.weight", "head.linear.bias"

_BIAS_TABLE = re.compile(r"stage([123])\.block\d+\.mixer\.branch\.attention\.bias")


def is_bias_table(name: str) -> bool:
    """Whether `name` is an attention's bias table, (heads, window²)."""
    return _BIAS_TABLE.fullmatch(name) is not None


@dataclass(frozen=True, slots=True)
class Architecture:
    """What distinguishes the members of the family."""

    dims: Triple
    heads: Triple
    depths: Triple
    kernels: tuple[int, ...]

    @classmethod
    def of(cls, spec: ModelSpec) -> "Architecture":
        """That of a spec; kernels of heads that no stage has are left out."""
        return cls(spec.dims, spec.heads, spec.depths, spec.kernels[: max(spec.heads)])

    def __str__(self) -> str:
        def joined(numbers: tuple[int, ...]) -> str:
            return "/".join(map(str, numbers))

        return (
            f"dims {joined(self.dims)}, heads {joined(self.heads)}, depths {joined(self.depths)}, "
            f"q kernels {joined(self.kernels)}"
        )


def architecture_of(shapes: Shapes) -> Architecture | None:
    """The architecture that the shapes have; None when a tensor that determines it is missing."""
    dims, heads, depths = [], [], []
    for stage in (1, 2, 3):
        attention = f"stage{stage}.block1.mixer.branch.attention"
        project, table = shapes.get(f"{attention}.project.conv.weight"), shapes.get(f"{attention}.bias")
        if not project or not table:
            return None
        dims.append(project[0])
        heads.append(table[0])
        depths.append(len({name.split(".")[1] for name in shapes if name.startswith(f"stage{stage}.block")}))
    widest = f"stage{heads.index(max(heads)) + 1}.block1.mixer.branch.attention"
    kernels = []
    for head in range(max(heads)):
        depthwise = shapes.get(f"{widest}.q_depthwise.{head}.conv.weight")
        if not depthwise:
            return None
        kernels.append(depthwise[-1])
    return Architecture(_triple(dims), _triple(heads), _triple(depths), tuple(kernels))


def check_member(shapes: Shapes, spec: ModelSpec) -> None:
    """Refuse the weights of another member of the family, or of none.

    Raises:
        BadCheckpoint: naming the member that the shapes do fit.
    """
    found, wanted = architecture_of(shapes), Architecture.of(spec)
    if found is None or found == wanted:
        return  # when such a tensor is missing, the strict load reports it better
    twin = next((name for name, other in MODELS.items() if Architecture.of(other) == found), None)
    raise BadCheckpoint(
        f"these are not weights of EfficientViT-{spec.name.upper()}, but of "
        + (f"EfficientViT-{twin.upper()}" if twin else "a model outside M0-M5"),
        expected=str(wanted),
        got=str(found),
        next_step=f"load them as '{twin}'" if twin else "only the classifiers M0-M5 can be loaded",
    )


def check_stem(shapes: Shapes) -> None:
    """Refuse a stem for other images than RGB.

    Raises:
        BadCheckpoint: saying what it takes, and for gray images how it becomes a stem for RGB.
    """
    weight = shapes.get(STEM)
    if weight is None or len(weight) != 4 or weight[1] == 3:
        return
    gray = weight[1] == 1
    raise BadCheckpoint(
        f"these weights take images of {weight[1]} channel{'' if gray else 's'}{', gray ones' if gray else ''}",
        expected="3 channels: R, G, B",
        got=f"{STEM} of shape {weight}",
        next_step="make it take RGB, and compute the gray itself: multiply the first convolution's weight by "
        "torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1), and give the one --mean and --std three times"
        if gray
        else "only models of RGB images can be exported; train one, or fold the channels into three",
    )


def classes_of(shapes: Shapes, spec: ModelSpec, other_head: tuple[str, str] | None = None) -> int:
    """The number of classes of the checkpoint's head; 0 where there is none, and `spec` needs none.

    `other_head`: what may be its classifier in another place, and the line that makes it the head.

    Raises:
        BadCheckpoint: there is no head, as in weights of a backbone, or one of another shape.
    """
    weight, channels = shapes.get(HEAD), spec.dims[-1]
    if not weight and not spec.head.gives_logits:
        return 0
    if not weight and other_head is not None:
        raise BadCheckpoint(
            "the checkpoint's classifier is not the one of this family",
            expected=f"{HEAD} of shape (classes, {channels}), or head.weight of a single linear layer",
            got=other_head[0],
            next_step=other_head[1],
        )
    if not weight:
        raise BadCheckpoint(
            "the checkpoint has no classification head",
            expected=f"{HEAD} of shape (classes, channels)",
            next_step="export the backbone's maps with --head features, as detectors take them, or its pooled vector "
            "with --head embedding; logits need a classifier's weights",
        )
    if len(weight) != 2 or weight[1] != channels:
        transposed = len(weight) == 2 and weight[0] == channels
        raise BadCheckpoint(
            "the classification head has another shape" + (", transposed" if transposed else ""),
            expected=f"{HEAD} of shape (classes, {channels})",
            got=str(weight),
            next_step="save it as nn.Linear has it: "
            + ("weight.T.contiguous()" if transposed else f"weight.reshape(-1, {channels}), bias.reshape(-1)"),
        )
    return weight[0]


def windows_of(shapes: Shapes) -> Triple:
    """The side of each stage's attention window, from the bias tables (heads, window²).

    Raises:
        BadCheckpoint: a table is not square, or the tables of a stage differ.
    """
    sides: dict[str, set[int]] = {}
    for name, shape in shapes.items():
        if match := _BIAS_TABLE.fullmatch(name):
            side = isqrt(shape[-1]) if shape else 0
            if len(shape) != 2 or side == 0 or side * side != shape[1]:
                raise BadCheckpoint(
                    f"the attention bias table '{name}' has an impossible shape",
                    expected="(heads, window²)",
                    got=str(tuple(shape)),
                    next_step="give an unaltered checkpoint",
                )
            sides.setdefault(match[1], set()).add(side)
    if sorted(sides) != ["1", "2", "3"] or any(len(found) > 1 for found in sides.values()):
        raise BadCheckpoint(
            "the attention bias tables do not agree on a window for each stage",
            expected="one window size in each of the stages 1, 2, 3",
            got="; ".join(f"stage {stage}: {sorted(found)}" for stage, found in sorted(sides.items())),
            next_step="give an unaltered checkpoint",
        )
    return _triple([sides[stage].pop() for stage in ("1", "2", "3")])


def sizes_with(windows: Triple) -> tuple[ImageSize, ...]:
    """Every square input whose stages have these windows: 208, 224, 240 and 256 pixels for (7, 7, 4).

    Of a rectangle the shorter side decides, so each stands for the rectangles that it fits into as well.
    """
    sizes = map(square, range(SMALLEST_IMAGE, LARGEST_IMAGE + 1, STEM_STRIDE))
    return tuple(size for size in sizes if fits(size, windows))


def fits(size: ImageSize, windows: Triple) -> bool:
    """Whether a model for images of this size has these windows; not of a size that no model takes."""
    try:
        return model_spec("m0", size).windows == windows
    except BadOption:
        return False


def _triple(numbers: list[int]) -> Triple:
    first, second, third = numbers
    return first, second, third
