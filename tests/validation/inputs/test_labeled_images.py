"""A folder of labeled images: which class a folder is, what is read, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from efficientvit.errors import BadLabeledSet
from efficientvit.images.preprocessing import Preprocessing
from efficientvit.size import square
from validation.inputs.labeled_images import BY_INDEX, BY_LABEL, BY_ORDER, classes_of, labeled_images
from validation.inputs.photos import photos

CONTRACT = Preprocessing(image_size=square(32))
LABELS = ("great white shark", "tench", "goldfish")


def _write(folder: Path, *names: str) -> Path:
    rng = np.random.default_rng(0)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), np.uint8)).save(folder / name)
    return folder


@pytest.mark.parametrize(
    ("folders", "labels", "found", "how"),
    [
        (["0", "2"], (), {"0": 0, "2": 2}, BY_INDEX),
        (["00", "01"], LABELS, {"00": 0, "01": 1}, BY_INDEX),
        (["Great_White_Shark", "tench"], LABELS, {"Great_White_Shark": 0, "tench": 1}, BY_LABEL),
        (["n01440764", "n01443537", "n01484850"], LABELS, {"n01440764": 0, "n01443537": 1, "n01484850": 2}, BY_ORDER),
        (["b", "c", "a"], (), {"a": 0, "b": 1, "c": 2}, BY_ORDER),
        (["0", "1"], ("0", "1", "2"), {"0": 0, "1": 1}, BY_INDEX),  # both readings, and they agree
        (["0", "1", "10"], ("0", "10", "1"), {"0": 0, "10": 1, "1": 2}, BY_LABEL),  # as ImageFolder sorted them
        (
            ["cafe\u0301", "tea"],
            ("tea", "caf\u00e9", "milk"),
            {"cafe\u0301": 1, "tea": 0},
            BY_LABEL,
        ),  # as macOS unpacks it
        (["cls1", "cls2", "cls3"], (), {"cls1": 0, "cls2": 1, "cls3": 2}, BY_ORDER),
    ],
)
def test_a_folder_is_a_class(folders: list[str], labels: tuple[str, ...], found: dict[str, int], how: str) -> None:
    assert classes_of(folders, 3, labels) == (found, how)


@pytest.mark.parametrize(
    ("folders", "labels", "why"),
    [
        (["1", "2", "3"], (), "there is no class 3: indices go from 0"),
        (["1", "01"], (), "1 and 01 both mean class 1"),
        (["tench", "Tench"], LABELS, "both mean class 1"),
        (["tench", "trout"], LABELS, "trout is not"),
        (["0", "tench"], LABELS, "some are"),
        (["0", "tench", "2"], LABELS, r"some are indices \(0, 2\) and some are labels \(tench\) of this model\n"),
        (["0", "cat", "dog"], (), r"and cat, dog are not\n"),
        (["0", "1", "cat"], (), "cat is not"),
        (["a", "b"], (), "their number is not that of the classes"),
        (["n01440764"], LABELS, "their number is not that of the classes"),
        (["c1", "c2", "c10"], (), "class 1 is 'c10' in the order of torchvision's ImageFolder .* 'c2' in timm's"),
        (["ants", "Bees", "cats"], (), "class 0 is 'Bees' .* 'ants' in timm's"),
    ],
)
def test_a_folder_that_could_be_anything_is_refused(folders: list[str], labels: tuple[str, ...], why: str) -> None:
    with pytest.raises(BadLabeledSet, match=why) as caught:
        classes_of(folders, 3, labels)
    assert caught.value.expected is not None
    assert str(len(folders)) in str(caught.value.got)
    assert caught.value.next_step is not None


def test_what_systems_leave_is_no_class(tmp_path: Path) -> None:
    folder = _write(tmp_path, "ant/1.png", "bee/1.png")
    for name in ("__MACOSX", "@eaDir", "lost+found"):
        (folder / name).mkdir()
    assert labeled_images(folder, CONTRACT, 2).classes.tolist() == [0, 1]


def test_images_go_the_way_of_golden_photos(tmp_path: Path) -> None:
    folder = _write(tmp_path, "1/b.png", "1/deep/a.png", "0/c.png")
    (folder / "labels.txt").write_text("beside the classes, and so passed over")
    (folder / ".git").mkdir()
    images = labeled_images(folder, CONTRACT, 3)
    assert images.names == ("0/c.png", "1/b.png", "1/deep/a.png")
    assert images.classes.tolist() == [0, 1, 1]
    golden = photos(folder / "1", CONTRACT)
    assert [np.array_equal(images.pixels[row], golden.members[row - 1].data) for row in (1, 2)] == [True, True]


def test_the_parts_of_a_data_set_are_no_classes() -> None:
    with pytest.raises(BadLabeledSet) as caught:
        classes_of(["train", "val"], 14)
    assert "DIR/val" in str(caught.value.next_step)


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    real, linked = _write(tmp_path / "real", "a/x.png", "b/y.png"), tmp_path / "linked"
    linked.mkdir()
    for name in ("a", "b"):
        (linked / name).symlink_to(real / name)
    (real / "a" / "loop").symlink_to(linked)
    images = labeled_images(linked, CONTRACT, 2)
    assert images.names == ("a/x.png", "b/y.png")
    assert images.classes.tolist() == [0, 1]


def test_a_file_that_is_no_image(tmp_path: Path) -> None:
    folder = _write(tmp_path, "0/a.png", "1/b.png")
    (folder / "1" / "notes.jpg").write_text("no image")
    with pytest.raises(BadLabeledSet, match=r"1/notes\.jpg") as caught:
        labeled_images(folder, CONTRACT, 2)
    assert "--skip-bad-photos" in str(caught.value)
    images = labeled_images(folder, CONTRACT, 2, skip_bad=True)
    assert (images.names, images.skipped) == (("0/a.png", "1/b.png"), ("1/notes.jpg",))


def test_a_folder_with_nothing_to_use(tmp_path: Path) -> None:
    with pytest.raises(BadLabeledSet, match="no folder"):
        labeled_images(tmp_path / "nowhere", CONTRACT, 2)
    with pytest.raises(BadLabeledSet, match="no sub-folders"):
        labeled_images(_write(tmp_path / "flat", "a.png"), CONTRACT, 2)
    for name in ("0", "1"):
        (tmp_path / "empty" / name).mkdir(parents=True)
    with pytest.raises(BadLabeledSet, match="empty"):
        labeled_images(tmp_path / "empty", CONTRACT, 2)
    (tmp_path / "empty" / "0" / "a.png").write_text("no image")
    with pytest.raises(BadLabeledSet, match="no usable image"):
        labeled_images(tmp_path / "empty", CONTRACT, 2, skip_bad=True)


def test_every_class_folder_counts_though_it_be_empty(tmp_path: Path) -> None:
    """Or the others would move up: `c` is the third class with or without images of the second."""
    folder = _write(tmp_path, "a/x.png", "c/y.png")
    (folder / "b").mkdir()
    assert labeled_images(folder, CONTRACT, 3).classes.tolist() == [0, 2]


def test_progress_is_told(tmp_path: Path) -> None:
    said: list[str] = []
    labeled_images(_write(tmp_path, "0/a.png", "1/b.png"), CONTRACT, 2, step=said.append)
    assert said == ["--eval: reading image 1 of 2"]
