"""Reading configs: sources, overrides, interpolation, and what a config of the wrong shape gets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf

from apportion.configs.load import PACKAGED, load_config, packaged_names
from apportion.errors import ConfigError

WHOLE: dict[str, Any] = {
    "dataset": {"path": "d.jsonl"},
    "output": "runs/x",
    "budget": {"amount": 1.0e9, "unit": "flops"},
    "models": {"small": {"engine": "fake", "model": "x"}},
    "arms": {"vote": {"strategy": "best_of_n", "policy": "small", "n": [1, 2]}},
}


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "job.yaml"
    path.write_text(text)
    return path


def test_a_file_a_mapping_and_an_omegaconf_config_are_the_same(tmp_path: Path) -> None:
    path = written(tmp_path, yaml.safe_dump(WHOLE))
    jobs = [load_config(source).job for source in (path, str(path), WHOLE, OmegaConf.create(WHOLE))]
    assert all(job == jobs[0] for job in jobs)
    assert jobs[0].budget.amount == 1e9
    assert jobs[0].arms["vote"].n == [1, 2]


def test_overrides_are_yaml_dotted_and_the_last_one_counts() -> None:
    overrides = ["budget.amount=2e15", "arms.vote.n=[4,8]", "seed=1", "seed=7", "dataset.system='a=b'"]
    job = load_config(WHOLE, overrides).job
    assert job.budget.amount == 2e15
    assert job.arms["vote"].n == [4, 8]
    assert job.seed == 7
    assert job.dataset.system == "a=b"


def test_null_takes_a_row_out_and_a_single_n_is_one_amount() -> None:
    two = {**WHOLE, "arms": {**WHOLE["arms"], "more": {"strategy": "best_of_n", "policy": "small", "n": 4}}}
    assert list(load_config(two).job.arms) == ["vote", "more"]
    assert load_config(two).job.arms["more"].n == [4]
    assert list(load_config(two, ["arms.vote=null"]).job.arms) == ["more"]


def test_own_settings_stand_beside_the_other_keys_and_come_out_there_again() -> None:
    loaded = load_config(WHOLE, ["arms.vote.width=4", "answer.pattern=x", "allocation.floor=2"])
    assert loaded.job.arms["vote"].settings == {"width": 4}
    assert loaded.job.answer.settings == {"pattern": "x"}
    assert loaded.resolved["arms"]["vote"]["width"] == 4
    assert loaded.resolved["allocation"] == {"policy": "price", "floor": 2}
    assert "settings" not in loaded.resolved["arms"]["vote"]


def test_the_resolved_config_is_whole_and_loads_to_the_same_job(tmp_path: Path) -> None:
    loaded = load_config(WHOLE, ["arms.vote.width=4"])
    again = load_config(written(tmp_path, yaml.safe_dump(dict(loaded.resolved))))
    assert again.job == loaded.job
    assert again.resolved == loaded.resolved
    assert loaded.resolved["seed"] == 0


def test_a_secret_from_the_environment_is_used_and_never_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APPORTION_TEST_KEY", "sk-secret")
    monkeypatch.setenv("APPORTION_TEST_SEED", "5")
    config = {
        **WHOLE,
        "dataset": {"path": "https://host/d.jsonl?token=${oc.env:APPORTION_TEST_KEY}"},
        "models": {
            "small": {
                "engine": "fake",
                "model": "x",
                "engine_args": {"headers": [{"key": "${oc.env:APPORTION_TEST_KEY}"}]},
            },
            "other": {
                "engine": "fake",
                "model": "x",
                "engine_args": {"key": "${models.small.engine_args.headers[0].key}"},
            },
        },
        "seed": "${oc.env:APPORTION_TEST_SEED}",
    }
    loaded = load_config(config)
    assert loaded.job.models["small"].engine_args == {"headers": [{"key": "sk-secret"}]}
    assert loaded.job.models["other"].engine_args == {"key": "sk-secret"}
    assert loaded.job.dataset.path == "https://host/d.jsonl?token=sk-secret"
    assert "sk-secret" not in yaml.safe_dump(dict(loaded.resolved))
    assert loaded.resolved["models"]["small"]["engine_args"]["headers"] == [{"key": "${oc.env:APPORTION_TEST_KEY}"}]
    assert loaded.resolved["seed"] == 5


@pytest.mark.parametrize("text", ["${HOME} costs", r"\${x}", r"a\\${x", "$x$ and {y}", "${oc.env:APPORTION_TEST_KEY}"])
def test_text_from_the_environment_is_never_read_as_an_interpolation(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str
) -> None:
    monkeypatch.setenv("APPORTION_TEST_KEY", text)
    loaded = load_config(WHOLE, ["dataset.system=${oc.env:APPORTION_TEST_KEY}", "answer.pattern=${dataset.system}"])
    assert loaded.job.dataset.system == text
    assert loaded.job.answer.settings == {"pattern": text}
    again = load_config(written(tmp_path, yaml.safe_dump(dict(loaded.resolved))))
    assert again.job == loaded.job


def test_a_packaged_name_wins_over_a_folder_or_file_of_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "quickstart").write_text("nonsense: 1")
    assert "quickstart" in packaged_names(".yaml")
    assert load_config("quickstart").job.dataset.path == "lab:test"


# what is wrong -> what is changed -> what the message must hold
SHAPES: list[tuple[str, list[str], list[str]]] = [
    ("unknown key", ["budjet.amount=3"], ["unknown key 'budjet'", "did you mean 'budget'?"]),
    ("unknown key in a section", ["budget.ammount=3"], ["'budget.ammount' (value 3)", "did you mean 'amount'?"]),
    ("unknown key of a model", ["models.small.gpu=1"], ["'models.small.gpu' (value 1)", "did you mean 'gpus'?"]),
    ("key at the wrong place", ["unit=flops"], ["unknown key 'unit' (value 'flops')", "did you mean 'budget.unit'?"]),
    ("settings written out", ["arms.vote.settings={}"], ["unknown key 'arms.vote.settings'"]),
    ("text for a number", ["budget.amount=lots"], ["budget.amount is 'lots', but must be a number"]),
    ("a list for text", ["budget={amount: 1, unit: [flops]}"], ["budget.unit is ['flops'], but must be text"]),
    (
        "a fraction for a whole number",
        ["models.small.max_batch=1.5"],
        ["models.small.max_batch is 1.5", "whole number"],
    ),
    ("a truth value for a number", ["seed=true"], ["seed is True, but must be a whole number"]),
    ("text among numbers", ["arms.vote.n=[1,two]"], ["arms.vote.n[1] is 'two', but must be a whole number"]),
    ("text for a list", ["arms.vote.n=many"], ["arms.vote.n is 'many', but must be a list, each item a whole number"]),
    ("a number for a section", ["budget=3"], ["budget is 3, but must be a mapping with the keys amount, unit"]),
    ("a number for a model", ["models.small=3"], ["models.small is 3, but must be a mapping with the keys model"]),
    ("a list for models", ["models=3"], ["models is 3, but must be a mapping from names to models"]),
    ("null for a value", ["output=null"], ["output is None, but must be text"]),
    ("null for a section", ["dataset=null"], ["dataset is None, but must be a mapping"]),
    ("override without a value", ["budget.amount"], ["override 'budget.amount' is not key=value"]),
    ("override without a key", ["=3"], ["override '=3' is not key=value"]),
    ("override of nothing", ["budget..amount=3"], ["override 'budget..amount=3' is not key=value"]),
    ("override that is no YAML", ["arms.vote.n=[1"], ["is not YAML"]),
    ("override of another shape", ["arms=[1]"], ["overrides 'arms=[1]' do not fit the config"]),
    ("variable that is not set", ["output=${oc.env:APPORTION_NOT_SET}"], ["output", "'APPORTION_NOT_SET' not found"]),
    ("reference to nothing", ["output=${nothing}"], ["output", "'nothing' not found"]),
]


@pytest.mark.parametrize(("overrides", "holds"), [row[1:] for row in SHAPES], ids=[row[0] for row in SHAPES])
def test_a_config_of_the_wrong_shape_is_named(overrides: list[str], holds: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(WHOLE, overrides)
    for text in holds:
        assert text in str(caught.value)


@pytest.mark.parametrize("missing", ["output", "budget.amount", "budget.unit", "models.small.model", "arms.vote.n"])
def test_a_missing_key_is_named(missing: str) -> None:
    config = OmegaConf.create(WHOLE)
    *path, last = missing.split(".")
    section = OmegaConf.select(config, ".".join(path)) if path else config
    del section[last]
    with pytest.raises(ConfigError, match=f"lacks {missing}; add the key or give it as {missing}=VALUE"):
        load_config(config)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("budget: {amount: 1\nunit: 2", "job.yaml, line 2, column 5: "),
        ("seed: 1\nseed: 2\n", "job.yaml, line 2, column 1: found duplicate key seed"),
        ("output: a\n\tseed: 1\n", "job.yaml, line 2, column 1: found "),
        ("- a\n- b\n", "holds a list, but a config is a mapping of keys to values"),
        ("seed: !!python/object/apply:os.getcwd []\n", "line 1, column 7: could not determine a constructor"),
    ],
)
def test_a_file_that_is_no_config_is_named_with_the_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(written(tmp_path, text))
    assert message in str(caught.value)


def test_a_file_in_another_encoding_is_named(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_bytes(b"output: caf\xe9\n")
    with pytest.raises(ConfigError, match="is not YAML in UTF-8"):
        load_config(tmp_path / "job.yaml")


def test_a_config_that_is_not_there_is_named_with_the_packaged_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"config 'quikstart' is no file in .*did you mean 'quickstart'\? known: "):
        load_config("quikstart")
    with pytest.raises(ConfigError, match=r"config '.*' is a folder, not a YAML file"):
        load_config(tmp_path)


@pytest.mark.parametrize("value", [object(), b"bytes", {1, 2}])
def test_a_value_that_yaml_cannot_hold_is_named(value: Any) -> None:
    with pytest.raises(ConfigError, match="pattern"):
        load_config({**WHOLE, "answer": {"pattern": value}})


@pytest.mark.parametrize(
    ("section", "change", "named"),
    [
        ("dataset", {"id": False}, "dataset.id"),
        ("output", True, "output"),
        ("arms", {"stop": [False]}, "arms.vote.stop"),
    ],
)
def test_a_word_that_yaml_reads_as_a_truth_value_is_to_be_quoted(section: str, change: Any, named: str) -> None:
    """A column called `no`, without quotes, is not the column False."""
    config = yaml.safe_load((PACKAGED / "quickstart.yaml").read_text())
    if section == "arms":
        config["arms"]["vote"] |= change
    else:
        config[section] = config[section] | change if isinstance(change, dict) else change
    with pytest.raises(ConfigError, match=rf"{named} holds a truth value.*put it in quotes"):
        load_config(config)


def test_paths_from_python_are_text(tmp_path: Path) -> None:
    config = {**WHOLE, "output": tmp_path, "answer": {"pattern": tmp_path}}
    loaded = load_config(config)
    assert loaded.job.output == loaded.job.answer.settings["pattern"] == str(tmp_path)
    yaml.safe_dump(dict(loaded.resolved))
