"""The files of one URL, through fsspec: each is put in place whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from apportion.errors import ConfigError
from apportion.scheduler.plain import masked

LEASE = "published.json"
"""Who publishes to the URL, since when, and whether the run is complete."""
BUCKETS = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az"})
"""Protocols of stores without folders: making one would make its bucket, of which a wrong letter would make another."""


class Store:
    """A folder behind a URL. ConfigError where fsspec does not know the protocol or lacks a package for it."""

    def __init__(self, url: str) -> None:
        from fsspec.core import url_to_fs

        try:
            self._fs, self._root = url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise ConfigError(
                f"output: {masked(url)} cannot be used ({masked(str(error))}); install the package, or choose another"
            ) from error

    def exists(self, name: str) -> bool:
        """Whether a file is there."""
        self._fs.invalidate_cache()
        return bool(self._fs.exists(self._path(name)))

    def put(self, local: Path, name: str) -> None:
        """Copy a local file there, if there is one, so that a reader sees the old one or the new one."""
        if not local.exists():
            return
        self._make_root()
        self._fs.put_file(str(local), self._path(name + ".tmp"))
        self._fs.mv(self._path(name + ".tmp"), self._path(name))

    def get(self, name: str, local: Path) -> None:
        """Copy a file from there, if there is one."""
        if self.exists(name):
            beside = local.with_name(local.name + ".tmp")
            self._fs.get_file(self._path(name), str(beside))
            beside.replace(local)

    def lease(self) -> dict[str, Any] | None:
        """What `put_lease` wrote last."""
        self._fs.invalidate_cache()
        try:
            found: dict[str, Any] = json.loads(self._fs.cat_file(self._path(LEASE)))
        except FileNotFoundError:
            return None
        return found

    def put_lease(self, lease: dict[str, Any]) -> None:
        """Say who publishes."""
        self._make_root()
        self._fs.pipe_file(self._path(LEASE + ".tmp"), json.dumps(lease).encode())
        self._fs.mv(self._path(LEASE + ".tmp"), self._path(LEASE))

    def _make_root(self) -> None:
        protocols = self._fs.protocol
        if BUCKETS.isdisjoint((protocols,) if isinstance(protocols, str) else protocols):
            self._fs.makedirs(self._root, exist_ok=True)

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"
