"""The wheel of apportion that travels with a submitted job: made of the files of the package that runs here.

So it is the same for an editable install, an installed wheel and a checkout, and needs no source, build tool or
network. Two things differ from a released wheel. Its version ends in a hash of its content and a mark of the job,
because Ray knows a wheel by its file name: another state of a checkout must not be taken for the one that is already
there, and where two jobs install one wheel on a node at once, one deletes what the other has. And it requires no
packages: Ray installs it with pip, which would fetch another torch beside the cluster's own; what the cluster lacks is
named by the job (`apportion.commands.submitted`).
"""

from __future__ import annotations

import base64
import hashlib
import zipfile
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import apportion

_LEFT_OUT = ("__pycache__",)
_LEAST_PYTHON = ">=3.11"
"""As pyproject.toml says: pip then refuses an older Python by name."""
_STAMP = (1980, 1, 1, 0, 0, 0)
"""The earliest time a zip can hold: the same files give the same bytes."""
_HASH_CHARACTERS = 12


def build_wheel(folder: Path, job: str, package: Path | None = None) -> Path:
    """Write the wheel into `folder` and return its path. `package` is apportion's own folder unless given.

    `job` is letters and digits. The same files always give a wheel of the same name for the same job.
    """
    root = package if package is not None else Path(apportion.__file__).resolve().parent
    files = {f"apportion/{name}": path.read_bytes() for name, path in _files(root).items()}
    # A letter before it, as a part of a version that is a number loses its leading zeros.
    version = f"{apportion.__version__}+{_digest(files)}.j{job}"
    info = f"apportion-{version}.dist-info"
    files[f"{info}/METADATA"] = (
        f"Metadata-Version: 2.1\nName: apportion\nVersion: {version}\nRequires-Python: {_LEAST_PYTHON}\n"
    ).encode()
    files[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: apportion\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files[f"{info}/RECORD"] = _record(files, f"{info}/RECORD")
    wheel = folder / f"apportion-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name, _STAMP), data, zipfile.ZIP_DEFLATED)
    return wheel


def requirements() -> list[str]:
    """What the installed apportion requires, extras left out; empty where it runs without having been installed."""
    try:
        listed = metadata.requires("apportion") or []
    except metadata.PackageNotFoundError:
        return []
    return [line for line in listed if "extra ==" not in line]


def _files(root: Path) -> dict[str, Path]:
    """Every file of the package by its name inside it, sorted. The links of a checkout are followed."""
    found: dict[str, Path] = {}
    for path in sorted(root.iterdir()):
        if path.name in _LEFT_OUT or path.name.startswith("."):
            continue
        if path.is_dir():
            found.update({f"{path.name}/{name}": file for name, file in _files(path).items()})
        else:
            found[path.name] = path
    return found


def _digest(files: Mapping[str, bytes]) -> str:
    digest = hashlib.sha256()
    for name, data in files.items():
        digest.update(f"{name}:{len(data)}:".encode())
        digest.update(data)
    return digest.hexdigest()[:_HASH_CHARACTERS]


def _record(files: Mapping[str, bytes], own: str) -> bytes:
    """The wheel's list of files with their hashes, as the wheel format asks for."""
    rows = [f"{name},sha256={_base64(hashlib.sha256(data).digest())},{len(data)}" for name, data in files.items()]
    return "".join(f"{row}\n" for row in [*rows, f"{own},,"]).encode()


def _base64(digest: bytes) -> str:
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
