"""Lab models that do not ship, because they are made of one that does: built when first asked for, in the user's cache.

What was built is found again by what it was made of: the other model's weights, the code, and the number that was
chosen. It is written whole or not at all, by rename, so that several processes may ask at once.
"""

import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Final

RECORD: Final = "training.json"
CACHE: Final = "XDG_CACHE_HOME"
_MAKING: Final = ("comparison.py", "grader.py")


def made_grader(lab: Path) -> Path:
    """The folder of the grader, made of the large model in the folder `lab` and of the record of `make_grader`.

    Raises ValueError where the cache cannot be written to.
    """
    large, record = lab / "models/large", lab / "models/grader" / RECORD
    digest = hashlib.blake2b(digest_size=6)
    for part in (large / "model.safetensors", *(lab / name for name in _MAKING)):
        digest.update(part.read_bytes())
    doubtful: float = json.loads(record.read_text())["doubtful"]
    digest.update(repr(doubtful).encode())
    cache = Path(os.environ.get(CACHE) or Path.home() / ".cache") / "apportion"
    folder = cache / f"grader-{digest.hexdigest()}"
    if folder.is_dir():
        return folder
    try:
        cache.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix="grader-", dir=cache))
    except OSError as error:
        raise ValueError(
            f"lab:grader is built in {cache}: {error}; set {CACHE} to a folder to be written to"
        ) from error
    try:
        _build(large, doubtful, part)
        part.rename(folder)
    except OSError:
        # Another process was faster, or there is no room.
        if not folder.is_dir():
            raise
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder


def _build(large: Path, doubtful: float, folder: Path) -> None:
    # Torch and transformers take seconds to import, and names are looked up without them.
    from apportion.lab.grader import build, export_grader

    export_grader(build(large, doubtful), folder)
