"""How reward models want a response written, where its scores are, and how a score is read off: one class a format.

Pure: no framework, no weights. A format turns a conversation and the steps of a response into token ids and the places
of its scores, one a step (an outcome reward model has one in all), and the model's logits at a place into a score in
[0, 1]. Invariants: what begins a response's tokens does not depend on later steps, and nothing follows its last place,
as nothing after a place can change a score there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from apportion.actors.tokens import ChatTokenizer
from apportion.errors import EngineError, ModelError
from apportion.types import Message, Messages

MOST_STEPS = 999
# Written as a number where steps are numbered; a response of more would fill any context.


@dataclass(frozen=True, slots=True)
class Marked:
    """Token ids of a response in its conversation, and the places of its scores among them, ascending."""

    tokens: tuple[int, ...]
    places: tuple[int, ...]


class ScoreFormat(Protocol):
    """One format. `architectures` are those of config.json that have it; `aggregate` is what its authors use;
    `chat` says that it writes conversations by the model's chat template."""

    name: ClassVar[str]
    architectures: ClassVar[tuple[str, ...]]
    aggregate: ClassVar[str]
    by_step: ClassVar[bool]
    chat: ClassVar[bool]

    def engine_args(self, tokenizer: ChatTokenizer) -> Mapping[str, Any]:
        """What vLLM must be told to run the model so."""
        ...

    def prompt(self, tokenizer: ChatTokenizer, messages: Messages) -> list[int]:
        """The tokens of the conversation, with those that its end needs."""
        ...

    def mark(self, tokenizer: ChatTokenizer, messages: Messages, steps: Sequence[str]) -> Marked:
        """A response of at least one step. EngineError where the places cannot be told."""
        ...

    def step_tokens(self, tokenizer: ChatTokenizer) -> int:
        """At most how many tokens a step has beside those of its text."""
        ...

    def read(self, logits: Sequence[float]) -> float:
        """The score at a place."""
        ...


def sigmoid(logit: float) -> float:
    """1 / (1 + exp(-logit)), whatever its size."""
    if logit < 0.0:
        odds = math.exp(logit)
        return odds / (1.0 + odds)
    return 1.0 / (1.0 + math.exp(-logit))


def _without(text: str, messages: Messages) -> Messages:
    """A conversation without a piece of text that has a meaning of its own."""
    return tuple(Message(turn.role, turn.content.replace(text, "")) for turn in messages)


def _found(name: str, ids: Sequence[int], tag: int, steps: int) -> Marked:
    """Tokens up to the last tag, and the tags' places."""
    places = tuple(place for place, token in enumerate(ids) if token == tag)
    if len(places) != steps:
        raise EngineError(
            f"the {name} format finds {len(places)} tags for {steps} steps: the tokenizer or its chat template changes "
            "the text of a response; use the model's own files"
        )
    return Marked(tuple(ids[: places[-1] + 1]), places)


def _tag_id(name: str, tokenizer: ChatTokenizer, tag: str) -> int:
    found = tokenizer.token_id(tag)
    if found is None:
        raise ModelError(
            f"the tokenizer has no token {tag!r}, which ends a step in the {name} format; use another format"
        )
    return found


def _question(messages: Messages) -> str:
    """The text of a conversation for formats that know no roles."""
    return "\n\n".join(turn.content for turn in messages if turn.role != "assistant")


@dataclass(frozen=True, slots=True)
class QwenMathPrm:
    """Qwen2.5-Math-PRM (arXiv 2501.07301): steps in the assistant's turn, each followed by <extra_0>.

    A score is the probability of the second of two labels there. A response's is the product over its steps in the
    paper; `last` is Snell's and this package's default for searches, and the model's card ranks by either.
    """

    name: ClassVar[str] = "qwen2.5-math-prm"
    architectures: ClassVar[tuple[str, ...]] = ("Qwen2ForProcessRewardModel",)
    aggregate: ClassVar[str] = "last"
    by_step: ClassVar[bool] = True
    chat: ClassVar[bool] = True
    tag: ClassVar[str] = "<extra_0>"

    def engine_args(self, tokenizer: ChatTokenizer) -> Mapping[str, Any]:
        """vLLM has the model; all positions are asked for, as some may not be run again (see `vllm_scorer`)."""
        _tag_id(self.name, tokenizer, self.tag)
        return {"pooler_config": {"tok_pooling_type": "ALL"}}

    def prompt(self, tokenizer: ChatTokenizer, messages: Messages) -> list[int]:
        return tokenizer.encode_prompt(_without(self.tag, messages))

    def mark(self, tokenizer: ChatTokenizer, messages: Messages, steps: Sequence[str]) -> Marked:
        text = "".join(step.replace(self.tag, "") + self.tag for step in steps)
        ids = tokenizer.encode_dialogue((*_without(self.tag, messages), Message("assistant", text)))
        return _found(self.name, ids, _tag_id(self.name, tokenizer, self.tag), len(steps))

    def step_tokens(self, tokenizer: ChatTokenizer) -> int:
        return 1

    def read(self, logits: Sequence[float]) -> float:
        return sigmoid(logits[1] - logits[0])


@dataclass(frozen=True, slots=True)
class SkyworkPrm:
    """Skywork-o1-Open-PRM (github.com/SkyworkAI/skywork-o1-prm-inference): question and steps, each ended by a newline.

    A score is the sigmoid of the value head at that newline; a response's is the mean of its steps'.
    """

    name: ClassVar[str] = "skywork"
    architectures: ClassVar[tuple[str, ...]] = ("Qwen2ForPrmModel",)
    aggregate: ClassVar[str] = "mean"
    by_step: ClassVar[bool] = True
    chat: ClassVar[bool] = False

    def engine_args(self, tokenizer: ChatTokenizer) -> Mapping[str, Any]:
        """vLLM lacks the model; ours is `vllm_skywork`."""
        target = "apportion.actors.vllm_skywork:Qwen2ForPrmModel"
        return {"model_class_overrides": {self.architectures[0]: target}, "pooler_config": {"tok_pooling_type": "ALL"}}

    def prompt(self, tokenizer: ChatTokenizer, messages: Messages) -> list[int]:
        return tokenizer.encode((tokenizer.bos or "") + _question(messages) + "\n")

    def mark(self, tokenizer: ChatTokenizer, messages: Messages, steps: Sequence[str]) -> Marked:
        ids, places = self.prompt(tokenizer, messages), []
        newline = tokenizer.encode("\n")[-1]
        for step in steps:
            ids += [*tokenizer.encode(step), newline]
            places.append(len(ids) - 1)
        return Marked(tuple(ids), tuple(places))

    def step_tokens(self, tokenizer: ChatTokenizer) -> int:
        return 1

    def read(self, logits: Sequence[float]) -> float:
        return sigmoid(logits[0])


@dataclass(frozen=True, slots=True)
class MathShepherd:
    """Math-Shepherd (arXiv 2312.08935): "Step 1: ... ки", a line a step, after the question.

    A score is the probability of + against - as the next token at ки, from the language model's own head; a response's
    is the least of its steps'.
    """

    name: ClassVar[str] = "math-shepherd"
    architectures: ClassVar[tuple[str, ...]] = ()
    aggregate: ClassVar[str] = "min"
    by_step: ClassVar[bool] = True
    chat: ClassVar[bool] = False
    tag: ClassVar[str] = "ки"
    verdicts: ClassVar[str] = "+ -"

    def engine_args(self, tokenizer: ChatTokenizer) -> Mapping[str, Any]:
        """vLLM makes a classifier of one logit, that of + less that of -, from the two rows of the head."""
        ids = tokenizer.encode(self.verdicts)
        good, bad = tokenizer.token_name(ids[0]), tokenizer.token_name(ids[-1])
        return {
            "convert": "classify",
            "hf_overrides": {"method": "from_2_way_softmax", "classifier_from_token": [bad, good]},
            "pooler_config": {"tok_pooling_type": "ALL"},
        }

    def prompt(self, tokenizer: ChatTokenizer, messages: Messages) -> list[int]:
        return tokenizer.encode(self._begin(tokenizer, messages))

    def mark(self, tokenizer: ChatTokenizer, messages: Messages, steps: Sequence[str]) -> Marked:
        lines = [self._line(number, step) for number, step in enumerate(steps, 1)]
        ids = tokenizer.encode(self._begin(tokenizer, messages) + " " + "\n".join(lines))
        return _found(self.name, ids, tokenizer.encode(" " + self.tag)[-1], len(steps))

    def step_tokens(self, tokenizer: ChatTokenizer) -> int:
        return len(tokenizer.encode(self._line(MOST_STEPS, "") + "\n"))

    def read(self, logits: Sequence[float]) -> float:
        return sigmoid(logits[0])

    def _begin(self, tokenizer: ChatTokenizer, messages: Messages) -> str:
        return (tokenizer.bos or "") + _question(_without(self.tag, messages))

    def _line(self, number: int, step: str) -> str:
        text = step.replace(self.tag, "").strip()
        return f"{text if text.startswith('Step ') else f'Step {number}: {text}'} {self.tag}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """A sequence classifier over the whole conversation: one score a response, read at its last token.

    Of one logit it is the sigmoid, which is how Bradley-Terry training reads a reward (Ouyang et al. 2022, arXiv
    2203.02155, equation 1): the chance that the response is preferred to one of reward 0. Of two labels it is the
    probability of the second.
    """

    separator: str = "\n\n"

    name: ClassVar[str] = "outcome"
    architectures: ClassVar[tuple[str, ...]] = ("*ForSequenceClassification",)
    aggregate: ClassVar[str] = "last"
    by_step: ClassVar[bool] = False
    chat: ClassVar[bool] = True

    def engine_args(self, tokenizer: ChatTokenizer) -> Mapping[str, Any]:
        return {"convert": "classify", "pooler_config": {"tok_pooling_type": "ALL"}}

    def prompt(self, tokenizer: ChatTokenizer, messages: Messages) -> list[int]:
        return tokenizer.encode_dialogue((*messages, Message("assistant", "")))

    def mark(self, tokenizer: ChatTokenizer, messages: Messages, steps: Sequence[str]) -> Marked:
        ids = tokenizer.encode_dialogue((*messages, Message("assistant", self.separator.join(steps))))
        return Marked(tuple(ids), (len(ids) - 1,))

    def step_tokens(self, tokenizer: ChatTokenizer) -> int:
        return len(tokenizer.encode(self.separator))

    def read(self, logits: Sequence[float]) -> float:
        return sigmoid(logits[0] if len(logits) == 1 else logits[1] - logits[0])
