"""From a config to a job: names, values and files checked against each other before anything is spent."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from apportion.actors.spec import Role
from apportion.configs.build import IN_MEMORY, load_job
from apportion.costs import Unit
from apportion.errors import ApportionError, ConfigError, DataError, ModelError
from apportion.lab import lab_path
from apportion.types import Sampling


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A config with a policy and a scorer, in a directory that holds its dataset and a model folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "d.jsonl").write_text('{"prompt": "hi"}\n')
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "config.json").write_text("{}")
    (tmp_path / "fitted.json").write_text("{}")
    return {
        "dataset": {"path": "d.jsonl"},
        "output": "runs/x",
        "budget": {"amount": 1.0e9, "unit": "flops"},
        "models": {
            "small": {"engine": "fake", "model": "x", "step_separator": "\n"},
            "prm": {"engine": "fake", "role": "scorer", "model": "y", "aggregate": "min"},
        },
        "arms": {
            "vote": {"strategy": "best_of_n", "policy": "small", "n": [8, 1, 8], "stop": ["END"], "top_p": 0.9},
            "beam": {
                "strategy": "beam_search",
                "policy": "small",
                "verifier": "prm",
                "select": "weighted",
                "width": 4,
                "n": [4, 16],
            },
        },
    }


def test_a_job_is_built_with_everything_in_its_place(config: dict[str, Any], tmp_path: Path) -> None:
    job = load_job(config, ["difficulty.fitted=fitted.json", "execution.in_flight=5", "execution.ordered=true"])
    vote, beam = job.arms
    assert (job.budget, job.unit, job.objective, job.allocation) == (1e9, Unit.FLOPS, "accuracy", "price")
    assert job.dataset.path == str(tmp_path / "d.jsonl")
    assert job.fitted == str(tmp_path / "fitted.json")
    assert job.output == Path("runs/x")
    assert (job.in_flight, job.ordered, job.cluster) == (5, True, "local")
    assert {name: model.role for name, model in job.models.items()} == {"small": Role.POLICY, "prm": Role.SCORER}
    assert vote.amounts == (1, 8), "ascending, each once"
    assert vote.sampling == Sampling(0.7, 0.9, 2048, ("END",))
    assert (vote.verifier, vote.aggregate, vote.select) == (None, "last", "majority")
    assert beam.aggregate == "min", "the verifier's, where the arm names none"
    assert beam.step_separator == "\n", "the policy model's, where the arm names none"
    assert beam.strategy.width == 4  # type: ignore[attr-defined]


def test_the_arm_has_the_last_word_over_its_models(config: dict[str, Any]) -> None:
    job = load_job(config, ["arms.beam.aggregate=product", 'arms.beam.step_separator="###"'])
    assert job.arms[1].aggregate == "product"
    assert job.arms[1].step_separator == "###"


def test_models_that_no_arm_uses_are_neither_loaded_nor_looked_for(config: dict[str, Any]) -> None:
    job = load_job(config, ["arms.beam=null", "models.prm.engine=embedded", "models.prm.model=/not/there"])
    assert list(job.models) == ["small"]


def test_rows_handed_over_need_no_dataset_path(config: dict[str, Any]) -> None:
    del config["dataset"]["path"]
    assert load_job(config, rows_given=True).dataset.path == IN_MEMORY
    with pytest.raises(ConfigError, match=r"dataset\.path is missing"):
        load_job(config)


@pytest.mark.parametrize(
    ("row", "room"),
    [
        # row of the model                            gpus, parallel, replicas, fewest
        ("{replicas: 3}", (0.0, 1, 3, None)),
        ("{gpus: 2}", (2.0, 1, 1, None)),
        ("{tensor_parallel: 4, replicas: 2}", (4.0, 4, 2, None)),
        ("{tensor_parallel: 2, gpus: 2}", (2.0, 2, 1, None)),
        ("{gpu_fraction: 0.6}", (0.6, 1, 1, None)),
        ("{gpu_fraction: 0.4, replicas: {min: 1, max: 4}}", (0.4, 1, 4, 1)),
    ],
)
def test_what_a_replica_takes(config: dict[str, Any], row: str, room: tuple[float, int, int, int | None]) -> None:
    spec = load_job(config, [f"models.small={row}"]).models["small"]
    assert (spec.gpus, spec.tensor_parallel, spec.replicas, spec.least_replicas) == room


def test_lab_names_folders_and_urls_are_found(config: dict[str, Any], tmp_path: Path) -> None:
    assert load_job(config, ["dataset.path=s3://bucket/d.jsonl"]).dataset.path == "s3://bucket/d.jsonl"
    job = load_job(config, ["models.small.engine=embedded", "models.small.model=folder"])
    assert job.models["small"].path == str(tmp_path / "folder")


def test_a_hub_model_in_the_local_cache_is_its_snapshot(
    config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = tmp_path / "cache" / "models--some--model" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    (snapshot.parent.parent / "refs").mkdir()
    (snapshot.parent.parent / "refs" / "main").write_text("abc")
    import huggingface_hub.constants
    import huggingface_hub.file_download

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    job = load_job(config, ["models.small.engine=embedded", "models.small.model=some/model"])
    assert job.models["small"].path == str(snapshot)


# what is wrong -> what is changed -> the error -> what its message must hold
WRONG: list[tuple[str, list[str], type[ApportionError], list[str]]] = [
    ("missing dataset", ["dataset.path=nope.jsonl"], DataError, ["dataset.path: ", "/nope.jsonl is not there"]),
    (
        "dataset is a folder",
        ["dataset.path=folder"],
        DataError,
        ["/folder holds no JSONL or Parquet file; correct dataset.path"],
    ),
    ("unknown lab dataset", ["dataset.path=lab:tset"], ConfigError, ["dataset.path", "Did you mean 'lab:test'?"]),
    ("no rows to read", ["dataset.limit=0"], ConfigError, ["dataset.limit is 0, but must be a number of at least 1"]),
    (
        "unknown unit",
        ["budget.unit=flop"],
        ConfigError,
        ["budget.unit: no unit is called 'flop'; did you mean 'flops'?"],
    ),
    ("zero budget", ["budget.amount=0"], ConfigError, ["budget.amount is 0, but must be a finite number above 0"]),
    ("negative budget", ["budget.amount=-5"], ConfigError, ["budget.amount is -5, but must be"]),
    ("budget not a number", ["budget.amount=.nan"], ConfigError, ["budget.amount is nan, but must be"]),
    ("infinite budget", ["budget.amount=.inf"], ConfigError, ["budget.amount is inf, but must be"]),
    ("dollars without a price", ["budget.unit=dollars"], ConfigError, ["models.prm has no price", "dollars_per_hour"]),
    ("unknown objective", ["objective=acc"], ConfigError, ["objective: no objective is called 'acc'", "'accuracy'"]),
    ("quota of nothing", ["objective=quota"], ConfigError, ["objective.k is missing"]),
    ("pairs of votes", ["objective=pairs"], ConfigError, ["objective 'pairs' counts", "arms.vote has no verifier"]),
    (
        "policy that cannot count",
        ["objective={name: quota, k: 2}", "arms.vote=null", "allocation.policy=elimination"],
        ConfigError,
        ["'elimination' knows nothing of the objective 'quota'", "allocation.policy=price"],
    ),
    ("no arms", ["arms.vote=null", "arms.beam=null"], ConfigError, ["arms is empty; name at least one"]),
    ("no models", ["models.small=null", "models.prm=null"], ConfigError, ["models is empty; name at least one"]),
    ("unknown engine", ["models.small.engine=embeded"], ConfigError, ["no engine is called 'embeded'", "'embedded'"]),
    ("unknown role", ["models.small.role=polic"], ConfigError, ["models.small.role: no role is called 'polic'"]),
    ("no replicas", ["models.small.replicas=0"], ConfigError, ["models.small.replicas is 0", "at least 1"]),
    ("half a replica", ["models.small.replicas=1.5"], ConfigError, ["models.small.replicas is 1.5", "whole number"]),
    ("only the fewest", ["models.small.replicas={min: 1}"], ConfigError, ["models.small.replicas.max is missing"]),
    ("more than the most", ["models.small.replicas={min: 3, max: 2}"], ConfigError, ["min is 3 and max is 2"]),
    ("a typo in replicas", ["models.small.replicas={mni: 1, max: 2}"], ConfigError, ["did you mean 'min'"]),
    ("gpus twice", ["models.small={gpus: 1, gpu_fraction: 0.5}"], ConfigError, ["gpus is 1 and gpu_fraction 0.5"]),
    (
        "a share of several GPUs",
        ["models.small={tensor_parallel: 2, gpu_fraction: 0.5}"],
        ConfigError,
        ["gpu_fraction is 0.5 and tensor_parallel 2", "leave gpu_fraction out"],
    ),
    (
        "other GPUs than are used",
        ["models.small={tensor_parallel: 2, gpus: 4}"],
        ConfigError,
        ["gpus is 4 and tensor_parallel 2", "make them equal"],
    ),
    ("more than a share", ["models.small.gpu_fraction=1.5"], ConfigError, ["gpu_fraction is 1.5", "at most 1"]),
    ("a GPU and a half", ["models.small.gpus=1.5"], ConfigError, ["gpus is 1.5", "whole GPUs"]),
    ("no time at all", ["models.small.timeout_s=0"], ConfigError, ["timeout_s is 0"]),
    ("no time to load", ["models.small.load_timeout_s=0"], ConfigError, ["load_timeout_s is 0"]),
    ("negative gpus", ["models.small.gpus=-1"], ConfigError, ["models.small.gpus is -1", "at least 0"]),
    ("nan price", ["models.small.dollars_per_hour=.nan"], ConfigError, ["models.small.dollars_per_hour is nan"]),
    (
        "missing model folder",
        ["models.small.engine=embedded", "models.small.model=not/there/at-all"],
        ModelError,
        ["models.small.model: the model folder ", "/not/there/at-all is not there; give a Hugging Face model folder"],
    ),
    (
        "model is a file",
        ["models.small.engine=embedded", "models.small.model=./d.jsonl"],
        ModelError,
        ["/d.jsonl is a file"],
    ),
    (
        "folder without a model",
        ["models.small.engine=embedded", "models.small.model=."],
        ModelError,
        ["has no config.json; give a Hugging Face model folder"],
    ),
    (
        "hub model that is not here",
        ["models.small.engine=embedded", "models.small.model=some/model"],
        ModelError,
        ["'some/model' is neither a folder of", "downloads nothing; run `hf download some/model` first"],
    ),
    (
        "unknown lab model",
        ["models.small.engine=embedded", "models.small.model=lab:smal"],
        ConfigError,
        ["models.small.model", "Did you mean 'lab:small'?"],
    ),
    (
        "lab dataset as a model",
        ["models.small.engine=embedded", "models.small.model=lab:test"],
        ModelError,
        ["lab/data/test.jsonl is a file; give a Hugging Face model folder"],
    ),
    ("unknown strategy", ["arms.vote.strategy=best_of"], ConfigError, ["'best_of'; did you mean 'best_of_n'?"]),
    (
        "unknown policy",
        ["arms.vote.policy=smal"],
        ConfigError,
        ["arms.vote.policy: no model is called 'smal'", "'small'"],
    ),
    (
        "scorer as policy",
        ["arms.vote.policy=prm"],
        ConfigError,
        ["arms.vote.policy: 'prm' has the role scorer", "small"],
    ),
    ("unknown verifier", ["arms.beam.verifier=pmr"], ConfigError, ["no model is called 'pmr'", "did you mean 'prm'?"]),
    (
        "policy as verifier",
        ["arms.beam.verifier=small"],
        ConfigError,
        ["'small' has the role policy", "needs a scorer"],
    ),
    (
        "missing verifier",
        ["arms.beam.verifier=null"],
        ConfigError,
        ["arms.beam.verifier is missing: beam_search needs a verifier; add `verifier: prm`"],
    ),
    (
        "missing verifier, no scorer",
        ["arms.beam.verifier=null", "models.prm=null"],
        ConfigError,
        ["needs a verifier; add a model with `role: scorer`"],
    ),
    (
        "scores without a verifier",
        ["arms.vote.select=weighted"],
        ConfigError,
        ["arms.vote.select: weighted needs scores"],
    ),
    ("unknown selector", ["arms.beam.select=wieghted"], ConfigError, ["arms.beam.select", "did you mean 'weighted'?"]),
    ("unknown aggregate", ["arms.beam.aggregate=first"], ConfigError, ["arms.beam.aggregate: no aggregate is called"]),
    ("unknown aggregate of a model", ["models.prm.aggregate=lst"], ConfigError, ["models.prm.aggregate", "'last'"]),
    ("unknown setting", ["arms.beam.widht=4"], ConfigError, ["unknown key 'arms.beam.widht' (value 4)", "'width'"]),
    ("mistyped key of an arm", ["arms.vote.selct=x"], ConfigError, ["unknown key 'arms.vote.selct'", "'select'"]),
    ("setting of a wrong type", ["arms.beam.width=wide"], ConfigError, ["arms.beam.width is 'wide'; it must be"]),
    ("no amounts", ["arms.vote.n=[]"], ConfigError, ["arms.vote.n is empty"]),
    ("an amount of none", ["arms.vote.n=[0]"], ConfigError, ["arms.vote.n is 0, but must be a number of at least 1"]),
    ("an amount the strategy cannot honour", ["arms.beam.n=[4,6]"], ConfigError, ["arms.beam.n: n is 6", "width 4"]),
    (
        "trees that the width does not divide",
        ["arms.beam.strategy=dvts", "arms.beam.n=[8,10]"],
        ConfigError,
        ["arms.beam.n: n is 10, which width 4 does not divide; use n: 8 or 12"],
    ),
    (
        "a root that is none",
        ["arms.beam.strategy=lookahead", "arms.beam.width=sqrt", "arms.beam.n=[8]"],
        ConfigError,
        ["arms.beam.n: n is 8, and width sqrt needs a square of at least 4; use n: 4 or 9"],
    ),
    (
        "a lookahead with nothing to choose",
        ["arms.beam.strategy=lookahead", "arms.beam.depth=1"],
        ConfigError,
        ["arms.beam.k is 1, but with depth 1", "use depth: 2 or more"],
    ),
    (
        "trees without a verifier",
        ["arms.beam.strategy=dvts", "arms.beam.verifier=null"],
        ConfigError,
        ["arms.beam.verifier is missing: dvts needs a verifier; add `verifier: prm`"],
    ),
    ("negative temperature", ["arms.vote.temperature=-1"], ConfigError, ["arms.vote.temperature is -1"]),
    (
        "top_p above 1",
        ["arms.vote.top_p=1.5"],
        ConfigError,
        ["arms.vote.top_p is 1.5, but must be above 0 and at most 1"],
    ),
    ("no tokens", ["arms.vote.max_tokens=0"], ConfigError, ["arms.vote.max_tokens is 0"]),
    ("empty stop string", ["arms.vote.stop=['']"], ConfigError, ["arms.vote.stop holds an empty string"]),
    ("empty separator", ["arms.vote.step_separator=''"], ConfigError, ["arms.vote.step_separator is empty"]),
    ("no probe", ["difficulty.probe=0"], ConfigError, ["difficulty.probe is 0, but must be a number of at least 1"]),
    ("negative probe", ["difficulty.probe=-1"], ConfigError, ["difficulty.probe is -1"]),
    (
        "missing fitted policy",
        ["difficulty.fitted=no.json"],
        ConfigError,
        ["difficulty.fitted: ", "/no.json is no file"],
    ),
    ("unknown allocation", ["allocation.policy=prize"], ConfigError, ["'prize'; did you mean 'price'?"]),
    ("unknown kind of answer", ["answer.kind=nummer"], ConfigError, ["answer.kind", "did you mean 'number'?"]),
    ("unknown setting of answers", ["answer.patern=x"], ConfigError, ["unknown key 'answer.patern'", "'pattern'"]),
    ("answer setting of a wrong type", ["answer={pattern: 3}"], ConfigError, ["answer.pattern is 3; it must be"]),
    ("nothing in flight", ["execution.in_flight=0"], ConfigError, ["execution.in_flight is 0"]),
    (
        "no Ray address",
        ["cluster.address=remote"],
        ConfigError,
        ["cluster.address: 'remote' is no Ray address", "HOST:PORT"],
    ),
]


@pytest.mark.parametrize(("overrides", "error", "holds"), [row[1:] for row in WRONG], ids=[row[0] for row in WRONG])
def test_what_cannot_be_run_is_named(
    config: dict[str, Any], overrides: list[str], error: type[ApportionError], holds: list[str]
) -> None:
    with pytest.raises(error) as caught:
        load_job(config, overrides)
    for text in holds:
        assert text in str(caught.value)


def test_a_secret_within_a_url_is_used_and_never_kept(config: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APPORTION_TEST_KEY", "from-env")
    config["dataset"]["path"] = "https://me:hunter2@host/d.jsonl?token=hunter3"
    config["dataset"]["system"] = "see https://host/?page=1"
    config["output"] = "memory://me:hunter4@bucket/runs"
    config["models"]["small"]["engine_args"] = {"base_url": ["http://me:hunter5@host/v1"], "seed": 3}
    config["cluster"] = {"address": "ray://host:10001?token=${oc.env:APPORTION_TEST_KEY}"}
    spec = load_job(config)
    assert spec.dataset.path == "https://me:hunter2@host/d.jsonl?token=hunter3"
    assert spec.publish == "memory://me:hunter4@bucket/runs"
    kept = yaml.safe_dump(dict(spec.resolved))
    assert "hunter" not in kept
    assert "from-env" not in kept
    assert spec.resolved["dataset"]["path"] == "https://***@host/d.jsonl?token=***"
    assert spec.resolved["dataset"]["system"] == "see https://host/?page=1", "what is said to a model is kept"
    assert spec.resolved["models"]["small"]["engine_args"] == {"base_url": ["http://***@host/v1"], "seed": 3}
    assert spec.resolved["cluster"]["address"] == "ray://host:10001?token=${oc.env:APPORTION_TEST_KEY}"


def test_a_bad_config_is_found_without_importing_a_framework(config: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "job.json").write_text(json.dumps(config))
    code = (
        "import json, sys\n"
        "from apportion.configs.build import load_job\n"
        "job = load_job(json.load(open('job.json')))\n"
        "print([name for name in ('ray', 'torch', 'transformers', 'vllm') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_quickstart_is_a_job_as_soon_as_its_files_are_there() -> None:
    missing = [name for name in ("lab:test", "lab:small", "lab:prm") if not lab_path(name).exists()]
    if missing:
        pytest.skip(f"not made yet: {', '.join(missing)}")
    job = load_job("quickstart")
    assert job.dataset.limit == 200
    assert [arm.strategy.name for arm in job.arms] == ["best_of_n", "beam_search"]
    assert {arm.step_separator for arm in job.arms} == {"\n"}
