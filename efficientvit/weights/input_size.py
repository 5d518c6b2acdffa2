"""The input size that weights were trained at: given, said, or the only one that their attention windows fit.

The bias tables of several sizes have the same windows: 208, 224, 240 and 256 all have 7, 7 and 4. Weights run at
the wrong one of these without an error, and answer worse. So where nothing says the size it is asked for.

One exception. The published ImageNet weights (the authors' release, timm's files) hold nothing but tensors, and are
what most people have: with 1000 classes, windows of 7, 7 and 4, the names as they were published and nothing beside
them, 224 is taken. That is an assumption: scripts that train at another size keep it in the checkpoint, but somebody
may have stripped it. It is said in a note and in the manifest, and `--release` does not accept it.
"""

from dataclasses import dataclass

from efficientvit.errors import BadCheckpoint, BadOption
from efficientvit.size import ImageSize, square
from efficientvit.spec import PUBLISHED_SIZE, STEM_STRIDE, Triple
from efficientvit.weights.architecture import fits, sizes_with
from efficientvit.weights.contract import settle
from efficientvit.weights.declared import Facts

PUBLISHED_CLASSES = 1000
_LISTED = 6


@dataclass(frozen=True, slots=True)
class InputSize:
    """In pixels; `trained` in words, `assumed` where nobody says it."""

    pixels: ImageSize
    trained: str
    assumed: bool = False


def input_size(
    windows: Triple, facts: Facts, given: ImageSize | None, *, published: bool, override: bool, any_size: bool = False
) -> InputSize:
    """The input size to build the model for.

    Args:
        windows: the side of the attention window in each stage.
        facts: what the checkpoint says.
        given: the option's value.
        published: the file looks as the published weights do, and has their classes.
        override: the option may contradict what is said.
        any_size: where several sizes fit, take any of them.

    Raises:
        BadCheckpoint: no input size has these windows, or what is said has others.
        BadOption: the option contradicts what is said, two things are said, or nothing says which size it is.
    """
    squares = sizes_with(windows)
    if not squares:
        raise BadCheckpoint(
            "the attention windows of this checkpoint fit no input size",
            expected="7, 7, 4 at 224; 7, 7, 6 at 384; 7, 7, 7 at 512",
            got=", ".join(map(str, windows)),
            next_step="give an unaltered checkpoint",
        )
    said: ImageSize | None = settle("image_size", facts, given, override)
    published = published and PUBLISHED_SIZE in squares
    if given is not None:
        told = [fact.value for fact in facts if fact.name == "image_size" and fits(fact.value, windows)]
        trained = str(PUBLISHED_SIZE) if published else str(told[0]) if told else _listed(squares)
        return InputSize(given, str(given) if fits(given, windows) else trained)
    if said is not None:
        return _as_said(said, squares, windows, facts)
    if len(squares) == 1 or any_size:
        return InputSize(squares[0], str(squares[0]))
    if published:
        return InputSize(PUBLISHED_SIZE, str(PUBLISHED_SIZE), assumed=True)
    raise BadOption(
        "nothing says which input size these weights were trained at",
        expected=f"--image-size N, N one of {_listed(squares)}, or HxW whose shorter side is one of them",
        got=f"attention windows {', '.join(map(str, windows))}, which fit all of them, and neither a config.json nor "
        "arguments that say it",
        next_step=f"give the size that they were trained at, as in --image-size {_likely(squares)}: at another one the "
        "model runs, and answers worse",
    )


def _as_said(said: ImageSize, squares: tuple[ImageSize, ...], windows: Triple, facts: Facts) -> InputSize:
    sources = " and ".join(str(fact) for fact in facts if fact.name == "image_size")
    if not fits(said, windows):
        raise BadCheckpoint(
            "what is said of the input size is not true of these weights",
            expected=f"an input size with attention windows of {', '.join(map(str, windows))}: {_listed(squares)}",
            got=sources,
            next_step=f"give the size that they were trained at, as in --image-size {_likely(squares)} --override",
        )
    return InputSize(said, str(said))


def _likely(squares: tuple[ImageSize, ...]) -> ImageSize:
    return next((size for size in map(square, (224, 256, 384, 512)) if size in squares), squares[-1])


def _listed(squares: tuple[ImageSize, ...]) -> str:
    if len(squares) > _LISTED:
        return f"the multiples of {STEM_STRIDE} from {squares[0]} to {squares[-1]}"
    return ", ".join(map(str, squares))
