"""The sampler: equal samples share a row without changing what is drawn or computed."""

import random

import pytest
import torch
from transformers import AutoModelForCausalLM

from apportion.lab import tokenizer as lab_tokenizer
from apportion.lab.make_data import draw_mixed
from apportion.lab.network import Network
from apportion.lab.paths import lab_path
from apportion.lab.sampling import _draw, _Rows, complete
from apportion.lab.tokenizer import EOS, token_id


def test_draws_follow_the_distribution() -> None:
    logits = torch.tensor([[0.0, 1.0, 2.0, -30.0], [3.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    counts = torch.tensor([100_000, 50_000, 0])
    rows, tokens, how_often = _draw(logits, counts, 0.8, torch.Generator().manual_seed(0))
    expected = (logits / 0.8).softmax(dim=-1)
    found = torch.zeros(3, 4)
    found[rows, tokens] = how_often.float()
    assert found.sum(dim=1).tolist() == [100_000, 50_000, 0]
    assert float((found[:2] / counts[:2, None] - expected[:2]).abs().max()) < 0.01
    assert rows.tolist() == sorted(rows.tolist())


@pytest.mark.parametrize("temperature", [0.9, 1.6])
def test_branched_rows_compute_what_transformers_does(temperature: float) -> None:
    folder, steps, samples = lab_path("lab:small"), 70, 64
    built = lab_tokenizer.build()
    eos = token_id(built, EOS)
    rng = random.Random(3)
    prompts = [built.encode(f"{draw_mixed(rng, 'test').problem}\n").ids for _ in range(4)]
    generator = torch.Generator().manual_seed(0)
    with torch.inference_mode():
        rows = _Rows(Network.load(folder), prompts, samples, pad=eos)
        for step in range(steps):
            parents, tokens, counts = _draw(rows.logits, rows.count, temperature, generator)
            alive = tokens != eos
            rows.branch(parents[alive], tokens[alive], counts[alive], step)
            rows.advance(step)
        model = AutoModelForCausalLM.from_pretrained(folder)
        live = rows.count.nonzero().flatten().tolist()
        assert len({(int(rows.prompt[row]), *rows.history[row, :steps].tolist()) for row in live}) == len(live) > 4
        for row in live[:40]:
            ids = [*prompts[int(rows.prompt[row])], *rows.history[row, :steps].tolist()]
            assert torch.allclose(model(torch.tensor([ids])).logits[0, -1], rows.logits[row], atol=1e-3)


def test_counts_and_lengths() -> None:
    built = lab_tokenizer.build()
    rng = random.Random(4)
    problems = [draw_mixed(rng, "test").problem for _ in range(6)]
    drawn = complete(Network.load(lab_path("lab:small")), built, problems, 50, 0.8, seed=2, max_tokens=90)
    assert [len(rows) for rows in drawn] == [50] * 6
    for done in (done for rows in drawn for done in rows):
        tokens = len(built.encode(done.text).ids)
        assert done.tokens == tokens + done.finished <= 90
