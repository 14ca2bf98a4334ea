"""The files of a vLLM model that describe it: in its folder, in the hub's cache, or fetched from the hub.

The driver and the engine read the same ones. Weights are left to vLLM: of a model on the hub only their headers are
read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from apportion.actors.spec import ModelSpec
from apportion.errors import ModelError

DESCRIBING = ["*.json", "*.jinja", "*.model", "*.txt"]
"""Configuration, tokenizer and chat template; no weights."""

T = TypeVar("T")


def describing_folder(spec: ModelSpec) -> Path:
    """A folder that holds config.json and the tokenizer. ModelError where there is no such model."""
    folder = Path(spec.path)
    if folder.is_dir():
        return folder
    from huggingface_hub import snapshot_download

    revision = spec.engine_args.get("revision")
    return Path(_asking(spec, lambda: snapshot_download(spec.path, revision=revision, allow_patterns=DESCRIBING)))


def hub_tensors(spec: ModelSpec) -> Iterator[tuple[str, int]]:
    """Name and number of elements of every tensor of a model on the hub, from the headers of its files."""
    from huggingface_hub import get_safetensors_metadata

    revision = spec.engine_args.get("revision")
    metadata: Any = _asking(spec, lambda: get_safetensors_metadata(spec.path, revision=revision))
    for file in metadata.files_metadata.values():
        for name, tensor in file.tensors.items():
            yield name, int(tensor.parameter_count)


def _asking(spec: ModelSpec, ask: Callable[[], T]) -> T:
    """What the hub answers, or ModelError."""
    from huggingface_hub.errors import HFValidationError, NotASafetensorsRepoError, RepositoryNotFoundError

    where = f"models.{spec.name}.model: {spec.path!r}"
    try:
        return ask()
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise ModelError(
            f"{where} is neither a folder here nor a model on the hub (or one that asks for a login: `hf auth login`); "
            "correct the name"
        ) from error
    except NotASafetensorsRepoError as error:
        raise ModelError(
            f"{where} has no *.safetensors on the hub, the only weights that are read (never pickle); choose another"
        ) from error
    except Exception as error:
        # Whatever the network says; the hub's client lets through errors of the library below it.
        raise ModelError(
            f"{where} is not in the local Hugging Face cache and the hub does not give it ({type(error).__name__}: "
            f"{' '.join(str(error).split())[:200]}); run `hf download {spec.path}` where there is a network, or give a "
            "folder"
        ) from error
