"""Write the datasets: `python -m apportion.lab.make_data` makes calibration.jsonl and test.jsonl, 1,000 rows each.

Both have the same mix of difficulties and no chain of operations twice; the splits are disjoint because a chain's hash
decides its split (see `stories`).
"""

import json
import random
from dataclasses import dataclass
from typing import Final

from apportion.lab.paths import lab_path
from apportion.lab.stories import MAX_DISTRACTORS, MAX_OPS, Split, Story, draw_in_split

ROWS: Final = 1000


@dataclass(frozen=True, slots=True)
class Cell:
    """A share of the rows, with operations drawn evenly from `ops`."""

    share: float
    operand_max: int
    ops: tuple[int, ...]


MIX: Final = (
    Cell(0.50, 400, (10, 11, 12)),
    Cell(0.08, 400, (8, 9)),
    Cell(0.05, 400, (6, 7)),
    Cell(0.04, 400, (1, 2, 3, 4, 5)),
    Cell(0.24, 100, (11, 12)),
    Cell(0.04, 100, (6, 7, 8, 9, 10)),
    Cell(0.02, 100, (1, 2, 3, 4, 5)),
    Cell(0.03, 20, tuple(range(1, MAX_OPS + 1))),
)
# Chosen by measuring the small model per cell: see the spread required of it in MODEL_CARD.md.


def draw_mixed(rng: random.Random, split: Split) -> Story:
    """A story of one split with the datasets' mix of difficulties."""
    cell = rng.choices(MIX, [cell.share for cell in MIX])[0]
    return draw_in_split(rng, split, rng.choice(cell.ops), cell.operand_max, rng.randint(0, MAX_DISTRACTORS))


def dataset(split: Split) -> list[Story]:
    """The stories of one split, in their published order."""
    rng = random.Random(f"lab/{split}")
    stories: list[Story] = []
    seen: set[str] = set()
    while len(stories) < ROWS:
        story = draw_mixed(rng, split)
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
