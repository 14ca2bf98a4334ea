"""The driver-side view of an endpoint's model: what prompts weigh, in tokens and dollars, before any is sent.

With a tokenizer counts are exact. Without one they are upper bounds, because a reservation must cover what an endpoint
will charge: no tokenizer in use makes more tokens of a text than it has bytes, before or after the Unicode
normalisation that some begin with; what the server's chat template adds is `template_tokens`, and 16 for each message.
How long prompts may be is then the endpoint's to say.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from pathlib import Path

from apportion.actors.describe import PROMPTS_REMEMBERED, context_length, read_config
from apportion.actors.endpoint_settings import EndpointSettings
from apportion.actors.spec import ModelSpec
from apportion.actors.tokens import ChatTokenizer
from apportion.costs import ModelProfile
from apportion.errors import ModelError
from apportion.types import Messages

TOKENS_PER_MESSAGE = 16
# Marks of a turn's beginning, role and end; the templates of Llama 3, Qwen and gpt-oss take 4 to 6.

UNKNOWN_CONTEXT = 2**31 - 1
# Longer than any: only the endpoint knows, and says so when a prompt does not fit.


def most_tokens(text: str) -> int:
    """At least as many tokens as any tokenizer makes of a text."""
    forms = (text, *(unicodedata.normalize(form, text) for form in ("NFC", "NFKC")))
    # Tokenizers of the SentencePiece family put a blank in front.
    return max(len(form.encode("utf-8", "surrogatepass")) for form in forms) + 1


class EndpointDescriber:
    """A Describer (see `protocols`). The tokenizer, where there is one, is loaded at once."""

    def __init__(self, spec: ModelSpec) -> None:
        self.settings = settings = EndpointSettings.of(spec)
        folder = settings.folder
        self.tokenizer = None if folder is None else ChatTokenizer(folder, settings.chat_template)
        cached = settings.dollars_per_million_cached
        self._profile = ModelProfile(
            name=spec.name,
            active_parameters=settings.active_parameters or 0.0,
            layers=settings.layers or 0,
            attention_width=settings.attention_width or 0,
            context=UNKNOWN_CONTEXT if folder is None else _context(spec, settings, folder),
            # How long its accelerators work is not known from here.
            gpus=0.0,
            dollars_per_million_input=spec.dollars_per_million_input,
            dollars_per_million_output=spec.dollars_per_million_output,
            dollars_per_million_cached=spec.dollars_per_million_input if cached is None else cached,
            prompt_each=True,
            exact_counts=folder is not None,
            attempts=1 + settings.charged_retries,
        )
        self._count_prompt = lru_cache(PROMPTS_REMEMBERED)(self._count)

    def profile(self) -> ModelProfile:
        """What must be known to count its work."""
        return self._profile

    def count_prompt(self, messages: Messages) -> int:
        """Tokens of a conversation, or a bound of them."""
        return self._count_prompt(messages)

    def count_text(self, text: str) -> int:
        """Tokens of a piece of assistant text, or a bound of them."""
        return most_tokens(text) if self.tokenizer is None else len(self.tokenizer.encode(text))

    def _count(self, messages: Messages) -> int:
        if self.tokenizer is not None:
            return len(self.tokenizer.encode_prompt(messages))
        turns = sum(most_tokens(message.content) + TOKENS_PER_MESSAGE for message in messages)
        return turns + self.settings.template_tokens


def _context(spec: ModelSpec, settings: EndpointSettings, folder: Path) -> int:
    if settings.max_model_len is not None:
        return settings.max_model_len
    if not (folder / "config.json").is_file():
        raise ModelError(
            f"models.{spec.name}.engine_args.max_model_len is missing, and {folder} has no config.json that would say "
            "how long the model's context is; give it"
        )
    return context_length(read_config(folder, spec.name), spec)


def describe(spec: ModelSpec) -> EndpointDescriber:
    """The driver-side view of an endpoint's model; asks the endpoint nothing."""
    return EndpointDescriber(spec)
