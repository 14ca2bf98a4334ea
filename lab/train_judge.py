"""Train the generative verifier: `python -m apportion.lab.train_judge [--work FOLDER]`.

It starts from a comparison of every token with what the small policy expected (see `judge`) and reads the samples that
the reward model was trained on, as many with the right answer as without. It learns to answer a solution with `Yes` or
`No`, and, which teaches faster, what it would say at every token before the end. Only the last layer and the head are
trained. A checkpoint in the work folder is resumed from.
"""

import argparse
import json
import random
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import Qwen2ForCausalLM

from apportion.lab import tokenizer as lab_tokenizer
from apportion.lab.batches import IGNORED, Batch
from apportion.lab.judge import NO, YES, export_judge, is_right, judge_text, start_judge
from apportion.lab.judging import evaluate
from apportion.lab.paths import lab_path
from apportion.lab.prm_data import Labelled
from apportion.lab.prm_start import GATHERING
from apportion.lab.tokenizer import EOS, PAD, token_id
from apportion.lab.train import CHECKPOINT_SECONDS, LOG_STEPS, Recipe, learning_rate
from apportion.lab.train_prm import RECIPE as PRM_RECIPE
from apportion.lab.train_prm import training_samples

RECIPE: Final = Recipe(
    seed=4, steps=1300, batch_tokens=4096, lr=1e-3, ramp_steps=0, decay_steps=1300, warmup_steps=10, weight_decay=0.0
)


@dataclass(frozen=True, slots=True)
class Row:
    """Token ids of a question and its verdict; where the solution starts, where it goes wrong, where the verdict is."""

    ids: tuple[int, ...]
    start: int
    agreed: int
    verdict: int


def balanced(samples: list[Labelled], rng: random.Random) -> list[Labelled]:
    """All samples with the right answer and as many without."""
    right = [sample for sample in samples if is_right(sample)]
    wrong = [sample for sample in samples if not is_right(sample)]
    size = min(len(right), len(wrong))
    return rng.sample(right, size) + rng.sample(wrong, size)


def row_of(tokenizer: Tokenizer, sample: Labelled) -> Row:
    """A sample as it is trained on."""
    ids = tokenizer.encode(judge_text(sample.problem, "\n".join(sample.steps))).ids
    truth = tokenizer.encode(judge_text(sample.problem, sample.solution)).ids
    agreed = next(
        (place for place, (one, other) in enumerate(zip(ids, truth, strict=False)) if one != other),
        min(len(ids), len(truth)),
    )
    verdict = tokenizer.encode(f"{YES if is_right(sample) else NO}{EOS}").ids
    return Row((*ids, *verdict), len(tokenizer.encode(f"{sample.problem}\n").ids), agreed, len(ids))


def targets_of(row: Row, yes: int, no: int) -> list[int]:
    """What each token of a row but the last should be followed by: the verdict, and before it what it would be.

    The token that ends the question is followed by the real verdict, all others of the solution by whether all of it
    agrees so far.
    """
    before = [IGNORED] * row.start
    so_far = [yes if place < row.agreed else no for place in range(row.start, row.verdict - 1)]
    return [*before, *so_far, *row.ids[row.verdict :]]


def judge_batches(rows: list[Row], tokenizer: Tokenizer, batch_tokens: int, rng: random.Random) -> Iterator[Batch]:
    """One epoch, rows of like length together, in random order."""
    yes, no = (tokenizer.encode(word).ids[0] for word in (YES, NO))
    groups: list[list[Row]] = [[]]
    for row in sorted(rows, key=lambda row: (len(row.ids), rng.random())):
        if groups[-1] and len(row.ids) * (len(groups[-1]) + 1) > batch_tokens:
            groups.append([])
        groups[-1].append(row)
    rng.shuffle(groups)
    pad = token_id(tokenizer, PAD)
    for group in groups:
        length = max(len(row.ids) for row in group) - 1
        tokens = torch.full((len(group), length), pad)
        targets = torch.full((len(group), length), IGNORED)
        for index, row in enumerate(group):
            tokens[index, : len(row.ids) - 1] = torch.tensor(row.ids[:-1])
            targets[index, : len(row.ids) - 1] = torch.tensor(targets_of(row, yes, no))
        yield Batch(tokens, targets)


def loss_of(model: Qwen2ForCausalLM, batch: Batch, newline: int) -> torch.Tensor:
    """Cross-entropy of the verdict, which is what is read later, and of all else, which teaches faster."""
    with torch.autocast("cpu", torch.bfloat16):
        hidden = model.model(input_ids=batch.tokens, use_cache=False).last_hidden_state
        wanted = batch.targets != IGNORED
        logits = model.lm_head(hidden[wanted])
    losses = F.cross_entropy(logits.float(), batch.targets[wanted], reduction="none")
    last = _last_newline(batch.tokens, newline)[wanted]
    return losses[last].mean() + losses.mean()


def _last_newline(tokens: torch.Tensor, newline: int) -> torch.Tensor:
    """A mask of the last newline of each row, where the verdict is asked for."""
    is_newline = tokens == newline
    after = is_newline.flip(1).cumsum(1).flip(1)
    return is_newline & (after == 1)


def trained_parameters(model: Qwen2ForCausalLM) -> dict[str, torch.nn.Parameter]:
    """The last layer, the last norm and the head; all else is held fixed, the comparison most of all."""
    prefixes = (f"model.layers.{GATHERING}.", "model.norm.", "lm_head.")
    model.requires_grad_(False)
    trained = {name: one for name, one in model.named_parameters() if name.startswith(prefixes)}
    for parameter in trained.values():
        parameter.requires_grad_(True)
    return trained


@dataclass
class Progress:
    """Where a run stands; what its checkpoint's JSON holds."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0


class Run:
    """A model, its optimiser and its progress, which a checkpoint in `work` restores."""

    def __init__(self, recipe: Recipe, tokenizer: Tokenizer, work: Path) -> None:
        yes, no = (tokenizer.encode(word).ids[0] for word in (YES, NO))
        self.model = start_judge(lab_path("lab:small"), recipe.seed, yes, no, attention="lab_causal")
        self.trained = trained_parameters(self.model)
        self.optimizer = torch.optim.AdamW(
            list(self.trained.values()), lr=recipe.lr, betas=(0.9, 0.98), weight_decay=recipe.weight_decay
        )
        self.progress = Progress()
        self._work = work
        if (work / "progress.json").exists():
            self._restore()

    def save(self) -> None:
        """Write what is trained and the optimiser's moments, then the JSON that names them, each by rename."""
        self._work.mkdir(parents=True, exist_ok=True)
        tensors = {f"weight/{name}": one.detach().clone() for name, one in self.trained.items()}
        for index, entry in self.optimizer.state_dict()["state"].items():
            tensors |= {f"moment/{index}/{key}": value.clone() for key, value in entry.items()}
        save_file(tensors, self._work / "state.part")
        (self._work / "state.part").rename(self._work / "state.safetensors")
        (self._work / "progress.part").write_text(json.dumps(asdict(self.progress)))
        (self._work / "progress.part").rename(self._work / "progress.json")

    def _restore(self) -> None:
        moments: dict[int, dict[str, torch.Tensor]] = {}
        for name, value in load_file(self._work / "state.safetensors").items():
            kind, rest = name.split("/", 1)
            if kind == "weight":
                self.trained[rest].data.copy_(value)
            else:
                index, key = rest.split("/")
                moments.setdefault(int(index), {})[key] = value
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": moments})
        self.progress = Progress(**json.loads((self._work / "progress.json").read_text()))


def train(recipe: Recipe, work: Path) -> tuple[Qwen2ForCausalLM, dict[str, object]]:
    """The trained judge and a record of its training."""
    tokenizer = lab_tokenizer.build()
    samples = balanced(training_samples(PRM_RECIPE, work / "prm-samples.jsonl"), random.Random(recipe.seed))
    rows = [row_of(tokenizer, sample) for sample in samples]
    run = Run(recipe, tokenizer, work / "judge")
    progress, newline = run.progress, tokenizer.encode("\n").ids[0]
    saved = last = time.monotonic()
    running, seen, epoch = 0.0, 0, 0
    while progress.step < recipe.steps:
        order = random.Random(f"judge/{recipe.seed}/{epoch}")
        epoch += 1
        for batch in judge_batches(rows, tokenizer, recipe.batch_tokens, order):
            seen += 1
            if seen <= progress.step:
                continue
            if progress.step >= recipe.steps:
                break
            loss = loss_of(run.model, batch, newline)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(list(run.trained.values()), 1.0)
            run.optimizer.param_groups[0]["lr"] = learning_rate(recipe, progress.step)
            run.optimizer.step()
            run.optimizer.zero_grad()
            now = time.monotonic()
            progress.step += 1
            progress.tokens += batch.tokens.numel()
            progress.seconds += now - last
            last = now
            running += float(loss.detach())
            if progress.step % LOG_STEPS == 0:
                rate = progress.tokens / progress.seconds
                print(f"step {progress.step} loss {running / LOG_STEPS:.4f} {rate:.0f}/s", flush=True)
                running = 0.0
            if now - saved > CHECKPOINT_SECONDS or progress.step == recipe.steps:
                run.save()
                saved = now
    record = {"recipe": asdict(recipe), "samples": len(samples), **asdict(progress)}
    return run.model.eval(), record


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("lab-work"), help="folder for samples and checkpoints")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model, record = train(RECIPE, arguments.work)
    folder = lab_path("lab:judge")
    export_judge(model, folder)
    result = evaluate(folder)
    (folder / "training.json").write_text(json.dumps({**record, "held_out": asdict(result)}, indent=2) + "\n")
    print(result)


if __name__ == "__main__":
    main()
