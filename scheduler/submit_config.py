"""A config made fit for a cluster: what in it travels, what is already there, and what would be missing there.

The rule for a path: `lab:NAME`, URLs and absolute paths mean on the cluster what they say; a relative path is relative
to the folder that is shipped, `--working-dir`, and must lie in it. A fitted policy travels with the config, wherever it
lies. The run directory must be absolute or a URL: what a job writes into its shipped folder is deleted with it.
What travels is checked here as `apportion check` does; what is on the cluster is checked there, before spending.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from glob import glob, has_magic
from pathlib import Path
from typing import Any

from apportion.configs.build import build_job
from apportion.configs.load import ConfigSource, LoadedConfig, load_config
from apportion.configs.models import LAB_PREFIX, WITHOUT_FILES
from apportion.configs.schema import JobConfig
from apportion.errors import ConfigError, DataError, ModelError
from apportion.scheduler.assemble import build_costs, build_policy, prepare
from apportion.scheduler.dataset import read_dataset
from apportion.scheduler.plain import masked
from apportion.scheduler.rows import data_files


@dataclass(frozen=True, slots=True)
class Parcel:
    """A config as it is sent. `output` is for people, without secrets.

    `fitted` is a fitted policy's file to be sent with it; `config` then names none. `shipped` are
    the relative paths that the cluster must find in the folder that is shipped; None where none is.
    """

    config: dict[str, Any]
    source: str
    output: str
    fitted: Path | None
    shipped: tuple[str, ...] | None


@dataclass(slots=True)
class _Placing:
    """Where the files of a config lie: `here` is the config with what travels named by its path on this machine."""

    here: JobConfig
    sent: dict[str, Any]
    folder: Path | None
    fitted: Path | None = None
    models_away: set[str] = field(default_factory=set)
    dataset_away: bool = False
    shipped: list[str] = field(default_factory=list)


def pack(source: ConfigSource, overrides: list[str], working_dir: Path | None) -> Parcel:
    """Read a config, check what can be checked here, and make it fit to be sent.

    Raises what `apportion check` does of what travels, and ConfigError, DataError or ModelError for a file that would
    not be there.
    """
    loaded = load_config(source, overrides)
    placing = _Placing(copy.deepcopy(loaded.job), copy.deepcopy(dict(loaded.resolved)), working_dir)
    output = _check_output(loaded.job.output)
    _place_dataset(placing)
    for name in loaded.job.models:
        _place_model(placing, name)
    _place_fitted(placing)
    with _importable(working_dir):
        _check(LoadedConfig(placing.here, loaded.resolved, loaded.source), placing)
    placing.sent["cluster"] = {**placing.sent["cluster"], "address": "auto"}
    shipped = tuple(placing.shipped) if working_dir is not None else None
    return Parcel(placing.sent, loaded.source, output, placing.fitted, shipped)


def _check_output(output: str) -> str:
    if _is_there(output):
        return masked(output)
    raise ConfigError(
        f"output: {output!r} is relative, and would be deleted with the job's files on the cluster; give an absolute "
        f"path on storage that outlives the job, such as output=/mnt/shared/{Path(output).name}"
    )


def _place_dataset(placing: _Placing) -> None:
    path = placing.here.dataset.path
    if path is None or path.startswith(LAB_PREFIX):
        return
    inside = _inside(path, placing.folder)
    if inside is not None and placing.folder is not None:
        placing.here.dataset.path = str(inside[0])
        placing.sent["dataset"] = {**placing.sent["dataset"], "path": inside[1]}
        # Every file: with a part of them the job would be another.
        files, root = map(Path, data_files(str(inside[0]))), placing.folder.resolve()
        placing.shipped += [Path(_within(file.parent, root), file.name).as_posix() for file in files]
    elif _is_there(path):
        placing.dataset_away = True
    else:
        raise DataError(_missing("dataset.path", path, placing.folder))


def _place_model(placing: _Placing, name: str) -> None:
    config = placing.here.models[name]
    if config.engine in WITHOUT_FILES:
        _place_tokenizer(placing, name)
        return
    text = config.model
    if text.startswith(LAB_PREFIX):
        return
    inside = _inside(text, placing.folder)
    if inside is not None:
        config.model = str(inside[0])
        _send_model(placing, name, model=inside[1])
        placing.shipped.append(inside[1])
    elif _is_there(text):
        placing.models_away.add(name)
    elif Path(text).exists():
        raise ModelError(_missing(f"models.{name}.model", text, placing.folder))
    elif text.count("/") == 1 and not text.startswith("."):
        # A hub id: it is the cluster's cache, or its way to the hub, that counts.
        placing.models_away.add(name)


def _place_tokenizer(placing: _Placing, name: str) -> None:
    """That of a model behind an endpoint, which is read where the job and its replicas run."""
    config = placing.here.models[name]
    text = config.engine_args.get("tokenizer")
    if not isinstance(text, str) or text.startswith(LAB_PREFIX):
        return
    inside = _inside(text, placing.folder)
    if inside is not None:
        config.engine_args = {**config.engine_args, "tokenizer": str(inside[0])}
        sent = placing.sent["models"][name]["engine_args"]
        _send_model(placing, name, engine_args={**sent, "tokenizer": inside[1]})
        placing.shipped.append(inside[1])
    elif not _is_there(text):
        raise ModelError(_missing(f"models.{name}.engine_args.tokenizer", text, placing.folder))
    elif not Path(text).expanduser().is_dir():
        placing.models_away.add(name)


def _send_model(placing: _Placing, name: str, **changes: Any) -> None:
    models = placing.sent["models"]
    placing.sent["models"] = {**models, name: {**models[name], **changes}}


def _place_fitted(placing: _Placing) -> None:
    text = placing.here.difficulty.fitted
    if text is None:
        return
    inside = _inside(text, placing.folder)
    file = inside[0] if inside is not None else Path(text).expanduser()
    if file.is_file():
        placing.here.difficulty.fitted = str(file.absolute())
        placing.fitted = file.absolute()
        placing.sent["difficulty"] = {**placing.sent["difficulty"], "fitted": None}
    elif _is_there(text):
        placing.here.difficulty.fitted = None


def _check(loaded: LoadedConfig, placing: _Placing) -> None:
    """Everything that can be known here to be wrong; where all files travel, that is all but the cluster's room."""
    spec = build_job(loaded, placing.dataset_away, placing.models_away)
    if placing.dataset_away:
        return
    if placing.models_away.intersection(spec.models):
        read_dataset(spec.dataset)
        return
    prepared = prepare(spec)
    build_policy(prepared, build_costs(prepared))


@contextmanager
def _importable(folder: Path | None) -> Iterator[None]:
    """A user's own code in the folder can be imported, as on the cluster, while the config is checked."""
    if folder is None:
        yield
        return
    sys.path.append(str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


def _is_there(text: str) -> bool:
    """Whether a path means the same wherever the job runs."""
    return "://" in text or text.startswith("~") or Path(text).is_absolute()


def _inside(text: str, folder: Path | None) -> tuple[Path, str] | None:
    """The path on this machine and the path in the folder of what is in it, or of a glob that finds something there;
    None for anything else."""
    if folder is None or "://" in text or not text:
        return None
    path, root = folder / Path(text).expanduser(), folder.resolve()
    there = path.exists()
    names = [path] if there else [Path(name) for name in glob(str(path), recursive=True)]
    if not names or not all(name.resolve().is_relative_to(root) for name in names):
        return None
    if there:
        return path, _within(path, root)
    first = next(at for at, part in enumerate(path.parts) if has_magic(part))
    return path, Path(_within(Path(*path.parts[:first]), root), *path.parts[first:]).as_posix()


def _within(path: Path, root: Path) -> str:
    return path.resolve().relative_to(root).as_posix()


def _missing(key: str, text: str, folder: Path | None) -> str:
    here = Path(text).exists()
    what = f"{key}: {masked(text)!r}"
    if folder is None:
        state = "is on this machine only" if here else "is relative, and no folder is shipped with this job"
        return (
            f"{what} {state}; ship the folder it lies in with --working-dir FOLDER (it is then relative to that), or "
            "give a path or URL that the cluster can read"
        )
    state = "is on this machine, but not in" if here else "is not in"
    return (
        f"{what} {state} --working-dir {folder}; relative paths are relative to that folder. Move it there, ship "
        "another folder, or give a path or URL that the cluster can read"
    )
