"""The grader: a policy that writes as `lab:large` does, and answers a question about a step with a digit."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from apportion.configs.build import load_job
from apportion.lab import lab_path
from apportion.lab import tokenizer as lab_tokenizer
from apportion.lab.grader import DIGITS, QUESTION, grade_text, grader_config, grades
from apportion.lab.judging import area
from apportion.lab.make_grader import SHIPPED, doubtful_from, questions
from apportion.lab.models import load_model
from apportion.lab.network import Network
from apportion.lab.prm_data import Labelled
from apportion.lab.sampling import complete
from apportion.lab.train_prm import held_out_samples
from apportion.policies.spec_reason import SpecReason

STORY = "Ann has 12 boxes. She buys 5 more. She sells 3. How many boxes does Ann have now?"
STEPS = ("12 + 5 = 17", "17 - 3 = 14", "Answer: 14")
RIGHT = Labelled(STORY, STEPS, "\n".join(STEPS), None)
WRONG = Labelled(STORY, ("12 + 5 = 17", "17 - 4 = 13", "Answer: 13"), RIGHT.solution, 1)

LEAST_AREA = 0.85
# On a few dozen samples; the card has the figures from many.

CLOSE = 0.1
# To the least surprise that is not kept, relatively: what `lab:large` would have written may decide there.

SAME = 1e-4
# In nats, of a token's probability: the weights are stored in bfloat16.


@pytest.fixture(scope="module")
def samples() -> list[Labelled]:
    """Held-out samples of small on some stories."""
    return held_out_samples(3)


def test_layout_is_a_causal_models() -> None:
    folder = lab_path("lab:grader")
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert json.loads((folder / "config.json").read_text()) == grader_config()
    assert all(bool(torch.isfinite(weight).all()) for weight in model.parameters())
    assert AutoTokenizer.from_pretrained(folder).encode("#7") == lab_tokenizer.build().encode("#7").ids


@pytest.mark.parametrize("at", range(len(STEPS)))
def test_what_it_reads_is_what_the_shipped_job_asks(at: int) -> None:
    shipped = AutoTokenizer.from_pretrained(lab_path("lab:grader"))
    arm = next(arm for arm in load_job("compute-optimal", []).arms if arm.name == "spec_reason")
    assert isinstance(arm.strategy, SpecReason)
    assert arm.strategy.question == QUESTION
    before = "\n".join([STORY, *STEPS[:at]])
    messages = [{"role": "user", "content": QUESTION.format(before=before, step=STEPS[at])}]
    assert grade_text(STORY, STEPS[: at + 1]) == shipped.apply_chat_template(messages, tokenize=False)


def test_a_step_is_kept_or_not_by_what_it_says() -> None:
    model, keeps = load_model(lab_path("lab:grader")), SpecReason().keeps
    right, wrong = questions([RIGHT, WRONG])
    assert [keeps(one.answer) for one in grades(model, right)] == [True] * len(right)
    assert [keeps(one.answer) for one in grades(model, wrong)] == [False]


def test_it_tells_right_steps_from_wrong_ones_in_digits(samples: list[Labelled]) -> None:
    asked = questions(samples)
    assert len(asked[1]) >= 5
    model = load_model(lab_path("lab:grader"))
    right, wrong = (grades(model, texts) for texts in asked)
    assert {one.answer for one in (*right, *wrong)} <= set(DIGITS)
    assert area([int(one.answer) for one in right], [int(one.answer) for one in wrong]) > LEAST_AREA
    doubtful, keeps = json.loads(SHIPPED.read_text())["doubtful"], SpecReason().keeps
    clear = [one for one in (*right, *wrong) if abs(one.surprise / doubtful - 1.0) > CLOSE]
    assert [keeps(one.answer) for one in clear] == [one.surprise < doubtful for one in clear]


def test_it_writes_as_the_large_model_does(samples: list[Labelled]) -> None:
    models, tokenizer = [load_model(lab_path(f"lab:{name}")) for name in ("grader", "large")], lab_tokenizer.build()
    for sample in (RIGHT, *samples[::4]):
        ids = torch.tensor([tokenizer.encode("\n".join([sample.problem, *sample.steps])).ids])
        start = len(tokenizer.encode(sample.problem).ids)
        with torch.inference_mode():
            own, wanted = (model(ids).logits[0, start:].log_softmax(-1) for model in models)
        assert float((wanted.exp() * (wanted - own)).sum(-1).abs().max()) < SAME


def test_the_sampler_reads_a_head_of_its_own() -> None:
    written = [
        complete(Network.load(lab_path(f"lab:{name}")), lab_tokenizer.build(), [STORY], 2, 0.8, seed=3)
        for name in ("grader", "large")
    ]
    assert written[0] == written[1]


def test_doubt_begins_where_most_are_told_apart() -> None:
    assert doubtful_from([0.0, 0.1, 0.2, 0.3, 3.0], [0.15, 2.0, 4.0, 5.0]) == 2.0


def test_it_is_built_once_and_again_where_it_is_not_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", "here")
    folder = lab_path("lab:grader")
    assert folder.parent.parent == tmp_path / "here"
    weights = folder / "model.safetensors"
    first, made_at = weights.read_bytes(), weights.stat().st_mtime_ns
    assert lab_path("lab:grader") == folder
    assert weights.stat().st_mtime_ns == made_at
    weights.unlink()
    assert lab_path("lab:grader") == folder
    assert weights.read_bytes() == first
    assert [one.name for one in folder.parent.iterdir()] == [folder.name]
    assert folder.stat().st_mode & 0o755 == 0o755


def test_several_may_build_it_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with ThreadPoolExecutor(3) as several:
        folders = set(several.map(lab_path, ["lab:grader"] * 3))
    assert len(folders) == 1
    assert [one.name for one in (tmp_path / "apportion").iterdir()] == [folders.pop().name]


def test_a_cache_that_is_no_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(ValueError, match="set XDG_CACHE_HOME to a folder that can be written to"):
        lab_path("lab:grader")
