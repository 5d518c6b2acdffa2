"""What is put around a network: it equals Pillow on every size of a photo, says what it says, and can be taken off."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from efficientvit.errors import BadOption, BrokenArtifact
from efficientvit.images.preprocessing import Preprocessing, normalize, to_uint8
from efficientvit.size import ImageSize, square
from efficientvit.spec import model_spec
from runtimes.artifact import Format, Interface, digest
from runtimes.interface import Port, intended_ports
from runtimes.registry import read_ports, runtime_for
from runtimes.runtime import Mode
from runtimes.wrapping import LOGITS, TENSOR, Answers, Feed, Takes, Wrapping
from tests.channel_means import SMALL, network, wrapped
from validation.inputs.pictures import pictures
from validation.network import network_of, preprocessing_of, wrapped_again


def _units(tensor: NDArray[np.float32], preprocessing: Preprocessing) -> NDArray[np.float64]:
    scale, shift = (np.array(each).reshape(3, 1, 1) for each in (preprocessing.std, preprocessing.mean))
    units: NDArray[np.float64] = (tensor.astype(np.float64) * scale + shift) * 255
    return units


FORMATS = pytest.mark.parametrize("file_format", [Format.ONNX, Format.OPENVINO])


@FORMATS
@pytest.mark.parametrize(
    ("preprocessing", "differing"),
    [
        (SMALL, 0.002),
        (Preprocessing(image_size=ImageSize(height=64, width=96)), 0.002),
        (Preprocessing(image_size=square(224), resize=square(224)), 0.002),
        (Preprocessing(image_size=square(224), interpolation="bilinear"), 0.05),
    ],
    ids=["square", "rectangle", "no margin", "bilinear"],
)
def test_photos_of_any_size_become_what_pillow_makes_of_them(
    file_format: Format, preprocessing: Preprocessing, differing: float, tmp_path: Path
) -> None:
    artifact = wrapped(network(tmp_path, file_format, preprocessing, None), "image", "logits", tmp_path, preprocessing)
    with preprocessing_of(artifact) as before:
        assert before is not None
        with runtime_for(file_format).open(before, Mode.SHIPPED) as session:
            for picture in pictures(None):
                both = np.stack([picture.pixels, picture.pixels[:, ::-1]])
                (tensor,) = session(both).values()
                for pixels, found in zip(both, tensor, strict=True):
                    right = to_uint8(np.ascontiguousarray(pixels), preprocessing)
                    own = np.moveaxis(np.rint(_units(found, preprocessing)).astype(int), 0, 2)
                    assert np.abs(own - right).max() <= 2, picture.name
                    assert (own != right).mean() <= differing, picture.name
                    np.testing.assert_allclose(found, normalize(own.astype(np.uint8), preprocessing), atol=2**-18)


@FORMATS
@pytest.mark.parametrize("size", [(521, 730), (450, 500), (513, 730), (288, 320)])
def test_a_side_that_is_resized_to_an_exact_half_is_rounded_to_even(
    file_format: Format, size: tuple[int, int], tmp_path: Path
) -> None:
    contract = Preprocessing(image_size=ImageSize(height=224, width=320))
    artifact = wrapped(network(tmp_path, file_format, contract, 1), "image", "logits", tmp_path, contract)
    photo = pictures(ImageSize(height=size[0], width=size[1]))[0].pixels
    with preprocessing_of(artifact) as before:
        assert before is not None
        with runtime_for(file_format).open(before, Mode.SHIPPED) as session:
            (tensor,) = session(photo[None]).values()
    own = np.moveaxis(np.rint(_units(tensor[0], contract)).astype(int), 0, 2)
    assert (own != to_uint8(photo, contract)).mean() <= 0.002


def test_types_of_the_preprocessing_that_somebody_declared_are_not_taken_along(tmp_path: Path) -> None:
    artifact = wrapped(network(tmp_path, Format.ONNX, SMALL, 1), "image", "logits", tmp_path)
    model = onnx.load(artifact.path)
    shape = (1, 3, 480, 640)
    declared = onnx.helper.make_tensor_value_info("preprocessing/channels_first", onnx.TensorProto.UINT8, shape)
    model.graph.value_info.append(declared)
    onnx.save(model, artifact.path)
    with network_of(artifact) as taken_out:
        assert wrapped_again(artifact, taken_out) != digest(artifact.path)


@pytest.mark.parametrize("constant", [False, True])
def test_a_file_that_takes_no_image_is_broken(constant: bool, tmp_path: Path) -> None:
    artifact = wrapped(network(tmp_path, Format.ONNX, SMALL, 1), "image", "logits", tmp_path)
    model = onnx.load(artifact.path)
    if constant:
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros((1, 9, 9, 3), np.uint8), "image"))
    else:
        del model.graph.input[:]
    onnx.save(model, artifact.path)
    with pytest.raises(BrokenArtifact, match="image"), network_of(artifact):
        pass


@FORMATS
@pytest.mark.parametrize("batch", [None, 1, 2])
@pytest.mark.parametrize("feed", ["tensor", "pixels", "image", "image:70x90"])
@pytest.mark.parametrize("answers", ["probabilities", "topk:2"])
def test_a_wrapped_file_has_the_ports_that_are_meant_and_is_made_again_byte_for_byte(
    file_format: Format, batch: int | None, feed: str, answers: str, tmp_path: Path
) -> None:
    inside = network(tmp_path, file_format, SMALL, batch)
    artifact = wrapped(inside, feed, answers, tmp_path)
    assert read_ports(artifact) == intended_ports(inside.model, batch, artifact.interface)
    with network_of(artifact) as taken_out:
        assert read_ports(taken_out) == read_ports(inside)
        assert wrapped_again(artifact, taken_out) == artifact.sha256


@FORMATS
def test_answers_are_those_of_the_logits(file_format: Format, tmp_path: Path) -> None:
    photo = pictures(ImageSize(height=70, width=90))[0].pixels[None]
    found = {}
    for answers in ("probabilities", "topk:2"):
        artifact = wrapped(network(tmp_path, file_format, SMALL, 1), "image", answers, tmp_path)
        with runtime_for(file_format).open(artifact, Mode.SHIPPED) as session:
            found[answers] = session(photo)
    shares, best = found["probabilities"], found["topk:2"]
    right = np.exp(shares["logits"]) / np.exp(shares["logits"]).sum()
    np.testing.assert_allclose(shares["probabilities"], right, rtol=1e-5)
    order = np.argsort(-right[0])[:2]
    assert best["classes"][0].tolist() == order.tolist()
    np.testing.assert_allclose(best["scores"][0], right[0][order], rtol=1e-5)


@FORMATS
def test_a_file_without_the_wrapping_that_it_should_have_is_broken(file_format: Format, tmp_path: Path) -> None:
    plain = network(tmp_path, file_format, SMALL, 1)
    said = replace(plain, interface=Interface(wrapping=Wrapping(Feed(Takes.PIXELS), LOGITS, SMALL)))
    with pytest.raises(BrokenArtifact, match="preprocessing/normalized"), network_of(said):
        pass


def test_a_network_with_nothing_around_it_is_itself(tmp_path: Path) -> None:
    plain = network(tmp_path, Format.ONNX, SMALL, 1)
    with network_of(plain) as same, preprocessing_of(plain) as before:
        assert same is plain
        assert before is None


@pytest.mark.parametrize("text", ["tensor", "pixels", "image", "image:480x640"])
def test_an_input_is_read_as_it_is_written(text: str) -> None:
    assert str(Feed.parse(text)) == text


@pytest.mark.parametrize(
    "text", ["", "photo", "image:", "image:224", "image:0x5", "pixels:224x224", "image:4x4x3", "Image"]
)
def test_no_other_input_is_known(text: str) -> None:
    with pytest.raises(BadOption) as refused:
        Feed.parse(text)
    assert text in str(refused.value)
    assert "480x640" in str(refused.value)


@pytest.mark.parametrize(("text", "said"), [("logits", "logits"), ("topk", "topk:5"), ("topk:3", "topk:3")])
def test_an_output_is_read_as_it_is_written(text: str, said: str) -> None:
    assert str(Answers.parse(text)) == said


@pytest.mark.parametrize("text", ["", "top5", "topk:", "topk:0", "probabilities:2", "labels"])
def test_no_other_output_is_known(text: str) -> None:
    with pytest.raises(BadOption):
        Answers.parse(text)


def test_dimensions_of_images_of_any_size_are_named() -> None:
    interface = Interface(wrapping=Wrapping(Feed(Takes.IMAGE), LOGITS, SMALL))
    (image,), _ = intended_ports(model_spec("m0", square(64)), None, interface)
    assert image == Port("image", "uint8", ("batch", "height", "width", 3))
    assert (Feed(), Answers()) == (TENSOR, LOGITS)
