"""Which model it is: a hash of the files in its folder, or of its name on the hub."""

from __future__ import annotations

import hashlib
from pathlib import Path

from apportion.actors.spec import ModelSpec

SMALL_FILE = 16 << 20
"""Files up to this size are read to tell whether a model has changed."""


def model_hash(spec: ModelSpec) -> str:
    """A hash of a model's files; of its name and revision where it has no folder here."""
    if Path(spec.path).is_dir():
        return files_hash(Path(spec.path))
    return hashlib.blake2b(f"{spec.path}@{spec.engine_args.get('revision')}".encode(), digest_size=8).hexdigest()


def files_hash(folder: Path) -> str:
    """A hash of a model's files: the small ones (config, tokenizer) by content, the weights by size."""
    digest = hashlib.blake2b(digest_size=8)
    for file in sorted(folder.iterdir()) if folder.is_dir() else []:
        size = file.stat().st_size
        digest.update(f"{file.name}:{size}:".encode())
        if size <= SMALL_FILE:
            digest.update(file.read_bytes())
    return digest.hexdigest()
