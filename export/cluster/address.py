"""`--cluster`, `--tls-*`: where the scheduler is, and how to talk to it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from efficientvit.errors import BadOption
from runtimes.host.packages import missing

if TYPE_CHECKING:
    from distributed.security import Security

_LOCAL = re.compile(r"local:([1-9][0-9]{0,2})")
_REMOTE = re.compile(r"(tcp|tls)://([\w.-]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}")


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM files: the authority that signed everybody's certificate, our certificate, and its key.

    Raises:
        BadOption: a file is not there.
    """

    ca: Path
    cert: Path
    key: Path

    def __post_init__(self) -> None:
        for name, path in (("ca", self.ca), ("cert", self.cert), ("key", self.key)):
            if not path.is_file():
                raise BadOption(
                    f"--tls-{name} names no file",
                    expected="a PEM file",
                    got=str(path),
                    next_step="docs/cluster.md shows how to make the three files with openssl",
                )


@dataclass(frozen=True, slots=True)
class Cluster:
    """A scheduler's `address`, or `local` worker processes on this host. Made by `parse_cluster`."""

    address: str | None
    local: int = 0
    tls: Tls | None = None

    def __str__(self) -> str:
        return self.address or f"local:{self.local}"

    def security(self) -> "Security":
        """Dask's own: TLS in both directions, or none."""
        from distributed.security import Security

        if self.tls is None:
            return Security()
        ca, cert, key = (str(path.resolve()) for path in (self.tls.ca, self.tls.cert, self.tls.key))
        return Security(
            tls_ca_file=ca,
            tls_client_cert=cert,
            tls_client_key=key,
            tls_worker_cert=cert,
            tls_worker_key=key,
            require_encryption=True,
        )


def parse_cluster(text: str, ca: Path | None = None, cert: Path | None = None, key: Path | None = None) -> Cluster:
    """What `tcp://HOST:PORT`, `tls://HOST:PORT` or `local:N` and the three files of TLS ask for.

    Raises:
        BadOption: another form, TLS without its files, or its files without TLS.
        MissingExtra: Dask is not installed.
    """
    local = _LOCAL.fullmatch(text)
    if local is None and _REMOTE.fullmatch(text) is None:
        raise BadOption(
            f"'{text}' is no cluster",
            expected="tls://HOST:PORT or tcp://HOST:PORT of a scheduler, or local:N for N workers on this host",
            got=text,
            next_step="start a scheduler with `dask scheduler`, and name the address that it prints",
        )
    given = [path for path in (ca, cert, key) if path is not None]
    if text.startswith("tls:") != bool(given) or len(given) not in (0, 3):
        raise BadOption(
            "TLS needs an address with tls:// and all three of its files",
            expected="tls://HOST:PORT --tls-ca FILE --tls-cert FILE --tls-key FILE, or none of them",
            got=f"{text} with {len(given)} of the three files",
            next_step="docs/cluster.md shows how to make them with openssl",
        )
    require_installed()
    tls = None if ca is None or cert is None or key is None else Tls(ca, cert, key)
    return Cluster(None if local else text, int(local[1]) if local else 0, tls)


def cluster_of(
    address: str | None, tls: Sequence[str | Path | None] = (None, None, None), *, jobs: int | None = None
) -> Cluster | None:
    """As `parse_cluster`; None where no address is given. `tls`: its three files. `jobs`: `--jobs`, if it was given.

    Raises:
        BadOption: they do not go together.
        MissingExtra: Dask is not installed.
    """
    ca, cert, key = (None if path is None else Path(path) for path in tls)
    if address is None:
        if any((ca, cert, key)):
            raise BadOption(
                "--tls-ca, --tls-cert and --tls-key are for a cluster",
                expected="--cluster tls://HOST:PORT with them",
                got="no --cluster",
                next_step="name the scheduler, or leave them out",
            )
        return None
    cluster = parse_cluster(address, ca, cert, key)
    if jobs not in (None, 1):
        raise BadOption(
            "--jobs is for processes of this host, and --cluster has workers",
            expected="one of the two",
            got=f"--jobs {jobs} --cluster {cluster}",
            next_step="leave --jobs out; local:N says how many workers there are on this host",
        )
    return cluster


def require_installed() -> None:
    """Find out before any work that Dask is not there.

    Raises:
        MissingExtra: it is not installed.
    """
    if (absent := missing("distributed", "cluster", "running on a cluster")) is not None:
        raise absent
