"""A saved Core AI asset as a program: its operations, types and constants, from the files and nothing else.

An asset (.aimodel) is a folder: `main.mlirb`, the program as MLIR bytecode of Apple's dialect, `main.hash`, its
SHA-256, and `metadata.json`. Apple's own library reads the bytecode, in a process of its own
(runtimes/coreai/child.py).
Functions that the main one calls are taken in where they are called.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from efficientvit.errors import BrokenArtifact, UnknownOperation
from efficientvit.files import parse_json
from runtimes.artifact import digest
from runtimes.coreai.process import Child, Ended
from runtimes.coreai.stored import DTYPES, SCALED, STORED, TABLE, decoded, unpacked
from runtimes.evaluator.program import Constant, Operation, Program, TensorType
from runtimes.host.packages import missing

MAIN, PROGRAM, HASH, METADATA = "main", "main.mlirb", "main.hash", "metadata.json"
VERSION = "2.0"
"""Of the asset's form, which its metadata names."""

DIALECT = "coreai"
CONSTANT, INVOKE = "constant", "invoke"

_APPLES = "resource_"
"""What the converter calls every constant, before a number that is another in each process."""

_CALLEE = re.compile(r"[^@]*@\"?([^\s>\"]+).*")

_LAST: dict[str, Program] = {}
"""The programs of the last few assets, by their digest: a judgment reads its asset half a dozen times."""

_KEPT = 3


def load_metadata(asset: Path) -> Mapping[str, Any]:
    """`metadata.json`.

    Raises:
        BrokenArtifact: there is none, or it is not that of an asset.
    """
    try:
        metadata = parse_json((asset / METADATA).read_bytes())
    except (OSError, ValueError) as error:
        raise _unreadable(asset, f"{METADATA}: {type(error).__name__}: {error}") from error
    if not isinstance(metadata, dict) or metadata.get("assetVersion") != VERSION:
        got = metadata.get("assetVersion") if isinstance(metadata, dict) else type(metadata).__name__
        raise _unreadable(asset, f"{METADATA} of version {got}")
    return metadata


def require_whole(asset: Path) -> None:
    """Refuse a folder with more or less in it than an asset has, or whose program is not the one that was hashed.

    Raises:
        BrokenArtifact: with what is wrong.
    """
    load_metadata(asset)
    found = sorted(file.relative_to(asset).as_posix() for file in asset.rglob("*") if file.is_file())
    # What was compiled for one device lies in the asset as well: a device would run that, and not the program.
    if found != [HASH, PROGRAM, METADATA]:
        raise _unreadable(asset, f"the files {', '.join(found)}")
    program, said = hashlib.sha256((asset / PROGRAM).read_bytes()).digest(), (asset / HASH).read_bytes()
    if program != said:
        raise _unreadable(asset, f"{PROGRAM} with SHA-256 {program.hex()[:12]}…, and {said.hex()[:12]}… in {HASH}")


def _unreadable(asset: Path, got: str) -> BrokenArtifact:
    return BrokenArtifact(
        f"{asset.name} cannot be read as a Core AI asset",
        expected=f"{PROGRAM}, its SHA-256 in {HASH}, and {METADATA} of version {VERSION}",
        got=got,
    )


def load_program(asset: Path) -> Program:
    """The program of a saved asset, read once while it is one of the last few.

    Raises:
        Unavailable: coreai-core is not installed, or has no wheel for this host.
        BrokenArtifact: a file is missing, cut off or contradicts itself, or holds what is not supported.
    """
    require_whole(asset)
    if (absent := missing("coreai", "coreai", "reading a Core AI asset")) is not None:
        raise absent
    key = digest(asset)
    program = _LAST.pop(key, None) or _read(asset)
    while len(_LAST) >= _KEPT:
        del _LAST[next(iter(_LAST))]
    _LAST[key] = program
    return program


def _read(asset: Path) -> Program:
    with Child("read", asset) as child:
        try:
            functions = child.message()["functions"]
            for function in functions:
                for operation in function["operations"]:
                    if "bytes" in operation:
                        operation["data"] = child.bytes(operation["bytes"])
        except Ended as error:
            raise _unreadable(asset, str(error)) from error
    return Listed(asset.name, {function["name"]: function for function in functions}).program()


class Listed:
    """The functions that the process listed, made into one program."""

    def __init__(self, label: str, functions: Mapping[str, Any]) -> None:
        self._label = label
        self._functions = functions
        self._constants: dict[str, Constant] = {}
        self._operations: list[Operation] = []
        self._taken: Counter[str] = Counter()

    def program(self) -> Program:
        """The main function.

        Raises:
            BrokenArtifact: there is none, or it holds what is not supported.
        """
        main = self._functions.get(MAIN)
        if main is None:
            raise self._broken(f"the functions {', '.join(self._functions)}", f"one that is called '{MAIN}'")
        inputs = {port["name"]: self._type(port) for port in main["inputs"]}
        self._taken.update(inputs)
        outputs = {port["value"]: port["name"] for port in reversed(main["outputs"])}
        self._taken.update(port["name"] for port in main["outputs"])
        names = self._inlined(main, list(inputs), outputs, "")
        for port in main["outputs"]:  # of a value that is returned twice, or that no operation makes
            if names[port["value"]] != port["name"]:
                given = {"x": names[port["value"]]}
                self._operations.append(Operation("identity", given, ((port["name"], self._type(port)),)))
        read = {name for operation in self._operations for name in operation.names()}
        constants = {name: each for name, each in self._constants.items() if name in read}
        returned = tuple(port["name"] for port in main["outputs"])
        return Program(DIALECT, inputs, returned, tuple(self._operations), constants)

    def _inlined(
        self, function: Mapping[str, Any], given: list[str], outputs: Mapping[int, str], prefix: str
    ) -> dict[int, str]:
        """Take in a function's operations; the names of its values by number."""
        names = dict(enumerate(given))
        for listed in function["operations"]:
            kind = listed["kind"].rpartition(".")[2]
            if kind == CONSTANT:
                names[listed["results"][0]["value"]] = self._constant(listed, prefix)
                continue
            reads = [names[value] for value in listed["operands"]]
            if kind == INVOKE:
                names.update(self._called(listed, reads, prefix, outputs))
                continue
            results = []
            for place, result in enumerate(listed["results"]):
                called = f"{prefix}{kind}_{_number(listed, place)}"
                if kind in (SCALED, TABLE) and reads[0].endswith(STORED):  # by the name of the tensor that it holds
                    called = reads[0].removesuffix(STORED)
                own = outputs.get(result["value"]) or self._free(called)
                names[result["value"]] = own
                results.append((own, self._type(result)))
            if not results:
                raise UnknownOperation(kind, self._what(), got=f"an operation {kind} without a result")
            if (value := decoded(kind, results[0][0], reads, self._constants)) is not None:
                self._constants[results[0][0]] = Constant(value, self._type(listed["results"][0]), kind)
                continue
            self._operations.append(self._operation(kind, listed, reads, tuple(results)))
        return names

    def _called(
        self, listed: Mapping[str, Any], reads: list[str], prefix: str, outputs: Mapping[int, str]
    ) -> dict[int, str]:
        """What a call gives, by number: the called function is taken in."""
        callee = _CALLEE.sub(r"\1", listed["attributes"]["callee"])
        inner = f"{prefix}{callee.rpartition('_')[0] or callee}_{_number(listed, 0)}/"
        if callee not in self._functions or callee == MAIN or prefix.count("/") > len(self._functions):
            raise self._broken(f"a call of '{callee}'", "a function of the program that does not call itself")
        function = self._functions[callee]
        numbers = [result["value"] for result in listed["results"]]
        returned = [port["value"] for port in function["outputs"]]
        own = {value: outputs[number] for value, number in zip(returned, numbers, strict=True) if number in outputs}
        names = self._inlined(function, reads, own, inner)
        return {number: names[value] for number, value in zip(numbers, returned, strict=True)}

    def _operation(
        self,
        kind: str,
        listed: Mapping[str, Any],
        reads: list[str],
        results: tuple[tuple[str, TensorType], ...],
    ) -> Operation:
        from runtimes.coreai.operands import named_operands

        inputs = named_operands(kind, reads)
        attributes = dict(listed["attributes"])
        if kind == "cast":
            attributes["dtype"] = results[0][1].dtype
        for key, text in attributes.items():
            name = f"{results[0][0]}.{key}"
            self._constants[name] = Constant(_enumerated(text), TensorType("string", ()))
            inputs[key] = name
        return Operation(kind, inputs, results)

    def _constant(self, listed: Mapping[str, Any], prefix: str) -> str:
        (result,) = listed["results"]
        name = str(listed["name"])
        if not name or name.startswith(_APPLES):
            name = f"{prefix}{CONSTANT}_{_number(listed, 0)}"
        name = self._free(name)
        declared = self._type(result)
        self._constants[name] = Constant(unpacked(listed["data"], declared, f"constant '{name}'"), declared)
        return name

    def _free(self, name: str) -> str:
        """A name that nothing else has."""
        self._taken[name] += 1
        return name if self._taken[name] == 1 else self._free(f"{name}.{self._taken[name] - 1}")

    def _type(self, described: Mapping[str, Any]) -> TensorType:
        dtype = DTYPES.get(described["dtype"])
        if dtype is None:
            raise self._broken(f"the type {described['dtype']}", ", ".join(DTYPES))
        if None in described["shape"]:
            raise self._broken(
                "a tensor of a dynamic shape", "one fixed shape: convert it for that, and judge the file"
            )
        return TensorType(dtype, tuple(described["shape"]))

    def _broken(self, got: str, expected: str) -> BrokenArtifact:
        return BrokenArtifact(self._what(), expected=expected, got=got)

    def _what(self) -> str:
        return f"the program in {self._label} cannot be interpreted"


def _number(listed: Mapping[str, Any], place: int) -> str:
    """The number that the converter gave an operation, which stays where others come and go; its result's place."""
    own = listed["results"][place]["value"] if listed["id"] is None else listed["id"]
    return f"{own}" if len(listed["results"]) == 1 else f"{own}_{place}"


def _enumerated(text: str) -> str:
    """`#coreai.padding_mode<constant>` is `constant`; a text has quotes."""
    return text.rpartition("<")[2].rstrip(">") if text.startswith("#") else text.strip('"')
