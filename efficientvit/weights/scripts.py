"""What a training script wrote beside the weights: timm's `args.yaml`, Lightning's `hparams.yaml`, an `args.json`.

Read is what names the model that is loaded: a configuration that names none may be of something else in that folder.
Nothing in a file is executed: an object of Python, such as an `argparse.Namespace`, is read as the mapping it holds.
"""

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from efficientvit.files import parse_json
from efficientvit.weights.declared import Fact, Facts, of_checkpoint
from efficientvit.weights.located import member

_LARGEST = 1 << 20
"""Bytes of a configuration."""


class _Plain(yaml.SafeLoader):
    """Mappings, sequences and scalars, whatever their tags."""


def _untagged(loader: _Plain, _: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    return loader.construct_scalar(node) if isinstance(node, yaml.ScalarNode) else None


for _prefix in ("tag:yaml.org,2002:python/", "!"):
    _Plain.add_multi_constructor(_prefix, _untagged)


def of_scripts(paths: Sequence[Path], model: str) -> tuple[Facts, tuple[str, ...]]:
    """What the configurations say that name `model`, and the names of the others, which are not read."""
    facts, others = list[Fact](), list[str]()
    for path in paths:
        said = _mapping_in(path)
        name = f"{path.parent.name}/{path.name}" if path.parent.name == ".hydra" else path.name
        found = of_checkpoint(said, name) if said is not None else ()
        if any(fact.name == "model" and member(str(fact.value)) == model for fact in found):
            facts += found
        else:
            others.append(name)
    return tuple(facts), tuple(others)


def not_read(others: tuple[str, ...], facts: Facts) -> tuple[str, ...]:
    """Configurations beside weights of whose normalization nothing says anything: they may."""
    return () if any(fact.name in ("mean", "std") for fact in facts) else others


def _mapping_in(path: Path) -> Mapping[str, Any] | None:
    """What the file holds; None where that is no mapping, cannot be read, or is far too large for one."""
    try:
        if path.stat().st_size > _LARGEST:
            return None
        content = path.read_bytes()
        if path.suffix == ".json":
            found: Any = parse_json(content)
        elif path.suffix == ".toml":
            found = tomllib.loads(content.decode())
        else:
            found = yaml.load(content, _Plain)  # noqa: S506 - a SafeLoader
    except (OSError, ValueError, yaml.YAMLError, RecursionError):
        return None
    return {str(name): value for name, value in found.items()} if isinstance(found, dict) else None
