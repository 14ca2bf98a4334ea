"""The folder in which the package keeps what it can make again."""

import os
from pathlib import Path

CACHE_VARIABLE = "XDG_CACHE_HOME"


def user_cache() -> Path:
    """`apportion` in the user's cache, an absolute path: `$XDG_CACHE_HOME`, else `~/.cache`.

    Raises RuntimeError where the user has no home, and nothing else says where.
    """
    return (Path(os.environ.get(CACHE_VARIABLE) or "~/.cache").expanduser() / "apportion").absolute()
