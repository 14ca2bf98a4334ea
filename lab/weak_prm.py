"""Train a reward model that is weak on purpose: `python -m apportion.lab.weak_prm [--work FOLDER]`.

It is what one gets without the comparison that `prm_start` builds in: the small policy's layers, two layers and a head
of random weights, and a short training of the last layer and the head on few samples. It learns which problems are
hard, and hardly which of several solutions of one problem is right. It has the reward model's layout and costs as much,
so that what a policy does with it is due to its judgement alone.
"""

from pathlib import Path
from typing import Final

import torch

from apportion.lab.comparison import blank_layer
from apportion.lab.prm import ProcessRewardModel
from apportion.lab.prm_start import PRM, start_widened
from apportion.lab.train import Recipe
from apportion.lab.train_prm import PrmRecipe, command

RECIPE: Final = PrmRecipe(
    stories=2000,
    samples=8192,
    held_out_stories=200,
    optimizer=Recipe(
        seed=5,
        steps=1200,
        batch_tokens=4096,
        lr=1e-3,
        ramp_steps=0,
        decay_steps=1200,
        warmup_steps=10,
        weight_decay=0.0,
    ),
)


@torch.no_grad()
def weak_start(small: Path, seed: int, attention: str = "sdpa") -> ProcessRewardModel:
    """The policy in the folder `small` under two layers and a head that know nothing yet."""
    model, _ = start_widened(small, seed, attention)
    state = model.state_dict()
    for layer in (PRM.comparing, PRM.gathering):
        blank_layer(PRM, state, layer)
    state["model.norm.weight"].fill_(1.0)
    return model


def main() -> None:
    """The command line."""
    command(__doc__, "lab:weak-prm", RECIPE, weak_start, work="lab-work/weak")


if __name__ == "__main__":
    main()
