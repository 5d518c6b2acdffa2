"""The EfficientViT family M0-M5 as data (Liu et al., CVPR 2023, Table 1). Imports nothing heavy."""

import re
from dataclasses import dataclass, field

from efficientvit.errors import BadOption, UnknownModel
from efficientvit.head import CLASSIFIER, Head, HeadKind, Output
from efficientvit.size import ImageSize, square

STEM_STRIDE = 16
WINDOW = 7
KEY_DIM = 16
FFN_RATIO = 2
MERGE_RATIO = 4
SMALLEST_IMAGE, LARGEST_IMAGE = 64, 2048
PUBLISHED_SIZE = square(224)
"""What the published weights were trained at, pixels."""

PUBLISHED_TAG = ".r224_in1k"
"""Ends the names under which timm publishes the weights."""

Triple = tuple[int, int, int]
Grids = tuple[ImageSize, ImageSize, ImageSize]


@dataclass(frozen=True, slots=True)
class PaperFigures:
    """What the authors published at 224 x 224: ImageNet top-1 (%), MFLOPs (multiply-adds), images/s."""

    top1: float
    mflops: int
    v100_images_per_s: int
    cpu_images_per_s: float
    onnx_images_per_s: float


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One member of the family at one input size, with one head: all that its shapes follow from.

    Each side of the image has to be a multiple of the stem's stride. At other sizes the stem pads up, and the public
    implementations size their windows by the side rounded down, the grid by the side rounded up: what the right window
    would be, no trained weights say.

    `classes`: 0 where the head gives no logits.

    Raises:
        BadOption: a side of the image is not a multiple of 16 in 64..2048, or a classifier has no class.
    """

    name: str
    dims: Triple
    heads: Triple
    depths: Triple
    kernels: tuple[int, ...]
    paper: PaperFigures = field(repr=False)
    parameters: int
    image_size: ImageSize = PUBLISHED_SIZE
    classes: int = 1000
    head: Head = CLASSIFIER

    def __post_init__(self) -> None:
        size = self.image_size
        if any(side % STEM_STRIDE or not SMALLEST_IMAGE <= side <= LARGEST_IMAGE for side in (size.height, size.width)):
            raise BadOption(
                f"image size {size} cannot be used",
                expected=f"height and width multiples of {STEM_STRIDE} from {SMALLEST_IMAGE} to {LARGEST_IMAGE}",
                got=str(size),
                next_step="--image-size 224 is what the published weights were trained at; HxW is a rectangle",
            )
        if self.head.gives_logits and self.classes < 1:
            raise BadOption("a classifier needs a class", expected="1 or more", got=str(self.classes))

    @property
    def grids(self) -> Grids:
        """The token grid of each stage: 14, 7, 4 a side at 224."""
        size = self.image_size
        first = ImageSize(height=size.height // STEM_STRIDE, width=size.width // STEM_STRIDE)
        second = _halved(first)
        return first, second, _halved(second)

    @property
    def windows(self) -> Triple:
        """Side of the attention window in each stage: 7, 7, 4 at 224. The grid's shorter side limits it."""
        first, second, third = (min(WINDOW, grid.shorter) for grid in self.grids)
        return first, second, third

    @property
    def outputs(self) -> tuple[Output, ...]:
        """What the model gives, in order."""
        if self.head.kind is HeadKind.FEATURES:
            return tuple(map(self._map, self.head.stages))
        return (Output(str(self.head.kind), (self.classes if self.head.gives_logits else self.dims[-1],)),)

    def _map(self, stage: int) -> Output:
        grid = self.grids[stage - 1]
        shape = (self.dims[stage - 1], grid.height, grid.width)
        return Output(f"stage{stage}", shape, STEM_STRIDE * 2 ** (stage - 1))

    def resized(
        self, image_size: ImageSize | None = None, classes: int | None = None, head: Head | None = None
    ) -> "ModelSpec":
        """The same architecture at another input size, class count or head; its parameter count is the classifier's."""
        head = self.head if head is None else head
        classes = self.classes if classes is None else classes
        return ModelSpec(
            name=self.name,
            dims=self.dims,
            heads=self.heads,
            depths=self.depths,
            kernels=self.kernels,
            paper=self.paper,
            parameters=self.parameters,
            image_size=self.image_size if image_size is None else image_size,
            classes=classes if head.gives_logits else 0,
            head=head,
        )


def _halved(grid: ImageSize) -> ImageSize:
    """What a convolution of stride 2 leaves."""
    return ImageSize(height=(grid.height - 1) // 2 + 1, width=(grid.width - 1) // 2 + 1)


def _spec(
    name: str, dims: Triple, heads: Triple, depths: Triple, kernels: str, parameters: int, paper: PaperFigures
) -> ModelSpec:
    return ModelSpec(name, dims, heads, depths, tuple(int(k) for k in kernels), paper, parameters)


# fmt: off
MODELS: dict[str, ModelSpec] = {
    spec.name: spec
    for spec in (
        _spec("m0", (64, 128, 192), (4, 4, 4), (1, 2, 3), "5555", 2_349_436,
              PaperFigures(63.2, 79, 27644, 228.4, 340.1)),
        _spec("m1", (128, 144, 192), (2, 3, 3), (1, 2, 3), "7533", 2_980_560,
              PaperFigures(68.4, 167, 20093, 126.9, 215.9)),
        _spec("m2", (128, 192, 224), (4, 3, 2), (1, 2, 3), "7533", 4_187_554,
              PaperFigures(70.8, 201, 18218, 121.2, 158.7)),
        _spec("m3", (128, 240, 320), (4, 3, 4), (1, 2, 3), "5555", 6_900_722,
              PaperFigures(73.4, 263, 16644, 96.4, 120.8)),
        _spec("m4", (128, 256, 384), (4, 4, 4), (1, 2, 3), "7533", 8_804_228,
              PaperFigures(74.3, 299, 15914, 88.5, 108.6)),
        _spec("m5", (192, 288, 384), (3, 3, 4), (1, 3, 4), "7533", 12_473_772,
              PaperFigures(77.1, 522, 10621, 56.8, 62.5)),
    )
}
# fmt: on


def without_family(name: str) -> str:
    """`m2` of `M2`, `efficientvit_m2` or `timm/EfficientViT_M2`; `m2.r224_in1k` of timm's name of weights."""
    return re.sub(r"^(timm/)?efficientvit[_-]", "", name.lower())


def model_spec(
    name: str, image_size: ImageSize | None = None, classes: int | None = None, head: Head = CLASSIFIER
) -> ModelSpec:
    """The spec for `m2`, `M2`, `efficientvit_m2` or timm's `efficientvit_m2.r224_in1k`, which names weights as well.

    Raises:
        UnknownModel: the name is none of the family's.
        BadOption: the size or class count cannot be used.
    """
    short = without_family(name).removesuffix(PUBLISHED_TAG)
    if short not in MODELS:
        raise UnknownModel(
            f"unknown model '{name}'",
            expected=", ".join(MODELS),
            got=name,
            next_step="`vit-export models` lists the family (MIT's EfficientViT B0-L3 is another model)",
        )
    return MODELS[short].resized(image_size, classes, head)
