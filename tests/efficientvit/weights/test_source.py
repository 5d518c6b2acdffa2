"""Where weights come from, and what is said of them."""

from pathlib import Path

import pytest

from efficientvit.errors import BadOption, DownloadFailed
from efficientvit.size import square
from efficientvit.spec import model_spec
from efficientvit.weights.checkpoint import save_checkpoint
from efficientvit.weights.reading import Reading
from efficientvit.weights.seeded import seeded
from efficientvit.weights.source import find_weights, state_digest
from export.request.request import Request


def test_a_seed_gives_the_same_weights_and_another_seed_others() -> None:
    first, again, other = (find_weights(option, "m0", square(64)) for option in ("seeded", "seeded:0", "seeded:7"))
    assert first.sha256 == again.sha256 == state_digest(seeded(model_spec("m0", square(64)), 0))
    assert other.sha256 != first.sha256
    assert (first.suffix, other.suffix) == ("untrained", "seed7-untrained")
    assert not first.trained
    assert not first.fallback


def test_auto_falls_back_and_says_why() -> None:
    found = find_weights("auto", "m0", square(64))
    assert (found.trained, found.fallback, found.suffix, found.source) == (False, True, "untrained", "seeded:0")
    assert "could not be fetched" in found.notes[0]


def test_pretrained_does_not_fall_back() -> None:
    with pytest.raises(DownloadFailed) as caught:
        find_weights("pretrained", "m0", None)
    assert "-w seeded" in str(caught.value.next_step)


def test_a_file_names_the_folder(tmp_path: Path) -> None:
    path = tmp_path / "best run.safetensors"
    save_checkpoint(seeded(model_spec("m0", square(64), 10)), path)
    found = find_weights(str(path), "m0", None)
    assert (found.trained, found.fallback, found.suffix) == (True, False, f"best run-{found.sha256[:8]}")
    assert str(tmp_path) not in found.source


@pytest.mark.parametrize("option", ["Seeded", "seeded:", "seeded:-1", "seeded:x", "none"])
def test_no_such_weights(option: str) -> None:
    with pytest.raises(BadOption, match="no weights"):
        find_weights(option, "m0", square(64))


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("", "names nothing"),
        ("local-dir:", "names nothing"),
        ("https://huggingface.co/me/bees/resolve/main/model.safetensors", "is an address"),
        ("me/bees", "-w hf-hub:me/bees"),
    ],
)
def test_what_names_no_file_is_not_taken_for_one(option: str, said: str) -> None:
    with pytest.raises(BadOption, match=said):
        find_weights(option, "m0", square(64))


@pytest.mark.parametrize("name", ["efficientvit_m0.r224_in1k", "timm/efficientvit_m0.r224_in1k", "efficientvit_m0"])
def test_timms_names_are_those_of_the_published_weights(name: str) -> None:
    with pytest.raises(DownloadFailed, match="weights of m0 could not"):
        find_weights(name, "m0", None)
    with pytest.raises(BadOption, match="these are weights of m0"):
        find_weights(name, "m1", None)
    assert model_spec(name).name == "m0"


@pytest.mark.parametrize("option", ["seeded", "seeded:7", "pretrained", "auto", "efficientvit_m0.r224_in1k"])
def test_weights_without_an_average_are_not_taken_for_one(option: str) -> None:
    with pytest.raises(BadOption, match="weights have no running average") as caught:
        find_weights(option, "m0", None, reading=Reading(ema=True))
    assert "leave --ema out" in str(caught.value.next_step)


def test_a_release_needs_photos_and_trained_weights() -> None:
    with pytest.raises(BadOption, match="photos"):
        Request(("m0",), ("onnx",), release=True).jobs()
    with pytest.raises(BadOption, match="trained"):
        Request(("m0",), ("onnx",), weights="seeded:3", golden=Path(), release=True).jobs()
    request = Request(("m0",), ("onnx",), golden=Path(), release=True)
    assert request.jobs()
    assert request.required == "native"
