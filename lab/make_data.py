"""Write the datasets: `python -m apportion.lab.make_data` makes calibration.jsonl and test.jsonl, 1,000 rows each.

Both have the same mix of difficulties and no chain of operations twice; the splits are disjoint because a chain's hash
decides its split (see `stories`).
"""

import json
import random
from dataclasses import dataclass
from typing import Final

from apportion.lab.paths import lab_path
from apportion.lab.stories import MAX_DISTRACTORS, Split, Story, draw_in_split

ROWS: Final = 1000


@dataclass(frozen=True, slots=True)
class Cell:
    """A share of the rows, with operations drawn evenly from `ops`."""

    share: float
    operand_max: int
    ops: tuple[int, ...]


MIX: Final = (
    Cell(0.35, 20, tuple(range(1, 13))),
    Cell(0.30, 100, tuple(range(1, 13))),
    Cell(0.35, 400, tuple(range(1, 13))),
)
# Chosen by measuring the small model per cell: see the spread required of it in MODEL_CARD.md.


def dataset(split: Split) -> list[Story]:
    """The stories of one split, in their published order."""
    rng = random.Random(f"lab/{split}")
    stories: list[Story] = []
    seen: set[str] = set()
    while len(stories) < ROWS:
        cell = rng.choices(MIX, [cell.share for cell in MIX])[0]
        story = draw_in_split(rng, split, rng.choice(cell.ops), cell.operand_max, rng.randint(0, MAX_DISTRACTORS))
        if story.chain not in seen:
            seen.add(story.chain)
            stories.append(story)
    return stories


def main() -> None:
    """Write both files."""
    splits: tuple[Split, ...] = ("calibration", "test")
    for split in splits:
        path = lab_path(f"lab:{split}")
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = [story.row(f"{split}-{index:04d}") for index, story in enumerate(dataset(split))]
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        print(f"{path}: {len(rows)} rows")


if __name__ == "__main__":
    main()
