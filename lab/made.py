"""Lab models that do not ship, because they are made of one that does: built when first asked for, in the user's cache.

What was built is found again by what it was made of: the other model, the code, and the number that was chosen. It is
written whole or not at all, by rename, so that several processes may ask at once.
"""

import hashlib
import json
import shutil
import tempfile
from pathlib import Path
from typing import Final

from apportion.cache import CACHE_VARIABLE, user_cache

RECORD: Final = "training.json"
# As in `runs`, which imports torch; names are looked up without it.

_WEIGHTS: Final = "model.safetensors"
_FILES: Final = (_WEIGHTS, "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json")
_MADE_BY: Final = ("comparison.py", "grader.py", "models.py", "stories.py", "tokenizer.py")
_READABLE: Final = 0o755


def made_grader(lab: Path) -> Path:
    """The folder of the grader, made of the large model in the folder `lab` and of the record of `make_grader`.

    Raises ValueError where the cache cannot be read or written, or has no room.
    """
    large = lab / "models/large"
    doubtful: float = json.loads((lab / "models/grader" / RECORD).read_text())["doubtful"]
    digest = hashlib.blake2b(repr(doubtful).encode(), digest_size=6)
    for source in (large / _WEIGHTS, large / "config.json", *(lab / name for name in _MADE_BY)):
        digest.update(source.read_bytes())
    try:
        folder = user_cache() / f"grader-{digest.hexdigest()}"
        if not _whole(folder):
            _build(large, doubtful, folder)
    except (OSError, RuntimeError) as error:
        raise ValueError(
            f"lab:grader is built of lab:large in the user's cache, which failed: {error}; set {CACHE_VARIABLE} to a "
            "folder that can be written to"
        ) from error
    return folder


def _whole(folder: Path) -> bool:
    return all((folder / name).is_file() for name in _FILES)


def _build(large: Path, doubtful: float, folder: Path) -> None:
    # Torch and transformers take seconds to import.
    from safetensors import SafetensorError

    from apportion.lab.grader import build, export_grader

    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix="grader-", dir=folder.parent))
    try:
        export_grader(build(large, doubtful), part)
        part.chmod(_READABLE)
        if folder.is_dir() and not _whole(folder):
            shutil.rmtree(folder)
        part.rename(folder)
    except SafetensorError as error:
        raise OSError(str(error)) from error
    except OSError:
        # Another process was faster, unless there is something wrong.
        if not _whole(folder):
            raise
    finally:
        shutil.rmtree(part, ignore_errors=True)
