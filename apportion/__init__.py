"""apportion: a compute-optimal scheduler for test-time compute on Ray.

Importing it imports neither ray, torch nor vllm; the public names are loaded when first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from apportion.errors import ApportionError
    from apportion.scheduler.pipeline import solve_dataset
    from apportion.scheduler.solve import solve

__version__ = "0.1.0"

__all__ = ["ApportionError", "__version__", "solve", "solve_dataset"]

_HOMES = {
    "ApportionError": "apportion.errors",
    "solve": "apportion.scheduler.solve",
    "solve_dataset": "apportion.scheduler.pipeline",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'apportion' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
