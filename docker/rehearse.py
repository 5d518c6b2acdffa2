"""Carries out a Dockerfile where there is no engine: each stage becomes a folder, each RUN a chroot into it.

    sudo python docker/rehearse.py docker/cpu.Dockerfile --build-arg TORCH_INDEX=https://pypi.org/simple

Needs root on Linux, debootstrap, a Debian mirror and PyPI. `python:X.Y.Z-slim-RELEASE` is stood in for by that Debian
release with its own Python X.Y; --base names a root folder to stand in for any other image. So a rehearsal says nothing
about the base image itself, nor about layers, cache mounts (left out) and what an engine isolates.
"""

import argparse
import fnmatch
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]
_ENGINE_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SLIM_PYTHON = re.compile(r"(?:python:(\d+\.\d+)\.\d+-slim-([a-z]+))(?:@sha256:[0-9a-f]{64})?")
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
_STRANGER = "54321:54321"


@dataclass(frozen=True, slots=True)
class Step:
    """One RUN, COPY or WORKDIR and what it runs under; variables are filled in, but for RUN, whose shell does it."""

    instruction: str
    value: str
    env: Mapping[str, str]
    workdir: str
    user: str


@dataclass(slots=True)
class Stage:
    """What one FROM begins, read to its end."""

    image: str
    name: str
    steps: list[Step] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=lambda: {"PATH": _ENGINE_PATH})
    labels: dict[str, str] = field(default_factory=dict)
    workdir: str = "/"
    user: str = "0:0"
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)


def instructions(dockerfile: Path) -> Iterator[tuple[str, str]]:
    """Each instruction and what follows it, continued lines joined and comments left out."""
    lines = dockerfile.read_text(encoding="utf-8").splitlines()
    text = "\n".join(line for line in lines if not line.lstrip().startswith("#"))
    for line in re.sub(r"\\[ \t]*\n", "", text).splitlines():
        if line.strip():
            name, _, value = line.strip().partition(" ")
            yield name.upper(), value.strip()


def read(dockerfile: Path, build_args: Mapping[str, str] | None = None) -> list[Stage]:
    """The stages of `dockerfile`; an instruction that cannot be carried out here ends the program."""
    given, outer, args = dict(build_args or {}), dict[str, str](), dict[str, str]()
    stages: list[Stage] = []
    for name, value in instructions(dockerfile):
        known = args | (stages[-1].env if stages else outer)
        if name == "ARG":
            key, says_default, default = value.partition("=")
            fallback = filled(default, known) if says_default else outer.get(key, "")
            (args if stages else outer)[key] = given.get(key, fallback)
        elif name == "FROM":
            image, *alias = filled(value, outer).split()
            stages.append(Stage(image, alias[1] if alias else str(len(stages))))
            args = {}
        else:
            _add(stages[-1], name, value, known)
    return stages


def _add(stage: Stage, name: str, value: str, known: Mapping[str, str]) -> None:
    match name:
        case "RUN":
            stage.steps.append(Step(name, value, known, stage.workdir, stage.user))
        case "COPY" | "WORKDIR":
            stage.workdir = filled(value, known) if name == "WORKDIR" else stage.workdir
            stage.steps.append(Step(name, filled(value, known), known, stage.workdir, stage.user))
        case "ENV":
            stage.env |= _pairs(value, known)
        case "LABEL":
            stage.labels |= _pairs(value, known)
        case "USER":
            stage.user = value
        case "ENTRYPOINT":
            stage.entrypoint = json.loads(value)
        case "CMD":
            stage.command = json.loads(value)
        case _:
            sys.exit(f"{name} {value}: not an instruction that this script can carry out")


def filled(text: str, known: Mapping[str, str]) -> str:
    """`text` with $NAME and ${NAME} filled in; an unknown name gives nothing, as in an engine."""
    return re.sub(r"\$(?:(\w+)|\{(\w+)\})", lambda found: known.get(found[1] or found[2], ""), text)


def _pairs(text: str, known: Mapping[str, str]) -> dict[str, str]:
    return {key: filled(value, known) for key, _, value in (word.partition("=") for word in shlex.split(text))}


def context(root: Path = ROOT) -> list[Path]:
    """The files that .dockerignore lets into the build context, relative to `root`.

    It reads one form alone: `*` keeps everything out, `!NAME` lets in again, `**/NAME` keeps out of that.
    """
    lines = map(str.strip, (root / ".dockerignore").read_text(encoding="utf-8").splitlines())
    rules = "".join(f"{line}\n" for line in lines if line and line[0] != "#")
    form = re.fullmatch(r"\*\n((?:![^*\n]+\n)*)((?:\*\*/[^/\n]+\n)*)", rules)
    if form is None:
        sys.exit(f"{root / '.dockerignore'}: not of the form that this script reads")
    again = [root / line[1:] for line in form[1].splitlines()]
    never = [line.removeprefix("**/") for line in form[2].splitlines()]
    files = {file.relative_to(root) for path in again for file in (path, *path.rglob("*")) if file.is_file()}
    return sorted(f for f in files if not any(fnmatch.fnmatchcase(part, name) for part in f.parts for name in never))


def operands(step: Step) -> tuple[str | None, list[str], str]:
    """Of a COPY: the stage it takes from (None: the context), what it takes, and where to."""
    words = shlex.split(step.value)
    origin = words.pop(0).removeprefix("--from=") if words[0].startswith("--from=") else None
    *what, target = words
    if target.startswith("--") or any(word.startswith("--") for word in what):
        sys.exit(f"COPY {step.value}: of its options this script knows --from alone")
    return origin, what, target


def copy(step: Step, roots: Mapping[str, Path], root: Path, source: Path = ROOT) -> None:
    """Carry out a COPY into `root`, from the stage it names in `roots` or from the build context below `source`."""
    origin, what, target = operands(step)
    goal = root / str(Path(step.workdir) / target).strip("/")
    for name in what:
        if origin is not None:
            goal.parent.mkdir(parents=True, exist_ok=True)
            # Links, since the environment is large: nothing writes to the stage that it comes from any more.
            subprocess.run(["cp", "-a", "--link", roots[origin] / name.strip("/"), goal], check=True)
            continue
        # A folder gives its contents; a file goes by its own name if the target is a folder.
        into = goal / name if target.endswith("/") and (source / name).is_file() else goal
        files = [file for file in context(source) if file.is_relative_to(name)]
        if not files:
            sys.exit(f"COPY {step.value}: {name} is not in the build context")
        for file in files:
            to = into / file.relative_to(name)
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source / file, to)


def enter(root: Path, command: Sequence[str], env: Mapping[str, str], workdir: str, user: str) -> None:
    """Run `command` with `root` as its root folder, mounts and process table of its own, as `user` (uid:gid)."""
    uid, gid = user.split(":")
    isolated = ["unshare", "--mount", "--pid", "--fork", "--kill-child", f"--root={root}", f"--wd={workdir}"]
    isolated += ["--mount-proc", f"--setuid={uid}", f"--setgid={gid}", "env", "-i"]
    ran = subprocess.run([*isolated, *(f"{key}={value}" for key, value in env.items()), *command], check=False)
    if ran.returncode:
        sys.exit(f"exit {ran.returncode}: {shlex.join(command)}")


def carry_out(step: Step, roots: Mapping[str, Path], root: Path, host: Mapping[str, str]) -> None:
    """Do in `root` what `step` says; `host` is what pip needs to know of this machine."""
    (root / step.workdir.strip("/")).mkdir(parents=True, exist_ok=True)
    if step.instruction == "COPY":
        copy(step, roots, root)
    elif step.instruction == "RUN":
        shell = ["/bin/sh", "-c", re.sub(r"--mount=type=cache,\S+\s+", "", step.value)]
        enter(root, shell, {**host, **step.env}, step.workdir, step.user)


def stand_in(image: str, root: Path) -> None:
    """Make `root` what stands in for a slim Python image, and let it reach what the host reaches."""
    known = _SLIM_PYTHON.fullmatch(image)
    if known is None:
        sys.exit(f"{image}: nothing here stands in for it; name a root folder with --base")
    version, release = known.groups()
    include = "--include=ca-certificates,python3-venv"
    subprocess.run(["debootstrap", "--variant=minbase", include, release, root], check=True, stdout=subprocess.DEVNULL)
    has = root / f"usr/bin/python{version}"
    if not has.is_file():
        sys.exit(f"Debian {release} has no Python {version}, so it cannot stand in for {image}")
    (root / "usr/local/bin/python").symlink_to(f"/usr/bin/python{version}")
    if _CERTIFICATES.is_file():
        shutil.copy2(_CERTIFICATES, root / _CERTIFICATES.relative_to("/"))


def main() -> None:
    """Carry out every step, then run the image's command as the image's user and as one it does not know."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dockerfile", type=Path)
    parser.add_argument("--build-arg", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--base", type=Path, metavar="FOLDER", help="a root folder to stand in for every base image")
    parser.add_argument("--run", action="append", metavar="ARGUMENTS", help="what to run at the end; repeatable")
    options = parser.parse_args()
    if os.geteuid() != 0 or shutil.which("debootstrap") is None:
        parser.error("this needs root and debootstrap (Debian and Ubuntu: apt install debootstrap)")
    stages = read(options.dockerfile, dict(pair.split("=", 1) for pair in options.build_arg))
    # The package index may be reached by other means here than where the image will be built.
    host = {key: value for key, value in os.environ.items() if key.startswith("PIP_") or key.lower().endswith("_proxy")}
    begun = time.monotonic()

    def say(what: str) -> None:
        print(f"[{time.monotonic() - begun:6.1f} s] {what}", flush=True)

    with tempfile.TemporaryDirectory(prefix="rehearsal-") as scratch:
        roots = {stage.name: Path(scratch, stage.name) for stage in stages}
        base = options.base or Path(scratch, "base")
        for stage in stages:
            say(f"FROM {stage.image} AS {stage.name}")
            if not base.exists():
                stand_in(stage.image, base)
            subprocess.run(["cp", "-a", base, roots[stage.name]], check=True)
            for step in stage.steps:
                say(f"{step.instruction} {step.value}")
                carry_out(step, roots, roots[stage.name], host)
        image = stages[-1]
        for user in (image.user, _STRANGER):
            for arguments in options.run or ("--help", "doctor"):
                command = [*image.entrypoint, *shlex.split(arguments)]
                say(f"as {user}: {shlex.join(command)}")
                enter(roots[image.name], command, image.env, image.workdir, user)
        say("done")


if __name__ == "__main__":
    main()
