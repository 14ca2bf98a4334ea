"""Questions to a second model: templates that are filled in, and the conversation as one text.

What is filled in is never read as a template again, so that a response which holds `{problem}` stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from apportion.errors import ConfigError
from apportion.types import Message, Messages

CHARACTERS_A_TOKEN = 4.0
"""Of English, roughly: what a template is expected to cost before any was paid."""


def fill(template: str, **parts: str) -> str:
    """The template with each `{name}` replaced by the part of that name; other braces stay."""
    names = "|".join(map(re.escape, parts))
    return re.sub(rf"\{{({names})\}}", lambda found: parts[found[1]], template)


def ask(template: str, **parts: str) -> Messages:
    """A conversation of one user turn, filled in."""
    return (Message("user", fill(template, **parts)),)


def problem_of(messages: Messages) -> str:
    """What a conversation asks, as one text: its only user turn, or all turns but the system's, each with its role."""
    turns = [message for message in messages if message.role != "system"]
    if len(turns) == 1:
        return turns[0].content
    return "\n\n".join(f"{message.role.capitalize()}: {message.content}" for message in turns)


def template_tokens(template: str) -> float:
    """About how many tokens a template adds to what is filled in."""
    return len(template) / CHARACTERS_A_TOKEN


def check_template(key: str, template: str, names: Sequence[str]) -> None:
    """ConfigError for a template that leaves out what it has to ask about."""
    missing = [f"{{{name}}}" for name in names if f"{{{name}}}" not in template]
    if missing:
        raise ConfigError(f"{key} lacks {' and '.join(missing)}: put it where the text shall stand; it is {template!r}")


def pattern(key: str, text: str) -> re.Pattern[str]:
    """A setting that is a regular expression, whose matches ignore case and in which ^ begins any line.

    Raises ConfigError, also for one that nothing is needed to match.
    """
    try:
        found = re.compile(text, re.IGNORECASE | re.MULTILINE)
    except re.error as error:
        raise ConfigError(f"{key} is no regular expression: {text!r}: {error}") from None
    if found.search(""):
        raise ConfigError(
            f"{key} is {text!r}, which matches any text, also one without a verdict; say what it looks for"
        )
    return found
