"""What trainings share: a run goes on from its checkpoint as if it had not stopped, and samples are drawn once."""

from pathlib import Path

import torch

from apportion.lab.runs import Progress, kept_rows, load_checkpoint, load_moments, moments, save_checkpoint


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
    assert load_checkpoint(tmp_path) is None
    whole, optimizer = fresh()
    descend(whole, optimizer, range(6))
    layer, optimizer = fresh()
    descend(layer, optimizer, range(4))
    save_checkpoint(tmp_path, dict(layer.named_parameters()), moments(optimizer), Progress(4, 12, 0.5))
    resumed, optimizer = fresh()
    found = load_checkpoint(tmp_path)
    assert found is not None
    weights, state, progress = found
    resumed.load_state_dict(weights)
    load_moments(optimizer, state)
    assert Progress(**progress) == Progress(4, 12, 0.5)
    descend(resumed, optimizer, range(4, 6))
    assert torch.equal(resumed.weight, whole.weight)
    assert not torch.equal(resumed.weight, layer.weight)
    assert not list(tmp_path.glob("*.part"))


def test_rows_are_drawn_once(tmp_path: Path) -> None:
    cache = tmp_path / "work" / "rows.jsonl"
    drawn = kept_rows(cache, lambda: [("a", ("b", "c"), None), ("d", (), 2)])
    assert drawn == [["a", ["b", "c"], None], ["d", [], 2]]
    assert kept_rows(cache, list) == drawn
