"""What trainings share: a run goes on from its checkpoint as if it had not stopped, and samples are drawn once."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from apportion.lab import record_pool
from apportion.lab import tokenizer as lab_tokenizer
from apportion.lab.paths import lab_path
from apportion.lab.record_pool import read_rows
from apportion.lab.runs import (
    Progress,
    kept_rows,
    load_checkpoint,
    load_moments,
    mixed_precision,
    moments,
    origin,
    save_checkpoint,
)
from apportion.lab.train import Recipe

RECIPE = Recipe(seed=1, steps=6, batch_tokens=8, lr=0.1, ramp_steps=0, decay_steps=6)


def fresh() -> tuple[torch.nn.Linear, torch.optim.Optimizer]:
    torch.manual_seed(0)
    layer = torch.nn.Linear(3, 2)
    return layer, torch.optim.AdamW(layer.parameters(), lr=0.1)


def descend(layer: torch.nn.Linear, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        layer(torch.full((1, 3), 1.0 + step)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()


def test_a_run_goes_on_from_its_checkpoint_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path, RECIPE) is None
    whole, optimizer = fresh()
    descend(whole, optimizer, range(6))
    layer, optimizer = fresh()
    descend(layer, optimizer, range(4))
    save_checkpoint(tmp_path, dict(layer.named_parameters()), moments(optimizer), Progress(4, 12, 0.5), RECIPE)
    resumed, optimizer = fresh()
    found = load_checkpoint(tmp_path, RECIPE)
    assert found is not None
    weights, state, progress = found
    resumed.load_state_dict(weights)
    load_moments(optimizer, state)
    assert Progress(**progress) == Progress(4, 12, 0.5)
    descend(resumed, optimizer, range(4, 6))
    assert torch.equal(resumed.weight, whole.weight)
    assert not torch.equal(resumed.weight, layer.weight)
    assert not list(tmp_path.glob("*.part"))


def test_a_run_of_another_recipe_is_not_gone_on_from(tmp_path: Path) -> None:
    layer, optimizer = fresh()
    save_checkpoint(tmp_path, dict(layer.named_parameters()), moments(optimizer), Progress(4, 12, 0.5), RECIPE)
    with pytest.raises(ValueError, match=r"holds a run of another recipe: .*'seed': 1.*remove it, or give another"):
        load_checkpoint(tmp_path, replace(RECIPE, seed=2))


def test_rows_are_drawn_once_of_the_same_weights(tmp_path: Path) -> None:
    cache, weights = tmp_path / "work" / "rows.jsonl", tmp_path / "model.safetensors"
    weights.write_bytes(b"trained once")
    drawn = kept_rows(cache, origin(weights, 7), lambda: [("a", ("b", "c"), None), ("d", (), 2)])
    assert drawn == [["a", ["b", "c"], None], ["d", [], 2]]
    assert kept_rows(cache, origin(weights, 7), list) == drawn
    assert kept_rows(cache, origin(weights, 8), list) == []
    weights.write_bytes(b"trained again")
    assert kept_rows(cache, origin(weights, 7), list) == []


def test_a_pool_is_drawn_anew_from_a_model_that_was_trained_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(lab_path("lab:small"), tmp_path / "small")
    monkeypatch.setattr(record_pool, "lab_path", lambda name: folder)
    prompts = read_rows(lab_path("lab:test"))[:2]

    def chunks() -> set[str]:
        record_pool.record_arm("small", 2, prompts, tmp_path / "work", lab_tokenizer.build(), None)
        return {path.name for path in (tmp_path / "work").iterdir()}

    first = chunks()
    assert chunks() == first
    weights = load_file(folder / "model.safetensors")
    save_file({name: one * 0.5 for name, one in weights.items()}, folder / "model.safetensors")
    assert len(chunks() - first) == len(first) == 1


@pytest.mark.parametrize(("able", "dtype"), [("avx512_bf16", torch.bfloat16), ("avx512_f", torch.float32)])
def test_what_is_trained_is_multiplied_in_what_the_cpu_has(
    monkeypatch: pytest.MonkeyPatch, able: str, dtype: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {able: True, "amx_bf16": False})
    with mixed_precision():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype
