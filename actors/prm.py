"""The embedded process reward model: the layout of Qwen2ForProcessRewardModel, scored in batches.

A response is written as its steps, each followed by the tag `<extra_0>`; a step's score is the probability of the
second label at its tag (Qwen2.5-Math-PRM, arXiv 2501.07301). Weights: `model.*` of a Qwen2Model, and the head
`score.0` and `score.2`. The classes are transformers' own and the head's is here, so no code of the folder is run.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import Qwen2Config, Qwen2Model

from apportion.actors.attention import GROUPED
from apportion.actors.describe import context_length, read_config, weight_files
from apportion.actors.embedded import EmbeddedSettings, threads_of
from apportion.actors.replies import Outbox, Waiter
from apportion.actors.spec import ModelSpec
from apportion.actors.tokens import ChatTokenizer
from apportion.costs import attended
from apportion.errors import EngineError, ModelError
from apportion.types import Message, Messages, Score, Scored, Usage

STEP_TAG = "<extra_0>"
LABELS = 2
IGNORED_WEIGHTS = frozenset({"lm_head.weight"})
# Published folders carry the policy's output head along; a reward model has no use for it.

FORWARD_TOKENS = 4096
# Padded tokens in one forward pass: more gain nothing, and would keep short requests waiting.


class ProcessRewardModel(torch.nn.Module):
    """Qwen2Model and the head that scores each position."""

    def __init__(self, config: Qwen2Config) -> None:
        super().__init__()
        self.model = Qwen2Model(config)
        width = config.hidden_size
        self.score = torch.nn.Sequential(torch.nn.Linear(width, width), torch.nn.ReLU(), torch.nn.Linear(width, LABELS))

    def forward(self, tokens: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        """Scores float32 in [0, 1] at the places (rows, columns) of `tokens` [sequences, length], padded right."""
        hidden = self.model(input_ids=tokens, use_cache=False).last_hidden_state
        logits = self.score(hidden[rows, columns])
        return torch.softmax(logits.float(), dim=-1)[:, 1]


@dataclass(slots=True, eq=False)
class ScoreJob:
    """One request on its way: the token ids and the tags' places of each response that has steps."""

    waiter: Waiter[Scored]
    sequences: dict[int, tuple[list[int], list[int]]]
    scores: list[tuple[float, ...]]
    missing: int
    busy_seconds: float = 0.0

    def reply(self) -> Scored:
        """Scores of all responses, and what they cost; the conversation is read for every response."""
        lengths = [len(ids) for ids, _ in self.sequences.values()]
        reach = sum(attended(0, length) for length in lengths)
        return Scored(tuple(self.scores), Usage(sum(lengths), 0, int(reach), 0, self.busy_seconds))


@dataclass(slots=True)
class ScoreWorker:
    """The thread that owns the model: takes what has come, sorts it by length, answers a request when it is whole."""

    model: ProcessRewardModel
    device: torch.device
    max_batch: int
    threads: int
    inbox: queue.SimpleQueue[ScoreJob | None] = field(default_factory=queue.SimpleQueue)
    outbox: Outbox[Scored] = field(default_factory=Outbox)
    thread: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self.thread = threading.Thread(target=self._run, name="embedded-scorer", daemon=True)
        self.thread.start()

    def submit(self, job: ScoreJob) -> None:
        """Queue a job."""
        if not self.thread.is_alive():
            raise EngineError("the scorer was closed; build it again")
        self.inbox.put(job)

    def close(self) -> None:
        """Finish what is queued and stop the thread."""
        self.inbox.put(None)
        self.thread.join()

    def _run(self) -> None:
        torch.set_num_threads(self.threads)
        with torch.inference_mode():
            while (job := self.inbox.get()) is not None:
                jobs, waiting = [job], job.missing
                closing = False
                # As many jobs as two batches hold: enough to sort by length, few enough to answer soon.
                while waiting < 2 * self.max_batch and not self.inbox.empty():
                    following = self.inbox.get()
                    if following is None:
                        closing = True
                        break
                    jobs.append(following)
                    waiting += following.missing
                self._work(jobs)
                if closing:
                    return

    def _work(self, jobs: list[ScoreJob]) -> None:
        pieces = [(job, index) for job in jobs for index in job.sequences]
        pieces.sort(key=lambda piece: len(piece[0].sequences[piece[1]][0]))
        failed: set[ScoreJob] = set()
        while pieces:
            job, index = pieces[-1]
            widest = len(job.sequences[index][0])
            count = max(1, min(self.max_batch, FORWARD_TOKENS // widest))
            batch = [piece for piece in pieces[-count:] if piece[0] not in failed]
            del pieces[-count:]
            try:
                self._forward(batch)
            except Exception as error:
                owners = {job for job, _ in batch} - failed
                failed |= owners
                for owner in owners:
                    self.outbox.add(owner.waiter, EngineError(f"the scorer failed: {type(error).__name__}: {error}"))
            for owner in dict.fromkeys(job for job, _ in batch):
                if owner.missing == 0 and owner not in failed:
                    self.outbox.add(owner.waiter, owner.reply())
            self.outbox.deliver()

    def _forward(self, batch: Sequence[tuple[ScoreJob, int]]) -> None:
        if not batch:
            return
        began = time.perf_counter()
        parts = [job.sequences[index] for job, index in batch]
        tokens = torch.zeros(len(parts), max(len(ids) for ids, _ in parts), dtype=torch.long)
        rows: list[int] = []
        columns: list[int] = []
        for row, (ids, tags) in enumerate(parts):
            tokens[row, : len(ids)] = torch.tensor(ids)
            rows.extend([row] * len(tags))
            columns.extend(tags)
        scores = self.model(
            tokens.to(self.device), torch.tensor(rows, device=self.device), torch.tensor(columns, device=self.device)
        ).tolist()
        share = (time.perf_counter() - began) / sum(len(ids) for ids, _ in parts)
        for (job, index), (ids, tags) in zip(batch, parts, strict=True):
            job.scores[index] = tuple(scores[: len(tags)])
            del scores[: len(tags)]
            job.missing -= 1
            job.busy_seconds += share * len(ids)


class EmbeddedScorer:
    """A Scorer (see `protocols`) over one ScoreWorker."""

    def __init__(self, name: str, tokenizer: ChatTokenizer, tag: int, worker: ScoreWorker, context: int) -> None:
        self._name = name
        self._tokenizer = tokenizer
        self._tag = tag
        self._worker = worker
        self._context = context

    async def score(self, request: Score) -> Scored:
        """One score a step of each response; a response without steps gets none and costs nothing."""
        sequences = {
            index: self._encode(request.messages, steps) for index, steps in enumerate(request.responses) if steps
        }
        job = ScoreJob(Waiter.here(), sequences, [() for _ in request.responses], len(sequences))
        if not sequences:
            return job.reply()
        self._worker.submit(job)
        return await job.waiter.future

    def _encode(self, messages: Messages, steps: tuple[str, ...]) -> tuple[list[int], list[int]]:
        """Token ids of a response in its conversation, and where its tags are."""
        text = "".join(step.replace(STEP_TAG, "") + STEP_TAG for step in steps)
        turns = tuple(Message(message.role, message.content.replace(STEP_TAG, "")) for message in messages)
        ids = self._tokenizer.encode_dialogue((*turns, Message("assistant", text)))
        if len(ids) > self._context:
            raise EngineError(
                f"scorer {self._name!r} was asked about {len(ids)} tokens (conversation and {len(steps)} steps) and "
                f"its context holds {self._context}; shorten the responses with a smaller max_tokens"
            )
        tags = [place for place, token in enumerate(ids) if token == self._tag]
        if len(tags) != len(steps):
            raise EngineError(
                f"scorer {self._name!r}: the chat template left {len(tags)} of {len(steps)} tags {STEP_TAG!r} in "
                "place; it must write the assistant's text unchanged"
            )
        return ids, tags

    async def close(self) -> None:
        """Stop the worker thread and let go of the model."""
        await asyncio.to_thread(self._worker.close)


def load_model(spec: ModelSpec, settings: EmbeddedSettings) -> tuple[ProcessRewardModel, torch.device]:
    """The model in its place; ModelError where a weight is missing, left over or of another shape."""
    folder = Path(spec.path)
    config = read_config(folder, spec.name)
    if config.get("model_type") != "qwen2" or "score.2.weight" not in (weights := _weights(spec, folder)):
        raise ModelError(
            f"models.{spec.name}: {folder} is no process reward model (model_type {config.get('model_type')!r}, "
            "score.2.weight needed); the embedded scorer runs the Qwen2ForProcessRewardModel layout"
        )
    shape = Qwen2Config.from_pretrained(folder)
    shape._attn_implementation = GROUPED
    device, dtype = settings.place()
    stored = next(iter(weights.values())).dtype
    with torch.device("meta"):
        model = ProcessRewardModel(shape)
    model = model.to_empty(device=device)
    model.model.rotary_emb = type(model.model.rotary_emb)(shape).to(device)
    try:
        model.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        why = " ".join(str(error).split())
        raise ModelError(f"models.{spec.name}: the weights in {folder} do not fit its config.json: {why}") from error
    return model.to(stored if dtype == "auto" else dtype).eval(), device


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
    model, device = load_model(spec, settings)
    worker = ScoreWorker(model, device, spec.max_batch, threads_of(spec))
    return EmbeddedScorer(spec.name, tokenizer, tag, worker, context)
