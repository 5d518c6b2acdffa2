"""Golden inputs from a folder of photographs."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from efficientvit.errors import BadGoldenSet
from efficientvit.images.preprocessing import Preprocessing, load_rgb, to_tensor
from efficientvit.size import square
from validation.inputs import photos as golden_photos
from validation.inputs.photos import photos

SMALL = Preprocessing(square(32))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    (tmp_path / "cats").mkdir()
    for name in ("b.png", "a.jpg", "cats/a.webp", "Z.bmp", "no-suffix.png"):
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(tmp_path / name)
    (tmp_path / "no-suffix.png").rename(tmp_path / "no-suffix")
    return tmp_path


def test_all_files_sorted_through_the_contract(folder: Path) -> None:
    golden = photos(folder, SMALL)

    assert golden.names == ("Z.bmp", "a.jpg", "b.png", "cats/a.webp", "no-suffix")
    assert golden.unique_kinds == ("photo",)
    assert golden.skipped == ()
    for name, image in zip(golden.names, golden.images, strict=True):
        np.testing.assert_array_equal(image, to_tensor(load_rgb(folder / name, SMALL), SMALL))
    assert golden.sha256 == photos(folder, SMALL).sha256


def test_one_changed_pixel_changes_the_digest(folder: Path) -> None:
    before = photos(folder, SMALL).sha256
    rgb = load_rgb(folder / "b.png", SMALL)
    rgb[20, 25, 0] ^= 255
    Image.fromarray(rgb).save(folder / "b.png")
    assert photos(folder, SMALL).sha256 != before


def test_hidden_and_system_files_are_passed_over(folder: Path) -> None:
    before = photos(folder, SMALL).sha256
    for name in (".cache", "@eaDir", "__MACOSX"):
        (folder / name).mkdir()
    for name in (".DS_Store", "Thumbs.db", "desktop.ini", "Icon\r", ".cache/index", "@eaDir/a.jpg", "__MACOSX/a.jpg"):
        (folder / name).write_text("no image")
    assert photos(folder, SMALL).sha256 == before


@pytest.mark.parametrize("name", ["labels.txt", "broken.jpg", "cats/broken.png"])
def test_a_file_that_is_no_image_is_named(folder: Path, name: str) -> None:
    (folder / name).write_text("no image")

    with pytest.raises(BadGoldenSet, match=name):
        photos(folder, SMALL)

    golden = photos(folder, SMALL, skip_bad=True)
    assert golden.skipped == (name,)
    assert len(golden) == 5


def test_a_dangling_link_is_a_bad_file(folder: Path) -> None:
    (folder / "gone.jpg").symlink_to(folder / "nowhere.jpg")
    with pytest.raises(BadGoldenSet, match=r"gone\.jpg"):
        photos(folder, SMALL)


@pytest.mark.parametrize(("brand", "name"), [(b"heic", "a HEIC"), (b"mif1", "a HEIC"), (b"avif", "an AVIF")])
def test_a_phones_pictures_are_called_by_their_name(brand: bytes, name: str, tmp_path: Path) -> None:
    (tmp_path / "IMG_0001.jpg").write_bytes(b"\x00\x00\x00\x18ftyp" + brand + bytes(100))
    with pytest.raises(BadGoldenSet, match=r"IMG_0001\.jpg") as caught:
        photos(tmp_path, SMALL)
    assert f"is {name} picture" in str(caught.value.got)
    assert "--skip-bad-photos" in str(caught.value.next_step)


def test_folders_that_are_refused(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    empty, useless = tmp_path / "empty", tmp_path / "useless"
    empty.mkdir()
    useless.mkdir()
    (useless / "notes.txt").write_text("no image")

    with pytest.raises(BadGoldenSet, match="nothing of that name"):
        photos(tmp_path / "missing", SMALL)
    with pytest.raises(BadGoldenSet, match="a file"):
        photos(folder / "b.png", SMALL)
    with pytest.raises(BadGoldenSet, match="is empty"):
        photos(empty, SMALL)
    with pytest.raises(BadGoldenSet, match=r"no usable image(?s:.)*notes\.txt"):
        photos(useless, SMALL, skip_bad=True)
    monkeypatch.setattr(golden_photos, "LARGEST_COUNT", 3)
    with pytest.raises(BadGoldenSet, match="too many files"):
        photos(folder, SMALL)
