"""Folders of files that take photos: what their manifest says, and verify, predict and diff of them."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from timm.data.transforms_factory import create_transform

from efficientvit.images.labels import imagenet
from efficientvit.size import ImageSize, square
from efficientvit.spec import model_spec
from efficientvit.weights.seeded import seeded
from tests.command_line import in_this_process
from validation.inputs.pictures import pictures

SIZE = square(64)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two files of M0 that take photos: of any size, and of 70 x 90."""
    folder = tmp_path_factory.mktemp("exported")
    for index, pixels in enumerate((pictures(None)[0].pixels, pictures(ImageSize(height=70, width=90))[0].pixels)):
        Image.fromarray(pixels).save(folder / f"{index}.png")
    for feed in ("image", "image:70x90"):
        ran = in_this_process(
            (
                "m0",
                "--image-size",
                "64",
                "-w",
                "seeded",
                "--input",
                feed,
                "--output",
                "topk:3",
                "--no-time",
                "-o",
                "out",
            ),
            folder,
        )
        assert ran.code in (0, 3), ran.err
    return folder


NAME = "m0-64-onnx-fp32-{}-topk-3-untrained"


def test_the_manifest_says_what_is_fed_and_given(exported: Path) -> None:
    manifest = json.loads((exported / "out" / NAME.format("image") / "manifest.json").read_text())
    assert (manifest["model"]["feed"], manifest["model"]["answers"]) == ("image", "topk:3")
    (image,) = manifest["model"]["inputs"]
    assert (image["shape"], image["dtype"], image["layout"]) == ([1, "height", "width", 3], "uint8", "NHWC")
    assert [each["name"] for each in manifest["model"]["outputs"]] == ["logits", "scores", "classes"]
    assert manifest["stages"][-1]["name"] == "wrap"


def test_a_wrapped_file_is_verified_from_its_folder(exported: Path) -> None:
    ran = in_this_process(("verify", str(exported / "out" / NAME.format("image"))), exported)
    assert "the network wrapped again is this file, byte for byte" in " ".join(ran.err.split())


def test_photos_are_fed_as_they_are(exported: Path) -> None:
    ran = in_this_process(("predict", str(exported / "out" / NAME.format("image")), "0.png", "1.png"), exported)
    assert ran.code == 0, ran.err
    assert ran.out.count("%") >= 10


def test_a_photo_of_another_size_is_refused_by_a_file_of_one_size(exported: Path) -> None:
    folder = str(exported / "out" / NAME.format("image-70x90"))
    assert in_this_process(("predict", folder, "1.png"), exported).code == 0
    ran = in_this_process(("predict", folder, "0.png"), exported)
    assert ran.code == 2
    assert "70 x 90" in ran.err
    assert "480 x 640" in ran.err


def test_photos_of_every_kind_become_what_timm_makes_of_them(exported: Path, tmp_path: Path) -> None:
    """Gray, 16 bits, a palette, CMYK, transparency, turned, of one pixel: to a file that resizes."""
    photo = Image.fromarray(pictures(ImageSize(height=70, width=90))[0].pixels)
    deep = np.asarray(photo.convert("L")).astype(np.uint16) * 257
    turned = Image.Exif()
    turned[0x112] = 6
    clear = photo.copy()
    clear.putalpha(photo.convert("L"))
    kinds = {
        "gray.png": photo.convert("L"),
        "deep.png": Image.fromarray(deep),
        "palette.png": photo.convert("P"),
        "cmyk.jpg": photo.convert("CMYK"),
        "clear.png": clear,
        "turned.png": photo.rotate(90, expand=True),
        "one.png": photo.resize((1, 1)),
    }
    for name, image in kinds.items():
        image.save(tmp_path / name, exif=turned if name == "turned.png" else Image.Exif())
    folder = str(exported / "out" / NAME.format("image"))
    ran = in_this_process(("predict", folder, *kinds, "--json"), tmp_path)
    assert ran.code == 0, ran.err
    transform = create_transform((3, 64, 64), is_training=False, interpolation="bicubic", crop_pct=0.875)
    model, labels = seeded(model_spec("m0", SIZE)), imagenet()
    for prediction in json.loads(ran.out)["predictions"]:
        name = prediction["photo"]
        with Image.open(tmp_path / name) as image:
            upright = ImageOps.exif_transpose(image)
            if name == "deep.png":
                upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
            if name == "clear.png":
                upright = Image.alpha_composite(Image.new("RGBA", upright.size, (255,) * 4), upright)
            with torch.inference_mode():
                shares = model(transform(upright.convert("RGB"))[None]).softmax(1)[0]
        assert prediction["top"][0]["label"] == labels[int(shares.argmax())], name
        for each in prediction["top"]:
            assert each["probability"] == pytest.approx(float(shares[labels.index(each["label"])]), abs=3e-4), name


def test_a_photo_that_is_too_long_and_thin_is_named(exported: Path, tmp_path: Path) -> None:
    Image.new("RGB", (60000, 1)).save(tmp_path / "thin.png")
    ran = in_this_process(("predict", str(exported / "out" / NAME.format("image")), "thin.png"), tmp_path)
    assert ran.code == 2
    assert "thin.png: an image of 60000 x 1 is too long and thin" in ran.err


@pytest.mark.parametrize(
    ("field", "value", "found"),
    [
        ("feed", "tensor", "float32 (1, 3, 64, 64)"),
        ("feed", "pixels", "uint8 (1, 64, 64, 3)"),
        ("answers", "logits", "'scores'"),
        ("answers", "topk:2", "(1, 2)"),
    ],
)
def test_a_manifest_that_says_otherwise_is_refused(
    field: str, value: str, found: str, exported: Path, tmp_path: Path
) -> None:
    good = exported / "out" / NAME.format("image")
    folder = shutil.copytree(good, tmp_path / "edited")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["model"][field] = value
    (folder / "manifest.json").write_text(json.dumps(manifest))
    for arguments in (("predict", str(folder), "0.png"), ("diff", str(good), str(folder))):
        ran = in_this_process(arguments, exported)
        assert ran.code == 1, ran.err
        assert "does not take and give what" in ran.err
        assert found in ran.err
    verified = in_this_process(("verify", str(folder)), exported)
    assert verified.code == 1
    assert "interface gate" in verified.err


def test_a_manifest_that_says_another_preprocessing_is_refused(exported: Path, tmp_path: Path) -> None:
    good = exported / "out" / NAME.format("image")
    folder = shutil.copytree(good, tmp_path / "edited")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["preprocessing"] |= {"interpolation": "bilinear", "mean": [0.5, 0.5, 0.5]}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    for arguments in (("verify", str(folder)), ("predict", str(folder), "0.png"), ("diff", str(good), str(folder))):
        ran = in_this_process(arguments, exported)
        assert ran.code == 1, ran.err
        assert "says another preprocessing than the golden images were made with" in ran.err
        assert "expected: interpolation bicubic, mean [0.485, 0.456, 0.406]" in ran.err


def test_two_wrapped_files_are_compared(exported: Path) -> None:
    folders = [str(exported / "out" / NAME.format(feed)) for feed in ("image", "image-70x90")]
    ran = in_this_process(("diff", *folders), exported)
    assert ran.code == 0, ran.err
    assert "interface" in ran.err
    assert "agreement" not in ran.err
    said = " ".join(ran.err.split())
    assert "latency was not compared: the one has --input image, the other --input image:70x90" in said


def test_judge_leaves_a_file_that_takes_photos_to_verify(exported: Path) -> None:
    folder = Path("out") / NAME.format("image")
    ran = in_this_process(("judge", "m0", str(folder / "ship" / "efficientvit_m0.onnx"), "-w", "seeded"), exported)
    assert ran.code == 2
    assert "takes images of more than one size" in ran.err
    assert f"`vit-export verify {folder}`" in ran.err
