"""Certificates as an authority of one's own makes them, with the system's `openssl`."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from streams.embedded import NotInstalled

CURVE = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, each a PEM file, and both in one."""

    cert: Path
    key: Path

    @property
    def chain(self) -> Path:
        return self.cert.with_suffix(".chain")


class Authority:
    """Whom to trust is in `ca`; `issue` makes certificates for host names."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True)
        self._directory = directory
        self.ca = directory / "ca.pem"
        self._key = directory / "ca.key"
        names = ["-subj", f"/CN={directory.name}", "-addext", "keyUsage=critical,keyCertSign"]
        openssl("req", "-x509", *CURVE, "-nodes", "-days", "2", *names, "-keyout", self._key, "-out", self.ca)

    def issue(self, host: str, password: str = "") -> Pair:
        """For `host`; its key is encrypted if there is a password."""
        made = Pair(self._directory / f"{host}.pem", self._directory / f"{host}.key")
        request, names = self._directory / f"{host}.csr", self._directory / f"{host}.names"
        names.write_text(f"subjectAltName=DNS:{host}\n")
        hidden = ["-passout", f"pass:{password}"] if password else ["-nodes"]
        openssl("req", "-new", *CURVE, *hidden, "-subj", f"/CN={host}", "-keyout", made.key, "-out", request)
        signed = ["-CA", self.ca, "-CAkey", self._key, "-CAcreateserial", "-days", "2", "-extfile", names]
        openssl("x509", "-req", "-in", request, *signed, "-out", made.cert)
        made.chain.write_text(made.key.read_text() + made.cert.read_text())
        return made


def openssl(*arguments: str | Path) -> None:
    program = shutil.which("openssl")
    if program is None:
        raise NotInstalled("There is no `openssl` on the PATH")
    subprocess.run([program, *map(str, arguments)], check=True, capture_output=True)
