"""The embedded process reward model: the layout of Qwen2ForProcessRewardModel, scored in batches.

A response is written as its steps, each followed by the tag `<extra_0>`; a step's score is the probability of the
second label at its tag (Qwen2.5-Math-PRM, arXiv 2501.07301). Weights: `model.*` of a Qwen2Model, and the head
`score.0` and `score.2`. The classes are transformers' own and the head's is here, so no code of the folder is run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import Qwen2Config, Qwen2Model

from apportion.actors.attention import GROUPED
from apportion.actors.describe import check_role, context_length, read_config, weight_files
from apportion.actors.embedded import EmbeddedSettings, threads_of
from apportion.actors.kv import Known, Layers
from apportion.actors.passes import Pass
from apportion.actors.prefixes import PrefixCache
from apportion.actors.replies import Waiter
from apportion.actors.scoring import ScoreJob, ScoreWorker, Tagged
from apportion.actors.spec import ModelSpec
from apportion.actors.tokens import ChatTokenizer
from apportion.errors import EngineError, ModelError
from apportion.types import Message, Messages, Score, Scored

STEP_TAG = "<extra_0>"
LABELS = 2
IGNORED_WEIGHTS = frozenset({"lm_head.weight"})
# Published folders carry the policy's output head along; a reward model has no use for it.


class ProcessRewardModel(torch.nn.Module):
    """Qwen2Model and the head that scores each position."""

    def __init__(self, config: Qwen2Config) -> None:
        super().__init__()
        self.model = Qwen2Model(config)
        width = config.hidden_size
        self.score = torch.nn.Sequential(torch.nn.Linear(width, width), torch.nn.ReLU(), torch.nn.Linear(width, LABELS))

    def run(
        self, sequences: Sequence[Sequence[int]], known: Sequence[Known], tags: Sequence[Sequence[int]]
    ) -> tuple[list[Layers], list[tuple[float, ...]]]:
        """Run what is not known of sequences: their keys and values, and the scores of their tags from there on."""
        pieces = Pass.of(sequences, known, self.score[0].weight.device)
        hidden = self.model(**pieces.inputs(lambda attends: attends)).last_hidden_state
        places = [
            (row, tag - pieces.begun[row]) for row, own in enumerate(tags) for tag in own if tag >= pieces.begun[row]
        ]
        rows, columns = torch.tensor(places, dtype=torch.long, device=hidden.device).reshape(-1, 2).unbind(1)
        scores = torch.softmax(self.score(hidden[rows, columns]).float(), dim=-1)[:, 1].tolist()
        by_row: list[list[float]] = [[] for _ in sequences]
        for (row, _), score in zip(places, scores, strict=True):
            by_row[row].append(score)
        return pieces.layers(), [tuple(own) for own in by_row]


class EmbeddedScorer:
    """A Scorer (see `protocols`) over one ScoreWorker."""

    def __init__(self, name: str, tokenizer: ChatTokenizer, tag: int, worker: ScoreWorker, context: int) -> None:
        self._name = name
        self._tokenizer = tokenizer
        self._tag = tag
        self._worker = worker
        self._context = context

    async def score(self, request: Score) -> Scored:
        """One score a step of each response; one without steps or beyond the context gets none and costs nothing."""
        turns = tuple(Message(turn.role, turn.content.replace(STEP_TAG, "")) for turn in request.messages)
        shared = tuple(self._tokenizer.encode_prompt(turns)) if any(request.responses) else ()
        if len(shared) >= self._context:
            raise EngineError(
                f"scorer {self._name!r} was asked about a conversation of {len(shared)} tokens and its context holds "
                f"{self._context}; shorten the prompt"
            )
        encoded = {index: self._encode(turns, steps) for index, steps in enumerate(request.responses) if steps}
        responses = {index: tagged for index, tagged in encoded.items() if len(tagged.tokens) <= self._context}
        if not responses:
            shared = ()
        if any(tagged.tokens[: len(shared)] != shared for tagged in responses.values()):
            # A template that writes the last turn differently leaves nothing to share.
            shared = ()
        job = ScoreJob(Waiter.here(), shared, responses, [() for _ in request.responses], len(responses))
        if not responses:
            return job.reply()
        self._worker.submit(job)
        return await job.waiter.future

    def _encode(self, turns: Messages, steps: tuple[str, ...]) -> Tagged:
        """A response in its conversation, up to its last tag: nothing after that can change a score."""
        text = "".join(step.replace(STEP_TAG, "") + STEP_TAG for step in steps)
        ids = self._tokenizer.encode_dialogue((*turns, Message("assistant", text)))
        tags = [place for place, token in enumerate(ids) if token == self._tag]
        if len(tags) != len(steps):
            raise EngineError(
                f"scorer {self._name!r}: the chat template left {len(tags)} of {len(steps)} tags {STEP_TAG!r} in "
                "place; it must write the assistant's text unchanged"
            )
        return Tagged(tuple(ids[: tags[-1] + 1]), tuple(tags))

    async def close(self) -> None:
        """Stop the worker thread and let go of the model."""
        await asyncio.to_thread(self._worker.close)


def load_model(spec: ModelSpec, settings: EmbeddedSettings) -> ProcessRewardModel:
    """The model in its place; ModelError where a weight is missing, left over or of another shape."""
    folder = Path(spec.path)
    check_role(spec)
    weights = _weights(spec, folder)
    shape = Qwen2Config.from_pretrained(folder)
    shape._attn_implementation = GROUPED
    device, dtype = settings.place()
    stored = next(iter(weights.values())).dtype
    with torch.device("meta"):
        model = ProcessRewardModel(shape)
    model.to_empty(device=device)
    model.model.rotary_emb = type(model.model.rotary_emb)(shape).to(device)
    try:
        model.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        why = " ".join(str(error).split())
        raise ModelError(f"models.{spec.name}: the weights in {folder} do not fit its config.json: {why}") from error
    model.to(stored if dtype == "auto" else dtype)
    model.eval()
    return model


def _weights(spec: ModelSpec, folder: Path) -> dict[str, torch.Tensor]:
    weights: dict[str, torch.Tensor] = {}
    for file in weight_files(folder, spec.name):
        weights.update(load_file(file))
    return {name: weight for name, weight in weights.items() if name not in IGNORED_WEIGHTS}


def build_scorer(spec: ModelSpec) -> EmbeddedScorer:
    """Load a process reward model; ModelError where the folder is not one, ConfigError for wrong engine_args."""
    settings = EmbeddedSettings.of(spec)
    context = context_length(read_config(Path(spec.path), spec.name), spec)
    tokenizer = ChatTokenizer(Path(spec.path), settings.chat_template)
    tag = tokenizer.token_id(STEP_TAG)
    if tag is None:
        raise ModelError(
            f"models.{spec.name}: the tokenizer in {spec.path} has no token {STEP_TAG!r}, which ends a step"
        )
    prefixes = PrefixCache(settings.prefix_cache_mb * 2**20)
    worker = ScoreWorker(load_model(spec, settings), prefixes, spec.max_batch, threads_of(spec))
    return EmbeddedScorer(spec.name, tokenizer, tag, worker, context)
