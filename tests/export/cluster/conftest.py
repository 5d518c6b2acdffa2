"""One scheduler and four workers for all tests of a module: each start costs seconds."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.export.cluster.hosts import Hosts
from tests.export.conftest import Exported

pytest.importorskip("distributed")


@dataclass(frozen=True)
class Four:
    """`plain` and `other` make anything but Core ML and engines; `mac` and `gpu` claim the devices by stand-ins.

    All four hand over what was exported before. `faults`: a fault a file, `tests/export/cluster/faulty.py`.
    """

    hosts: Hosts
    faults: Path

    @property
    def address(self) -> str:
        return self.hosts.address

    def inject(self, *faults: str) -> None:
        """Each happens to one task."""
        for path in self.faults.iterdir():
            path.unlink()
        for number, fault in enumerate(faults):
            (self.faults / f"{number}-{fault}").touch()

    @property
    def happened(self) -> list[str]:
        """Those that have."""
        return sorted(path.name.rpartition("-")[2] for path in self.faults.glob("done-*"))


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory, exported: Exported) -> Iterator[Four]:
    folder = tmp_path_factory.mktemp("cluster")
    faults = folder / "faults"
    faults.mkdir()
    hosts = Hosts(folder / "hosts")
    told = {"serves": exported.out, "faults": faults}
    try:
        for name, adds in (("plain", []), ("other", []), ("mac", ["coreml-native"]),
                           ("gpu", ["tensorrt-native", "tensorrt-native:sm89"])):  # fmt: skip
            hosts.start(name, adds=adds, **told)
        for name in hosts.workers:
            hosts.joined(name)
        yield Four(hosts, faults)
    finally:
        hosts.stop()
