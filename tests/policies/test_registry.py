"""Names and settings of a config: what is wrong is named, with the nearest valid one."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from apportion.errors import ConfigError
from apportion.policies.registry import ANSWER_KINDS, STRATEGIES, answer_type, build_strategy

Build = Callable[[str, dict[str, Any]], Any]

WRONG: list[tuple[Build, str, dict[str, Any], str]] = [
    (build_strategy, "best_of_m", {}, "strategy 'best_of_m' is unknown: did you mean 'best_of_n'?"),
    (build_strategy, "beam_search", {"widht": 4}, "beam_search has no setting 'widht' (= 4): did you mean 'width'?"),
    (build_strategy, "beam_search", {"width": 4.0}, "beam_search.width is 4.0; it must be an integer or 'sqrt'"),
    (build_strategy, "beam_search", {"depth": True}, "beam_search.depth is True; it must be an integer"),
    (build_strategy, "dvts", {"width": "sqrt"}, "dvts.width is 'sqrt'; it must be an integer"),
    (build_strategy, "dvts", {"width": 1}, "dvts.width is 1; it must be 2 or more"),
    (build_strategy, "lookahead", {"depth": 0}, "lookahead.depth is 0; it must be 1 or more"),
    (build_strategy, "lookahead", {"k": -1}, "lookahead.k is -1; it must be 0 or more"),
    (build_strategy, "lookahead", {"depth": 1}, "lookahead.k is 1, but with depth 1"),
    (build_strategy, "best_of_n", {"n": 4}, "best_of_n has no setting 'n' (= 4): known: none"),
    (answer_type, "numbr", {}, "answer.kind 'numbr' is unknown: did you mean 'number'?"),
    (answer_type, "number", {"percent": "keep"}, "answer.percent is 'keep'; it must be 'strip' or 'ratio'"),
    (answer_type, "text", {"pattern": "("}, "answer.pattern '(' is not a regular expression"),
    (answer_type, "choice", {"letters": "abc"}, "answer.letters is 'abc'; it must be distinct capital letters"),
    (answer_type, "function", {}, "answer lacks the setting 'function'; it must be a string"),
    (answer_type, "function", {"function": "json"}, "answer.function is 'json'; it must be module:function"),
    (answer_type, "function", {"function": "no_such:f"}, "importing no_such failed with ModuleNotFoundError"),
    (answer_type, "function", {"function": "json:lodas"}, "json has no function of that name: did you mean 'loads'?"),
]


@pytest.mark.parametrize(("build", "name", "settings", "message"), WRONG)
def test_wrong_config_is_named(build: Build, name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        build(name, settings)


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_strategy_is_registered_under_its_own_name(name: str) -> None:
    assert build_strategy(name, {}).name == name


@pytest.mark.parametrize("kind", [kind for kind in ANSWER_KINDS if kind != "function"])
def test_every_answer_kind_has_defaults_and_takes_a_pattern(kind: str) -> None:
    reading = answer_type(kind, {"pattern": r"Result<(.*?)>"})
    assert answer_type(kind, {}).extract("Result<17> B") is None
    assert reading.extract("Result<3> Result<B>") == (None if kind == "number" else "B")
