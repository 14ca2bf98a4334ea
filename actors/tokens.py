"""A model folder's tokenizer and chat template, as both the engine and the driver use them.

Invariants: the tokens of a request are those of the rendered conversation followed by those of the prefix, encoded
apart, so that counts made in the driver equal the engine's; loading it does not import torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from apportion.errors import EngineError, ModelError
from apportion.types import Completion, Finish, Generate, Generated, Messages, Usage

DETOKENIZE_CONTEXT = 4
# Prompt tokens decoded in front of a completion, so that decoders that trim a leading blank do not trim the text's.


def stop_end(text: str, stops: Sequence[str]) -> int | None:
    """Where the first stop string in `text` ends, or None."""
    ends = [found + len(stop) for stop in stops if stop and (found := text.find(stop)) >= 0]
    return min(ends, default=None)


def no_room(request: Generate) -> Generated:
    """The reply where the prefix already fills the context: nothing is run, nothing is written."""
    return Generated(tuple(Completion("", 0, Finish.LENGTH) for _ in request.seeds), Usage())


class ChatTokenizer:
    """Renders, encodes and decodes for one model folder."""

    def __init__(self, folder: Path, chat_template: str | None = None) -> None:
        self._folder = folder
        self._tokenizer = _load(folder)
        if chat_template is not None:
            self._tokenizer.chat_template = chat_template
        if not self._tokenizer.chat_template:
            raise ModelError(
                f"{folder} has no chat template, which is needed to write conversations for it; "
                "add chat_template.jinja to the folder or set engine_args.chat_template"
            )

    def encode_prompt(self, messages: Messages) -> list[int]:
        """Token ids of a conversation, up to where the assistant's text begins."""
        return self.encode(self._render(messages, add_generation_prompt=True))

    def encode_dialogue(self, messages: Messages) -> list[int]:
        """Token ids of a whole conversation, the assistant's last turn included."""
        return self.encode(self._render(messages, add_generation_prompt=False))

    def encode(self, text: str) -> list[int]:
        """Token ids of a text as it is."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False, verbose=False)
        return ids

    def decode(self, ids: Sequence[int], before: Sequence[int] = ()) -> str:
        """Text of `ids` where they follow the tokens `before`; special tokens are left out."""
        context = list(before[-DETOKENIZE_CONTEXT:])
        head: str = self._tokenizer.decode(context, skip_special_tokens=True)
        whole: str = self._tokenizer.decode([*context, *ids], skip_special_tokens=True)
        if whole.startswith(head):
            return whole[len(head) :]
        # The first new token completed a character that the context had begun.
        alone: str = self._tokenizer.decode(list(ids), skip_special_tokens=True)
        return alone

    @property
    def size(self) -> int:
        """Tokens in the vocabulary, special ones included."""
        return len(self._tokenizer)

    def vocabulary_texts(self, size: int) -> list[str]:
        """The text of every token id below `size`, each on its own; empty where there is no such token."""
        known = min(size, len(self._tokenizer))
        texts: list[str] = self._tokenizer.batch_decode([[index] for index in range(known)])
        return texts + [""] * (size - known)

    def token_id(self, token: str) -> int | None:
        """The id of one token by its name, or None where the vocabulary has no such token."""
        found = self._tokenizer.get_vocab().get(token)
        return None if found is None else int(found)

    def token_name(self, token: int) -> str:
        """The name of one token in the vocabulary."""
        return str(self._tokenizer.convert_ids_to_tokens(token))

    @property
    def bos(self) -> str | None:
        """The text of the token that begins every sequence, for tokenizers that have one."""
        found = self._tokenizer.bos_token
        return None if found is None else str(found)

    @property
    def eos_id(self) -> int | None:
        """The tokenizer's own end token."""
        found = self._tokenizer.eos_token_id
        return None if found is None else int(found)

    def _render(self, messages: Messages, add_generation_prompt: bool) -> str:
        from jinja2 import TemplateError

        turns = [{"role": message.role, "content": message.content} for message in messages]
        try:
            text: str = self._tokenizer.apply_chat_template(
                turns, tokenize=False, add_generation_prompt=add_generation_prompt
            )
        except TemplateError as error:
            roles = ", ".join(message.role for message in messages)
            raise EngineError(
                f"the chat template of {self._folder} refuses a conversation of the turns {roles}: {error}; "
                "change the conversation or set engine_args.chat_template"
            ) from error
        return text


class PlainTokenizer(ChatTokenizer):
    """Of a model that is written to without a chat template: it renders no conversations."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._tokenizer = _load(folder)


def _load(folder: Path) -> Any:
    try:
        if (folder / "tokenizer.json").is_file():
            # Not AutoTokenizer: for some model types transformers 5 replaces the file's own splitting by the type's.
            from transformers import PreTrainedTokenizerFast

            return PreTrainedTokenizerFast.from_pretrained(folder, trust_remote_code=False)
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:
        raise ModelError(
            f"{folder} holds no tokenizer that loads ({type(error).__name__}: {error}); "
            "copy tokenizer.json and tokenizer_config.json of the model into it"
        ) from error
