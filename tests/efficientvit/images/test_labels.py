"""Class labels: ImageNet's own, and a file's."""

from pathlib import Path

import pytest

from efficientvit.errors import BadOption
from efficientvit.images.label_file import read_labels
from efficientvit.images.labels import class_names, find_labels, imagenet, most_probable


def test_imagenets_labels_are_a_thousand_and_unique() -> None:
    labels = imagenet()
    assert len(labels) == len(set(labels)) == 1000
    assert (labels[0], labels[281], labels[999]) == ("tench", "tabby", "toilet tissue")
    assert {labels[134], labels[517]} == {"crane (bird)", "crane (machine)"}


@pytest.mark.parametrize(
    ("option", "classes", "count"), [(None, 1000, 1000), (None, 10, 0), ("none", 1000, 0), ("imagenet", 1000, 1000)]
)
def test_by_name(option: str | None, classes: int, count: int) -> None:
    assert len(find_labels(option, classes)) == count


def _file(folder: Path, text: str) -> Path:
    path = folder / "labels.txt"
    path.write_bytes(text.encode())
    return path


@pytest.mark.parametrize("text", ["cat\ndog\n", "cat\r\ndog", "\ufeffcat\ndog\n\n", "cat \n dog\n"])
def test_a_file_has_one_a_line(text: str, tmp_path: Path) -> None:
    assert find_labels(str(_file(tmp_path, text)), 2) == ("cat", "dog")


@pytest.mark.parametrize(("option", "classes"), [("imagenet", 10), ("FILE", 3), ("FILE", 5)])
def test_a_wrong_count_is_refused(option: str, classes: int, tmp_path: Path) -> None:
    file = _file(tmp_path, "cat\ndog\n")
    with pytest.raises(BadOption, match="not this model's") as caught:
        find_labels(str(file) if option == "FILE" else option, classes)
    assert caught.value.expected == f"{classes} labels, one for each class"


@pytest.mark.parametrize("text", ["1,dog\n0,cat\n", "1: dog\n0: cat\n", "1\tdog\n0\tcat\n", "1 dog\n0 cat\n"])
def test_lines_that_begin_with_their_class_are_put_in_order(text: str, tmp_path: Path) -> None:
    assert read_labels(_file(tmp_path, text)) == ("cat", "dog")


@pytest.mark.parametrize("text", ["1,cat\n2,dog\n", "5,cat\n0,dog\n", "0: cat\n0: dog\n", "1 cat\n2 dog\n"])
def test_numbers_that_are_no_classes_are_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(BadOption, match="not those of the classes"):
        read_labels(_file(tmp_path, text))


@pytest.mark.parametrize(
    "text",
    [
        "7 eleven\n4 wheels\n",
        "000.cat\n001.dog\n",
        "[x] a\nb\n",
        "cat\n2,dog\n",
        "0\n1\n",
        "crane, bird\ncrane, machine\n",
    ],
)
def test_names_with_numbers_stay_what_they_are(text: str, tmp_path: Path) -> None:
    assert read_labels(_file(tmp_path, text)) == tuple(text.splitlines())


@pytest.mark.parametrize(
    "text",
    [
        '["cat", "dog"]',
        '{"0": "cat", "1": "dog"}',
        '{"cat": 0, "dog": 1}',
        '{\n  "id2label": {"0": "cat", "1": "dog"},\n  "label2id": {"cat": 0, "dog": 1}\n}',
        '{"1": ["n02084071", "dog"], "0": ["n02121808", "cat"]}',
        "{0: 'cat',\n 1: 'dog'}\n",
        "['cat',\n'dog']",
        '"cat",\n"dog"\n',
        "- cat\n- dog\n",
        "1. dog\n0. cat\n",
        "1) dog\n0) cat\n",
        "0 - cat\n1 - dog\n",
        "1=dog\n0=cat\n",
        "dog,1\ncat,0\n",
        "index,name\n0,cat\n1,dog\n",
        "name,index\ndog,1\ncat,0\n",
        '0,"cat"\n1,dog\n',
    ],
)
def test_forms_in_which_others_write_them(text: str, tmp_path: Path) -> None:
    assert read_labels(_file(tmp_path, text)) == ("cat", "dog")


@pytest.mark.parametrize(
    "text",
    [
        "class_id,class_name,count\n0,cat,100\n1,dog,20\n",
        "count,class_name,class_id\n20,dog,1\n100,cat,0\n",
        "Class ID;Class Name;Path\n1;dog;b\n0;cat;a\n",
        "label\tname\twnid\n0\tcat\tn02121808\n1\tdog\tn02084071\n",
        "class,label\ncat,0\ndog,1\n",
        'id,name,note\n0,"cat","a, b"\n1,dog,c\n',
        'item { id: 1 name: "dog" }\nitem { id: 0 name: "cat" }\n',
        "item {\n  id: 0\n  name: '/m/01yrx'\n  display_name: 'cat'\n}\nitem {\n  name: 'dog'\n  id: 1\n}\n",
    ],
)
def test_tables_and_label_maps(text: str, tmp_path: Path) -> None:
    assert read_labels(_file(tmp_path, text)) == ("cat", "dog")


@pytest.mark.parametrize(
    "text",
    [
        "filename,label\na.jpg,cat\n",
        "0,cat,100\n1,dog,20\n",
        "cat,0,100\ndog,1,20\n",
        "nr,bezeichnung,anzahl\n0,cat,100\n1,dog,20\n",
        "0\tn02121808\tcat\n1\tn02084071\tdog\n",
        "n02121808\tcat\nn02084071\tdog\n",
    ],
)
def test_tables_of_unclear_columns_are_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(BadOption, match="which column names which class") as caught:
        read_labels(_file(tmp_path, text))
    assert caught.value.got == text.splitlines()[0]


@pytest.mark.parametrize(
    "text",
    [
        "class_id,class_name,count\n1,cat,100\n2,dog,20\n",
        "index,name\n1,cat\n2,dog\n",
        'item { id: 1 name: "cat" }\nitem { id: 2 name: "dog" }\n',
        "item { id: 0 }\nitem { id: 1 name: 'dog' }\n",
    ],
)
def test_tables_that_count_otherwise_are_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(BadOption, match=r"not those of the classes|do not name each class") as caught:
        read_labels(_file(tmp_path, text))
    assert "count the classes from 0" in str(caught.value.next_step)


@pytest.mark.parametrize("text", ["0,cat, domestic\n1,dog, domestic\n", "cat, domestic, 0\ndog, domestic, 1\n"])
def test_names_with_commas_are_no_table(text: str, tmp_path: Path) -> None:
    assert read_labels(_file(tmp_path, text)) == ("cat, domestic", "dog, domestic")


@pytest.mark.parametrize(
    "text",
    [
        "nc: 2\nnames: [no, yes]\n",
        "names:\n  1: yes\n  0: no\n",
        "path: x\nnames:\n- no\n- yes\n",
        "class_to_idx:\n  yes: 1\n  no: 0\n",
        "- no\n- yes\n",
        "no\nyes\n",
    ],
)
def test_yaml(text: str, tmp_path: Path) -> None:
    path = tmp_path / "data.yaml"
    path.write_text(text)
    assert read_labels(path) == ("no", "yes")


def test_digits_may_be_names(tmp_path: Path) -> None:
    assert read_labels(_file(tmp_path, '{"0": "7", "1": "3"}')) == ("7", "3")


def test_yaml_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "data.yaml"
    path.write_text("train: a\nval: b\n")
    with pytest.raises(BadOption, match="cannot be read"):
        read_labels(path)


def test_utf_16_as_powershell_writes_it(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_bytes("bee\nbière\n".encode("utf-16"))
    assert read_labels(path) == ("bee", "bière")


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "cat"}',
        "[1, 2]",
        "{0: 'cat', 2: 'dog'}",
        '{"0": "cat", "01": "dog", "1": "cow"}',
        "{cat, dog}",
        "[open('x')]",
    ],
)
def test_a_list_or_dictionary_of_something_else_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(BadOption, match="cannot be read") as caught:
        read_labels(_file(tmp_path, text))
    assert "a list of names" in str(caught.value.expected)


def test_a_single_logit_has_two_answers() -> None:
    import numpy as np

    assert class_names(1) == ("class 0", "class 1")
    (first, share), (second, rest) = most_probable(np.array([1.5]), ("no", "yes"))
    assert (first, second) == ("yes", "no")
    assert share == pytest.approx(1 / (1 + np.exp(-1.5)))
    assert share + rest == pytest.approx(1)
    assert find_labels(None, 3, ("a", "b", "c")) == ("a", "b", "c")


def test_a_single_logit_needs_two_labels(tmp_path: Path) -> None:
    assert find_labels(str(_file(tmp_path, "no\nyes\n")), 1) == ("no", "yes")
    with pytest.raises(BadOption, match="not this model's") as caught:
        find_labels(str(_file(tmp_path, "yes\n")), 1)
    assert "no and yes" in str(caught.value.expected)


def test_a_label_twice_is_refused_with_its_lines(tmp_path: Path) -> None:
    with pytest.raises(BadOption, match="a label twice") as caught:
        read_labels(_file(tmp_path, "crane\ncat\ncrane\n"))
    assert caught.value.got == "'crane' on lines 1, 3"


@pytest.mark.parametrize(
    "text", ["id,name,x\n0,crane,a\n1,cat,b\n2,crane,c\n", '["crane", "cat", "crane"]', "2,crane\n0,crane\n1,cat\n"]
)
def test_of_a_table_or_list_the_classes_are_named(text: str, tmp_path: Path) -> None:
    with pytest.raises(BadOption, match="a label twice") as caught:
        read_labels(_file(tmp_path, text))
    assert caught.value.got == "'crane' as classes 0, 2"
    with pytest.raises(BadOption, match="an empty label") as caught:
        read_labels(_file(tmp_path, "id,name,x\n0,crane,a\n1,,b\n"))
    assert caught.value.got == "class 1"


def test_another_encoding_is_named(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_bytes("café\nthé\n".encode("latin-1"))
    with pytest.raises(BadOption, match="cannot be read") as caught:
        read_labels(path)
    assert str(caught.value.got).startswith("bytes that are no UTF-8")
    assert str(caught.value.next_step).startswith("save it as UTF-8")


def test_an_empty_label_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadOption, match="empty label") as caught:
        read_labels(_file(tmp_path, "cat\n\ndog\n"))
    assert caught.value.got == "line 2"


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00"])
def test_what_cannot_be_read_is_refused(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadOption, match="cannot be read"):
        find_labels(str(path), 2)
