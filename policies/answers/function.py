"""A user's own functions for reading and comparing answers, named `module:function` in the config."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from apportion.errors import ConfigError, nearest


@dataclass(frozen=True, slots=True)
class FunctionAnswer:
    """`function` names one from a response's text to its answer or None; `equal` one from two answers to bool.

    Without `equal` answers are compared as strings. Both are imported when the config is read; what cannot be
    imported is a ConfigError, and so is an exception out of the function: an answer that cannot be read is None.
    """

    function: str
    equal: str | None = None
    _extract: Callable[[str], Any] = field(init=False, repr=False, compare=False)
    _equal: Callable[[str, str], Any] | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_extract", load(self.function, "answer.function"))
        object.__setattr__(self, "_equal", load(self.equal, "answer.equal") if self.equal is not None else None)

    def extract(self, text: str) -> str | None:
        """What the user's function reads; the empty string counts as no answer."""
        answer = _call(self.function, self._extract, text)
        if answer is not None and not isinstance(answer, str):
            raise ConfigError(
                f"{self.function} returned {answer!r} ({type(answer).__name__}); it must return str or None"
            )
        return answer or None

    def same(self, left: str, right: str) -> bool:
        if left == right or self._equal is None:
            return left == right
        return bool(_call(str(self.equal), self._equal, left, right))


def load(name: str, where: str) -> Callable[..., Any]:
    """The function `module:function` names; ConfigError where there is none."""
    module_name, _, function_name = name.partition(":")
    if not module_name or not function_name:
        raise ConfigError(f"{where} is {name!r}; it must be module:function, such as mypackage.answers:read")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise ConfigError(
            f"{where} {name!r}: importing {module_name} failed with {type(error).__name__}: {error}; "
            "install it or add its folder to PYTHONPATH"
        ) from error
    function = getattr(module, function_name, None)
    if not callable(function):
        known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise ConfigError(
            f"{where} {name!r}: {module_name} has no function of that name: {nearest(function_name, known)}"
        )
    return function  # type: ignore[no-any-return]


def _call(name: str, function: Callable[..., Any], *arguments: str) -> Any:
    try:
        return function(*arguments)
    except Exception as error:
        shown = ", ".join(repr(argument[-200:]) for argument in arguments)
        raise ConfigError(
            f"{name} raised {type(error).__name__}: {error} on {shown}; return None for a text without an answer"
        ) from error
