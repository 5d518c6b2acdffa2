"""A file of class names: one a line, a table, or a list or dictionary as JSON, YAML and Python write them.

Imports nothing heavy.
"""

import ast
import csv
import re
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from efficientvit.errors import BadOption
from efficientvit.files import parse_json

IMAGENET, NONE = "imagenet", "none"
_MARKS = {",", ";", "\t", ":", "="}
_NUMBERED = re.compile(r"(?P<index>\d{1,6})(?P<mark>[,;:\t] *|[.)] +| *= *| - | +)(?P<name>\S.*)")
_NUMBERED_LAST = re.compile(r"(?P<name>.*\S) *(?P<mark>[,;\t]) *(?P<index>\d{1,6})")
_QUOTED = re.compile(r"""(["'])(?P<name>.+)\1,?""")
_LISTED = re.compile(r"- +(?P<name>.+)")
_UNDER = ("id2label", "names", "labels", "classes", "label_names", "class_names", "class_to_idx")
_LITERAL = {"[": "]", "{": "}"}
_ITEM = re.compile(r"^\s*item\s*\{([^{}]*)\}", re.MULTILINE)
_ITEM_NUMBER = re.compile(r"\bid\s*:\s*(\d{1,6})")
_ITEM_NAMES = [re.compile(rf"""(?<!\w){name}\s*:\s*(["'])(?P<name>.*?)\1""") for name in ("display_name", "name")]
_NAME_TITLES = (
    "name",
    "class_name",
    "classname",
    "label_name",
    "category_name",
    "display_name",
    "label",
    "class",
    "category",
)
_NUMBER_TITLES = (
    "index",
    "idx",
    "id",
    "number",
    "class_id",
    "class_index",
    "class_idx",
    "label_id",
    "label_index",
    "label_idx",
    "category_id",
    "target",
    "class",
    "label",
    "category",
)

_COUNT = "count the classes from 0, or write the names alone, one a line in the order of the classes"

Labels = tuple[str, ...]
T = TypeVar("T")


def read_labels(path: Path) -> Labels:
    """One label a line, UTF-8; blank lines at the end don't count. All may have the number of their class.

    Also a table whose first line names its columns, and a list of names, or a dictionary of names and classes, in JSON
    or YAML or as Python writes it; nothing of it is run.

    Raises:
        BadOption: the file cannot be read, its numbers are not those of the classes, which column has the names is not
            clear, or a label is empty or occurs twice (Core ML keys probabilities by label).
    """
    try:
        content = path.read_bytes()
        text = content.decode("utf-16" if content.startswith((BOM_UTF16_BE, BOM_UTF16_LE)) else "utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BadOption(
            f"the labels '{path}' cannot be read",
            expected=f"{IMAGENET}, {NONE}, or a UTF-8 text file with one label a line",
            got=f"bytes that are no UTF-8: {error.reason}" if isinstance(error, UnicodeDecodeError) else str(error),
            next_step="save it as UTF-8, one label a line in the order of the classes, or pass --labels none"
            if isinstance(error, UnicodeDecodeError)
            else "write one label a line in the order of the classes, or pass --labels none",
        ) from error
    bare: Labels = ()
    if text and text[-1] == _LITERAL.get(text[0]):
        labels = _of_literal(path, text)
    elif _ITEM.match(text):
        labels = _of_items(path, text)
    elif path.suffix in (".yaml", ".yml") and (value := _in_yaml(text)) is not None:
        labels = _named_in(path, value, text)
    else:
        bare = _bare(tuple(line.strip() for line in text.splitlines()))
        labels = _of_table(path, bare) or _in_order(path, bare)
    unit, first = ("line", 1) if labels == bare else ("class", 0)  # of a table or a list the lines are others
    if "" in labels:
        empty = f"{unit} {labels.index('') + first}"
        raise BadOption(f"{path} has an empty label", got=empty, next_step="name that class")
    if repeated := [label for label, count in Counter(labels).items() if count > 1]:
        places = [i + first for i, label in enumerate(labels) if label == repeated[0]]
        units = f"on {unit}s" if unit == "line" else f"as {unit}es"
        raise BadOption(
            f"{path} has a label twice",
            expected="every label once: an app gets the probabilities by label",
            got=f"'{repeated[0]}' {units} {', '.join(map(str, places))}",
            next_step="tell them apart, as in 'crane (bird)' and 'crane (machine)'",
        )
    return labels


def names_in(value: Any) -> Labels | None:
    """A list of names, or a dictionary from class index to name or from name to class index; None of anything else.

    In the place of a name may be WordNet's id and the name, as in Keras's `imagenet_class_index.json`.
    """
    if isinstance(value, dict) and value and all(map(_index, value.values())):
        value = {index: name for name, index in value.items()}
    if isinstance(value, dict) and value and all(str(index).isdigit() for index in value):
        value = _counted(map(int, value), list(value.values())) or value
    if not isinstance(value, list | tuple) or not value:
        return None
    names = [each[1] if isinstance(each, list | tuple) and len(each) == 2 else each for each in value]
    return (
        tuple(name.strip() for name in names) if all(isinstance(name, str) and name.strip() for name in names) else None
    )


def _counted(numbers: Iterable[int], names: Sequence[T]) -> list[T] | None:
    """The names in the order of their numbers; None where those are not 0, 1 and so on, each once."""
    by_class = dict(zip(numbers, names, strict=True))
    wanted = range(len(names))
    return [by_class[index] for index in wanted] if sorted(by_class) == list(wanted) else None


def _index(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _of_literal(path: Path, text: str) -> Labels:
    """The names in a file that is a single list or dictionary."""
    try:
        value = parse_json(text)
    except ValueError:
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            value = None
    return _named_in(path, value, text)


def _in_yaml(text: str) -> Any:
    """The list or mapping that it is, its scalars as text; None of anything else."""
    import yaml

    try:
        value = yaml.load(text, yaml.BaseLoader)  # noqa: S506 - makes nothing but text, lists and dictionaries
    except (yaml.YAMLError, RecursionError):
        return None
    return value if isinstance(value, dict | list) else None


def _named_in(path: Path, value: Any, text: str) -> Labels:
    under = next((value[name] for name in _UNDER if name in value), value) if isinstance(value, dict) else value
    numbered = isinstance(under, dict) and all(str(each).isdigit() for each in under.values())
    if numbered and not all(str(each).isdigit() for each in under):
        under = {name: int(each) for name, each in under.items()}  # YAML's numbers are text here
    labels = names_in(under)
    if labels is None:
        raise BadOption(
            f"the labels '{path}' cannot be read",
            expected="a list of names, or a dictionary of names and the classes 0, 1 and so on",
            got=f"{text[:60]!r}",
            next_step="write one label a line in the order of the classes",
        )
    return labels


def _of_items(path: Path, text: str) -> Labels:
    """The names of a label map of TensorFlow: `item { id: 0 name: "ant" }`."""
    items = [each[1] for each in _ITEM.finditer(text)]
    numbers = [int(found[1]) for each in items if (found := _ITEM_NUMBER.search(each)) is not None]
    names = [found["name"] for each in items if (found := _first_of(each)) is not None]
    if len(numbers) == len(names) == len(items) and (labels := _counted(numbers, names)) is not None:
        return tuple(labels)
    raise BadOption(
        f"the items of {path} do not name each class once",
        expected=f"an id of 0 to {len(items) - 1} and a name in each",
        got=f"{len(items)} items, ids from {min(numbers, default='none')} to {max(numbers, default='none')}, "
        f"{len(names)} names",
        next_step=_COUNT,
    )


def _first_of(item: str) -> re.Match[str] | None:
    return next((found for each in _ITEM_NAMES if (found := each.search(item)) is not None), None)


def _of_table(path: Path, lines: Labels) -> Labels | None:
    """The names in a table whose first line names its columns; None of what is no table, or one of two columns without.

    Raises:
        BadOption: which column has the names, or of which class they are, is not clear.
    """
    mark = next((mark for mark in "\t;," if lines and all(mark in line for line in lines)), None)
    try:
        rows = [] if mark is None else list(csv.reader(lines, delimiter=mark, skipinitialspace=True))
    except csv.Error:
        return None
    if not 2 <= len(rows) == len(lines) or len({len(row) for row in rows}) != 1:
        return None
    titles = [re.sub(r"[\W_]+", "_", cell.strip().lower()) for cell in rows[0]]
    columns = [[cell.strip() for cell in column] for column in zip(*rows[1:], strict=True)]
    counted = [place for place, column in enumerate(columns) if all(map(str.isdecimal, column))]
    name = next(
        (titles.index(each) for each in _NAME_TITLES if each in titles and titles.index(each) not in counted), None
    )
    number = next((place for place in counted if titles[place] in _NUMBER_TITLES), None)
    if name is not None and number is not None:
        if (labels := _counted(map(int, columns[number]), columns[name])) is not None:
            return tuple(labels)
        what = f"the column '{rows[0][number]}' of {path} has"
        raise _of_other_classes(what, len(rows) - 1, "; ".join(", ".join(row) for row in rows[1:4]))
    plain = mark == "," and counted in ([], [0], [len(titles) - 1])  # a comma may be part of a name
    if name is None and (len(titles) == 2 or plain) and (counted or mark != "\t"):
        return None
    raise BadOption(
        f"{path} is a table, and which column names which class is not clear",
        expected="a first line that names the columns of the classes' numbers and names: class_id,class_name",
        got=lines[0],
        next_step="name the columns so, or write the names alone, one a line in the order of the classes",
    )


def _of_other_classes(what: str, classes: int, got: str) -> BadOption:
    return BadOption(
        f"{what} numbers that are not those of the classes",
        expected=f"each of 0 to {classes - 1} once, beside a name",
        got=got,
        next_step=_COUNT,
    )


def _bare(lines: Labels) -> Labels:
    """The lines without what another format has around each of them: quotes and a comma, or YAML's dash."""
    for pattern in (_QUOTED, _LISTED):
        found = [pattern.fullmatch(line) for line in lines]
        if lines and all(found):
            return tuple(match["name"] for match in found if match is not None)
    return lines


def _in_order(path: Path, lines: Labels) -> Labels:
    """The names in the order of the classes, where every line has the number of its class before or after the name.

    Between them may stand a tab or a comma, a colon or a blank, in all lines the same; a first line may name the two
    columns. Names that only begin with numbers don't count the classes from 0, and stay what they are.
    """
    for pattern in (_NUMBERED, _NUMBERED_LAST):
        for rows in (lines, lines[1:]):
            matches = _matches(pattern, rows)
            labels = _counted((int(match["index"]) for match in matches), [match["name"] for match in matches])
            marks = {_mark(match) for match in matches}
            titled = pattern.fullmatch(lines[0]) is None and all(mark in lines[0] for mark in marks & _MARKS)
            if labels and len(marks) == 1 and (rows is lines or (titled and marks <= _MARKS)):
                return tuple(map(_unquoted, labels))
    matches = _matches(_NUMBERED, lines)
    from_one = sorted(int(match["index"]) for match in matches) == list(range(1, len(lines) + 1))
    if len(lines) > 1 and matches and (from_one or _mark(matches[0]) in _MARKS):
        raise _of_other_classes(f"the lines of {path} begin with", len(lines), ", ".join(lines[:3]))
    return lines


def _matches(pattern: re.Pattern[str], lines: Sequence[str]) -> list[re.Match[str]]:
    """Those of all lines, or none."""
    found = [match for match in map(pattern.fullmatch, lines) if match is not None]
    return found if len(found) == len(lines) else []


def _mark(match: re.Match[str]) -> str:
    return match["mark"].strip() or match["mark"]


def _unquoted(name: str) -> str:
    """As CSV quotes a name that has a comma."""
    quoted = _QUOTED.fullmatch(name)
    return name if quoted is None else quoted["name"]
