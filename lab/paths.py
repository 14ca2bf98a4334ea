"""Where the lab's models, dataset and pools lie, by name: `lab_path("lab:small")`.

Paths are resolved from this file, so a name means the same from any working directory, a checkout or a wheel; what is
made of other assets lies in the user's cache.
"""

import difflib
from pathlib import Path

from apportion.lab.made import made_grader

_ROOT = Path(__file__).resolve().parent

_RELATIVE = {
    "lab:small": "models/small",
    "lab:large": "models/large",
    "lab:prm": "models/prm",
    "lab:weak-prm": "models/weak-prm",
    "lab:reviser": "models/reviser",
    "lab:judge": "models/judge",
    "lab:test": "data/test.jsonl",
    "lab:calibration": "data/calibration.jsonl",
    "lab:pool/test": "pools/test",
    "lab:pool/calibration": "pools/calibration",
    "lab:pool/strategies": "pools/strategies",
}

_MADE = {"lab:grader": made_grader}

LAB_NAMES: tuple[str, ...] = (*_RELATIVE, *_MADE)


def lab_path(name: str) -> Path:
    """The absolute path of a lab asset, or a ValueError that names the ones there are.

    One that does not ship is built first, which takes some seconds once.
    """
    if name in _MADE:
        return _MADE[name](_ROOT)
    relative = _RELATIVE.get(name)
    if relative is None:
        nearest = difflib.get_close_matches(name, LAB_NAMES, n=1)
        hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
        raise ValueError(f"{name!r} is no lab asset; the known ones are {', '.join(LAB_NAMES)}.{hint}")
    return _ROOT / relative
