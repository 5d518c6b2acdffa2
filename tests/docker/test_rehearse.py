"""The script that carries out a Dockerfile without an engine: how it reads one, and what it copies."""

from pathlib import Path

import pytest

from docker.rehearse import Step, context, copy, read, stand_in

DOCKERFILE = r"""
# A comment, and an empty line
ARG BASE=debian:12.1
FROM ${BASE} AS first
ARG BASE
ARG COLOR=red
ENV BIN=/opt/bin QUOTED="two words"
ENV PATH=$BIN:$PATH
WORKDIR /src
RUN --mount=type=cache,target=/cache \
    # a comment between two lines
    echo "$COLOR" \
    && echo done

from debian:12.2
copy --from=first /src/${COLOR}thing /there
USER 7:8
LABEL color="${COLOR}" base=$BASE
ENTRYPOINT ["a", "b"]
CMD []
"""


@pytest.fixture
def dockerfile(tmp_path: Path) -> Path:
    path = tmp_path / "Dockerfile"
    path.write_text(DOCKERFILE, encoding="utf-8")
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A build context."""
    root = tmp_path / "source"
    for name in ("one.txt", "out.txt", "folder/two.txt", "folder/below/three.txt", "folder/__pycache__/two.pyc"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name, encoding="utf-8")
    (root / ".dockerignore").write_text("# why\n*\n!one.txt\n!folder\n**/__pycache__\n", encoding="utf-8")
    return root


def step(value: str, workdir: str = "/") -> Step:
    return Step("COPY", value, {}, workdir, "0:0")


def files(root: Path) -> dict[str, str]:
    return {p.relative_to(root).as_posix(): p.read_text(encoding="utf-8") for p in root.rglob("*") if p.is_file()}


def test_stages_begin_anew(dockerfile: Path) -> None:
    first, second = read(dockerfile)
    assert (first.image, first.name, second.image, second.name) == ("debian:12.1", "first", "debian:12.2", "1")
    assert (first.user, first.workdir, second.user, second.workdir) == ("0:0", "/src", "7:8", "/")
    assert (second.entrypoint, second.command) == (["a", "b"], [])


def test_variables_are_those_of_the_stage(dockerfile: Path) -> None:
    first, second = read(dockerfile)
    assert first.env["PATH"].startswith("/opt/bin:/usr/local/sbin:")
    assert first.env["QUOTED"] == "two words"
    assert "BIN" not in second.env
    assert [(s.instruction, s.value) for s in second.steps] == [("COPY", "--from=first /src/thing /there")]
    assert second.labels == {"color": "", "base": ""}


def test_a_command_is_left_to_its_shell_with_arguments_in_its_environment(dockerfile: Path) -> None:
    (first, _) = read(dockerfile, {"COLOR": "blue", "BASE": "debian:11"})
    command = first.steps[-1]
    assert " ".join(command.value.split()) == '--mount=type=cache,target=/cache echo "$COLOR" && echo done'
    assert (command.env["COLOR"], command.env["BASE"], command.env["BIN"]) == ("blue", "debian:11", "/opt/bin")
    assert (first.image, command.workdir, command.user) == ("debian:11", "/src", "0:0")


def test_an_argument_is_known_from_where_it_is_declared(dockerfile: Path) -> None:
    dockerfile.write_text("FROM a:1.0\nRUN one\nARG COLOR=red\nRUN two\n", encoding="utf-8")
    (only,) = read(dockerfile)
    assert [command.env.get("COLOR") for command in only.steps] == [None, "red"]


def test_what_cannot_be_carried_out_is_refused(dockerfile: Path) -> None:
    dockerfile.write_text("FROM a:1.0\nADD https://example.org/file /\n", encoding="utf-8")
    with pytest.raises(SystemExit, match=r"ADD .*: not an instruction"):
        read(dockerfile)


def test_the_context_is_what_the_ignore_file_lets_in(source: Path) -> None:
    assert [path.as_posix() for path in context(source)] == ["folder/below/three.txt", "folder/two.txt", "one.txt"]


@pytest.mark.parametrize(
    "rules", ["one.txt\n", "*\n**/__pycache__\n!folder\n", "*\n!f*\n", "*\n!folder\nfolder/two.txt\n"]
)
def test_an_ignore_file_of_another_form_is_refused(source: Path, rules: str) -> None:
    (source / ".dockerignore").write_text(rules, encoding="utf-8")
    with pytest.raises(SystemExit, match="not of the form"):
        context(source)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("one.txt ./", {"w/one.txt": "one.txt"}),
        ("one.txt /else/", {"else/one.txt": "one.txt"}),
        ("one.txt new.txt", {"w/new.txt": "one.txt"}),
        ("folder there", {"w/there/two.txt": "folder/two.txt", "w/there/below/three.txt": "folder/below/three.txt"}),
        ("folder/below one.txt ./", {"w/three.txt": "folder/below/three.txt", "w/one.txt": "one.txt"}),
    ],
)
def test_a_copy_puts_files_where_an_engine_would(
    source: Path, tmp_path: Path, value: str, expected: dict[str, str]
) -> None:
    copy(step(value, workdir="/w"), {}, tmp_path / "root", source)
    assert files(tmp_path / "root") == expected


@pytest.mark.parametrize("value", ["out.txt ./", "absent ./", "folder/__pycache__ ./"])
def test_a_copy_of_what_the_context_lacks_is_refused(source: Path, tmp_path: Path, value: str) -> None:
    with pytest.raises(SystemExit, match="is not in the build context"):
        copy(step(value), {}, tmp_path / "root", source)


def test_a_copy_with_an_option_that_is_not_known_is_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="--from alone"):
        copy(step("--chown=7:8 one.txt ./"), {}, tmp_path / "root", source)


def test_a_copy_takes_from_another_stage(source: Path, tmp_path: Path) -> None:
    copy(step("--from=first /folder /opt/here"), {"first": source}, tmp_path / "root")
    assert files(tmp_path / "root")["opt/here/below/three.txt"] == "folder/below/three.txt"


def test_a_base_that_nothing_stands_in_for_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="name a root folder with --base"):
        stand_in("nvcr.io/nvidia/tensorrt:26.07-py3", tmp_path)
