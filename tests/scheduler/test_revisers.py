"""A reviser whose model cannot read earlier attempts is refused before anything is spent."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from apportion.configs.build import load_job
from apportion.configs.load import PACKAGED
from apportion.errors import ConfigError
from apportion.scheduler.assemble import prepare

DEAF = "{% for m in messages %}{% if m['role'] == 'user' %}{{ m['content'] }}\n{% endif %}{% endfor %}"
STRICT = (
    "{% for m in messages %}{% if m['role'] == 'assistant' %}{{ raise_exception('one turn only') }}{% endif %}"
    "{{ m['content'] }}\n{% endfor %}"
)


def refused(engine: dict[str, Any], **arm: Any) -> str | None:
    """What is said of a job with a reviser, None where nothing is."""
    written = yaml.safe_load((PACKAGED / "quickstart.yaml").read_text())
    written["dataset"]["limit"] = 3
    written["models"]["small"] |= engine
    row = {"strategy": "revise", "policy": "small", "select": "majority", "max_tokens": 128, "n": [4], **arm}
    written["arms"] = {"revise": row}
    try:
        prepare(load_job(written))
    except ConfigError as error:
        return str(error)
    return None


@pytest.mark.parametrize("engine", [{}, {"engine": "fake", "model": "fake"}])
def test_a_model_that_reads_what_it_said_is_taken(engine: dict[str, Any]) -> None:
    assert refused(engine) is None


def test_a_chat_template_that_leaves_attempts_out() -> None:
    message = refused({"engine_args": {"chat_template": DEAF}})
    assert message is not None
    assert message.startswith("arms.revise.policy: the chat template of 'small' leaves out what the assistant said")
    assert "best_of_n" in message


def test_a_chat_template_that_refuses_attempts() -> None:
    message = refused({"engine_args": {"chat_template": STRICT}})
    assert message is not None
    assert "cannot take them" in message
    assert "one turn only" in message


def test_an_answer_that_leaves_an_attempt_no_room() -> None:
    message = refused({}, max_tokens=500)
    assert message is not None
    assert "arms.revise.max_tokens is 500, which leaves no room for an earlier attempt" in message
    assert "holds 512 tokens" in message
    most = int(message.split("use at most ")[1])
    assert refused({}, max_tokens=most) is None


def test_other_strategies_are_not_asked() -> None:
    assert refused({"engine_args": {"chat_template": STRICT}}, strategy="best_of_n", max_tokens=500) is None
