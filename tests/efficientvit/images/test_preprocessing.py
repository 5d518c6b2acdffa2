"""The preprocessing contract against timm's evaluation transform."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from efficientvit.errors import BadImage, BadOption
from efficientvit.images.decoding import MAX_PIXELS
from efficientvit.images.preprocessing import (
    CROPS,
    INTERPOLATIONS,
    Preprocessing,
    load_rgb,
    normalize,
    to_tensor,
    to_uint8,
)
from efficientvit.size import ImageSize, square

PHOTOS = ("astronaut.png", "coffee.png", "chelsea.png", "rocket.jpg", "camera.png", "motorcycle_left.png")
Rgb = NDArray[np.uint8]


RECTANGLES = [ImageSize.parse(text) for text in ("128x256", "224x320", "320x224", "480x640", "64x512")]


def photo(name: str) -> Rgb:
    spec = importlib.util.find_spec("skimage")
    assert spec is not None
    assert spec.origin is not None
    return load_rgb(Path(spec.origin).parent / "data" / name, Preprocessing())


def timm_tensor(rgb: Rgb, preprocessing: Preprocessing, **options: Any) -> NDArray[np.float32]:
    from timm.data.transforms_factory import create_transform

    transform = create_transform(
        input_size=(3, preprocessing.image_size.height, preprocessing.image_size.width),
        is_training=False,
        interpolation=preprocessing.interpolation,
        crop_pct=0.875,
        mean=preprocessing.mean,
        std=preprocessing.std,
        crop_mode=preprocessing.crop,
        **options,
    )
    with mock.patch.object(Image.Image, "resize", _rows_first):
        tensor: NDArray[np.float32] = transform(Image.fromarray(rgb)).numpy()
    return tensor


_RESIZE = Image.Image.resize


def _rows_first(image: Image.Image, size: tuple[int, int], resample: int | None = None) -> Image.Image:
    """As Pillow resizes before 13, which takes the columns first where the height shrinks much more."""
    return _RESIZE(_RESIZE(image, (size[0], image.height), resample), size, resample)


def scene(width: int, height: int, seed: int = 0) -> Rgb:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", PHOTOS)
@pytest.mark.parametrize("size", [224, 208, 320])
def test_equals_timm_on_photographs(name: str, size: int) -> None:
    preprocessing = Preprocessing(square(size))
    rgb = photo(name)

    tensor = to_tensor(rgb, preprocessing)

    assert tensor.dtype == np.float32
    assert tensor.shape == (3, size, size)
    np.testing.assert_array_equal(tensor, timm_tensor(rgb, preprocessing))


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("crop", ["center", "squash"])
def test_equals_timm_with_every_filter_and_crop(interpolation: str, crop: str) -> None:
    preprocessing = Preprocessing(square(96), interpolation=interpolation, crop=crop, mean=(0.5, 0.4, 0.3))
    rgb = photo("coffee.png")

    np.testing.assert_array_equal(to_tensor(rgb, preprocessing), timm_tensor(rgb, preprocessing))


@settings(max_examples=80, deadline=None)
@given(width=st.integers(1, 400), height=st.integers(1, 400), size=st.integers(1, 20).map(lambda n: 16 * n))
def test_equals_timm_on_every_shape(width: int, height: int, size: int) -> None:
    """Odd crops, images smaller than the crop, and images of one pixel among them."""
    preprocessing = Preprocessing(square(size))
    rgb = scene(width, height, seed=width)

    np.testing.assert_array_equal(to_tensor(rgb, preprocessing), timm_tensor(rgb, preprocessing))


@settings(max_examples=80, deadline=None)
@given(
    width=st.integers(50, 400),
    height=st.integers(50, 400),
    size=st.sampled_from(RECTANGLES),
    crop=st.sampled_from(CROPS),
)
def test_equals_timm_on_rectangles(width: int, height: int, size: ImageSize, crop: str) -> None:
    preprocessing = Preprocessing(size, crop=crop)
    rgb = scene(width, height, seed=width)

    tensor = to_tensor(rgb, preprocessing)

    assert tensor.shape == (3, size.height, size.width)
    np.testing.assert_array_equal(tensor, timm_tensor(rgb, preprocessing))


def test_no_resize_where_the_short_side_fits() -> None:
    rgb = scene(256, 300)

    pixels = to_uint8(rgb, Preprocessing())

    np.testing.assert_array_equal(pixels, rgb[38:262, 16:240])


def test_the_tensor_is_the_normalized_pixels() -> None:
    preprocessing = Preprocessing()
    rgb = photo("chelsea.png")
    pixels = to_uint8(rgb, preprocessing)

    assert pixels.shape == (224, 224, 3)
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(normalize(pixels, preprocessing), to_tensor(rgb, preprocessing))
    batch = np.stack([pixels, pixels[::-1]])
    np.testing.assert_array_equal(normalize(batch, preprocessing)[1], normalize(batch[1], preprocessing))


@pytest.mark.parametrize(("size", "resize"), [(224, 256), (160, 182), (208, 237), (512, 585)])
def test_the_default_resize_is_timms(size: int, resize: int) -> None:
    assert Preprocessing(square(size)).resize == square(resize)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (np.zeros((4, 4), np.uint8), "uint8"),
        (np.zeros((4, 4, 4), np.uint8), "uint8"),
        (np.zeros((0, 4, 3), np.uint8), "uint8"),
        (np.zeros((4, 4, 3), np.float32), "float32"),
        (np.zeros((30_000, 1, 3), np.uint8), "7680000"),
    ],
)
def test_arrays_that_are_no_usable_image(wrong: Rgb, reason: str) -> None:
    preprocessing = Preprocessing()
    if wrong.shape[0] > 4:  # 256 x 7,680,000: far over the limit, though the file is small
        assert wrong.shape[0] * 256 * 256 > MAX_PIXELS
    with pytest.raises(BadImage, match=reason):
        to_tensor(wrong, preprocessing)


@settings(max_examples=50)
@given(
    size=st.integers(1, 2048),
    extra=st.integers(0, 100),
    interpolation=st.sampled_from(INTERPOLATIONS),
    std=st.tuples(*[st.floats(1e-3, 1)] * 3),
    background=st.tuples(*[st.integers(0, 255)] * 3),
)
def test_json_round_trip(
    size: int,
    extra: int,
    interpolation: str,
    std: tuple[float, float, float],
    background: tuple[int, int, int],
) -> None:
    before = Preprocessing(square(size), square(size + extra), interpolation, std=std, background=background)

    after = Preprocessing.from_json(json.loads(json.dumps(before.to_json())))

    assert after == before


@pytest.mark.parametrize(
    "change",
    [
        {"image_size": 0},
        {"image_size": 224.0},
        {"image_size": True},
        {"resize": 223},
        {"interpolation": "cubic"},
        {"crop": "middle"},
        {"mean": [0.5, 0.5]},
        {"mean": [0.5, 0.5, float("nan")]},
        {"mean": "rgb"},
        {"std": [0.2, 0.0, 0.2]},
        {"background": [0, 0, 256]},
        {"background": [0, 0, 1.5]},
        {"gamma": 2.2},
    ],
)
def test_contracts_that_are_refused(change: dict[str, Any]) -> None:
    data = Preprocessing().to_json() | change
    with pytest.raises(BadOption, match=next(iter(change))):
        Preprocessing.from_json(data)


@pytest.mark.parametrize(
    ("field", "value", "converted"),
    [
        ("mean", (123.675, 116.28, 103.53), "--mean 0.485 0.456 0.406"),
        ("std", (58.395, 57.12, 57.375), "--std 0.229 0.224 0.225"),
        ("mean", (-0.1, 0.5, 0.5), "from 0 to 1"),
    ],
)
def test_statistics_of_another_scale_are_refused_with_the_conversion(
    field: str, value: tuple[float, float, float], converted: str
) -> None:
    with pytest.raises(BadOption, match=f"{field} is not of pixels from 0 to 1") as caught:
        Preprocessing.from_json(Preprocessing().to_json() | {field: value})
    assert converted in str(caught.value.next_step)


def test_a_standard_deviation_of_one_goes_with_a_mean_of_bytes() -> None:
    with pytest.raises(BadOption, match="mean is not of pixels") as caught:
        Preprocessing(mean=(103.53, 116.28, 123.675), std=(1, 1, 1))
    assert str(caught.value.next_step).endswith("--mean 0.406 0.456 0.485 --std 0.003922 0.003922 0.003922")


@pytest.mark.parametrize(
    ("change", "got", "step"),
    [
        ({"resize": square(200)}, "200", "--resize 224"),
        ({"resize": square(90_000)}, "90000", "--resize 224"),
        ({"image_size": square(0)}, "0", "--image-size"),
        ({"interpolation": "area"}, "'area'", "--interpolation"),
        ({"mean": (float("nan"), 0, 0)}, "(nan, 0, 0)", "--mean"),
        ({"std": (0, 1, 1)}, "(0, 1, 1)", "--std"),
    ],
)
def test_a_refused_value_has_a_next_step(change: dict[str, Any], got: str, step: str) -> None:
    with pytest.raises(BadOption, match="cannot be used") as caught:
        Preprocessing(**change)
    assert caught.value.got == got
    assert step in str(caught.value.next_step)


def test_every_field_has_to_be_there() -> None:
    data = Preprocessing().to_json()
    del data["background"]
    with pytest.raises(BadOption, match="background"):
        Preprocessing.from_json(data)


def test_importing_it_imports_nothing_heavy() -> None:
    program = (
        "import sys, efficientvit.images.preprocessing\n"
        "print(*{'numpy', 'PIL', 'torch', 'torchvision', 'timm'}.intersection(sys.modules))"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", program], cwd=root, check=True, capture_output=True, text=True)
    assert done.stdout.split() == []
