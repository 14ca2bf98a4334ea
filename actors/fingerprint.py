"""Which model it is: a hash of the files in its folder."""

from __future__ import annotations

import hashlib
from pathlib import Path

SMALL_FILE = 16 << 20
"""Files up to this size are read to tell whether a model has changed."""


def files_hash(folder: Path) -> str:
    """A hash of a model's files: the small ones (config, tokenizer) by content, the weights by size."""
    digest = hashlib.blake2b(digest_size=8)
    for file in sorted(folder.iterdir()) if folder.is_dir() else []:
        size = file.stat().st_size
        digest.update(f"{file.name}:{size}:".encode())
        if size <= SMALL_FILE:
            digest.update(file.read_bytes())
    return digest.hexdigest()
