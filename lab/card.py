"""Compute the model card's tables: `python -m apportion.lab.card` rewrites them in MODEL_CARD.md.

Sizes, training and how well the reward models, the reviser, the judge and the grader do come from the model folders
(with `--again` the last is computed anew, from samples drawn on held-out stories), pass@1 from the recorded pools. With
`--check` nothing is written and a stale card is an error.
"""

import argparse
import json
import sys
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import torch

from apportion.lab.judging import evaluate as evaluate_judge
from apportion.lab.make_grader import SHIPPED
from apportion.lab.make_grader import evaluate as evaluate_grader
from apportion.lab.models import parameter_count
from apportion.lab.paths import lab_path
from apportion.lab.record_pool import read_rows
from apportion.lab.revisions import Revisions
from apportion.lab.revisions import evaluate as evaluate_chains
from apportion.lab.runs import read_record
from apportion.lab.spread import pass_rates, spread
from apportion.lab.train_prm import evaluate

CARD: Final = Path(__file__).resolve().parent / "MODEL_CARD.md"
BEGIN: Final = "<!-- tables: written by apportion.lab.card -->"
END: Final = "<!-- end of tables -->"
PRMS: Final = ("prm", "weak-prm")
BUILT: Final = "grader"


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def training_record(name: str) -> dict[str, Any]:
    """What the training script left in a model's folder."""
    return read_record(SHIPPED.parent if name == BUILT else lab_path(f"lab:{name}"))


def sizes() -> str:
    """Parameters, dimensions and training of the models."""
    rows = []
    for name in ("small", "large", "prm", "weak-prm", "reviser", "judge", BUILT):
        folder = lab_path(f"lab:{name}")
        config, record = json.loads((folder / "config.json").read_text()), training_record(name)
        dimensions = f"{config['hidden_size']} x {config['num_hidden_layers']}"
        steps = record["recipe"]["optimizer"]["steps"] if name in PRMS else record.get("step", 0)
        rows.append(
            [
                name,
                f"{parameter_count(folder):,}",
                dimensions,
                config["torch_dtype"],
                f"{steps:,}",
                f"{record.get('tokens', 0) / 1e6:.1f}M",
                f"{record['seconds'] / 60:.0f}",
            ]
        )
    return table(["model", "parameters", "hidden x layers", "stored as", "steps", "tokens", "minutes, one core"], rows)


def by_operations() -> str:
    """Mean pass@1 on the test pool by number of operations and operand size."""
    rows = read_rows(lab_path("lab:test"))
    rates = {arm: pass_rates(lab_path("lab:pool/test"), arm) for arm in ("small", "large")}
    cells: dict[tuple[str, str], list[str]] = defaultdict(list)
    for row in rows:
        cells["ops", str(row["ops"])].append(row["id"])
        cells["operand_max", str(row["operand_max"])].append(row["id"])
        cells["distractors", str(row["distractors"])].append(row["id"])
        cells["all", ""].append(row["id"])
    names = {"ops": "operations", "operand_max": "operands to", "distractors": "distractors", "all": "all"}
    order = sorted(cells, key=lambda cell: (list(names).index(cell[0]), int(cell[1] or 0)))
    lines = []
    for cell in order:
        members = cells[cell]
        means = [sum(rates[arm][one] for one in members) / len(members) for arm in ("small", "large")]
        lines.append([f"{names[cell[0]]} {cell[1]}".strip(), str(len(members)), *(f"{mean:.3f}" for mean in means)])
    return table(["test prompts", "count", "small", "large"], lines)


def spreads() -> str:
    """The required spread of pass@1 against what was recorded."""
    lines = []
    for split in ("test", "calibration"):
        for arm in ("small", "large"):
            rates = pass_rates(lab_path(f"lab:pool/{split}"), arm)
            if rates:
                found = spread(rates)
                shares = (found.high, found.middle, found.low, found.zero)
                lines.append([f"{split}, {arm}", *(f"{share:.1%}" for share in shares)])
    lines.append(["required of small on test", ">= 25%", ">= 25%", ">= 15%", "<= 10%"])
    return table(["pass@1 of prompts", "0.5 to 1", "0.1 to 0.5", "below 0.1", "exactly 0"], lines)


def prm_quality(again: bool) -> str:
    """ProcessBench F1 on held-out samples: as training left it, or drawn and scored again."""
    rows = []
    for prm in PRMS:
        held_out = asdict(evaluate(lab_path(f"lab:{prm}"))) if again else training_record(prm)["held_out"]
        counts = [f"{held_out[name]:,}" for name in ("erroneous", "correct")]
        rows.append([prm, *counts, *(f"{held_out[name]:.3f}" for name in ("found", "passed", "f1"))])
    return table(["model", "wrong samples", "right samples", "first wrong step found", "right passed", "F1"], rows)


def chains(again: bool) -> str:
    """What the reviser does along chains on held-out stories: as judged before, or drawn anew."""
    found = evaluate_chains(lab_path("lab:reviser")) if again else Revisions(**training_record("reviser")["held_out"])
    attempts = [f"attempt {place}" for place in range(1, len(found.pass_at_1) + 1)]
    shares = [found.alone, *found.pass_at_1, found.lost, found.gained, found.repeated]
    header = ["chains", "small alone", *attempts, "right revised to wrong", "wrong to right", "said again"]
    return table([*header, "worth"], [[f"{found.chains:,}", *(f"{one:.3f}" for one in shares), f"{found.worth:.1f}"]])


def verdicts(again: bool) -> str:
    """How the generative verifier tells right samples from wrong ones: as judged after training, or drawn anew."""
    found = asdict(evaluate_judge(lab_path("lab:judge"))) if again else training_record("judge")["held_out"]
    rows = [[name, f"{everywhere:.3f}", f"{within:.3f}"] for name, (everywhere, within) in found["areas"].items()]
    samples = f"{found['right']:,} right and {found['wrong']:,} wrong samples"
    return table(["score", f"AUC over {samples}", f"AUC within a story, mean of {found['stories']}"], rows)


def gradings(again: bool) -> str:
    """How the grader tells right steps from wrong ones, and what it solves: as judged before, or drawn anew."""
    found = asdict(evaluate_grader(lab_path("lab:grader"))) if again else training_record(BUILT)["held_out"]
    header = ["right steps", "kept", "first wrong steps", "kept", "AUC", "pass@1", "pass@1 of large"]
    shares = [f"{found[name]:.3f}" for name in ("right_kept", "wrong_kept", "area", "pass_at_1", "large")]
    return table(header, [[f"{found['right']:,}", shares[0], f"{found['wrong']:,}", *shares[1:]]])


def tables(again: bool) -> str:
    """Everything between the card's markers."""
    parts = [
        ("Sizes and training", sizes()),
        ("Pass@1 at temperature 0.8, test pool", by_operations()),
        ("Spread of difficulty", spreads()),
        ("Reward models: ProcessBench, threshold 0.5, held-out stories", prm_quality(again)),
        ("Reviser: pass@1 along chains of five, last four in context, held-out stories", chains(again)),
        ("Generative verifier: right from wrong samples of small, held-out stories", verdicts(again)),
        ("Grader: steps of samples of small, and stories solved, held-out stories", gradings(again)),
    ]
    return "\n\n".join(f"### {title}\n\n{text}" for title, text in parts)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail if the card is not up to date")
    parser.add_argument("--again", action="store_true", help="judge all but the policies again, not as recorded")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    text = CARD.read_text()
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    made = f"{before}{BEGIN}\n\n{tables(arguments.again)}\n\n{END}{after}"
    if arguments.check and made != text:
        sys.exit("MODEL_CARD.md is out of date: run python -m apportion.lab.card")
    CARD.write_text(made)
    print(made[made.index(BEGIN) : made.index(END)])


if __name__ == "__main__":
    main()
