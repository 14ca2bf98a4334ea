"""Which format a reward model has: the one its row names, else the one its config.json shows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from apportion.actors.architectures import NEITHER, SCORING, WRITING, all_are, architectures_of, who_runs
from apportion.actors.score_formats import MathShepherd, Outcome, QwenMathPrm, ScoreFormat, SkyworkPrm
from apportion.actors.spec import ModelSpec
from apportion.actors.tokens import ChatTokenizer, PlainTokenizer
from apportion.errors import ConfigError, nearest

FORMATS: Mapping[str, type[ScoreFormat]] = {
    kind.name: kind for kind in (QwenMathPrm, SkyworkPrm, MathShepherd, Outcome)
}
"""By the name that `engine_args.format` gives."""

LABELS = (1, 2)
"""of a sequence classifier whose score can be read"""


def known_format(model: str, engine_args: Mapping[str, Any], config: Mapping[str, Any] | None) -> ScoreFormat | None:
    """The format of a scorer, None where its row names none and there is no config.json to tell.

    ConfigError for a name that is none or that of a format which the architecture does not have, and where config.json
    is that of no format.
    """
    given = engine_args.get("format")
    found = architectures_of(config, engine_args) if config is not None else ()
    own = [name for name, kind in FORMATS.items() if all_are(found, kind.architectures)]
    if given is not None:
        if given not in FORMATS:
            raise ConfigError(
                f"models.{model}.engine_args.format: no format is called {given!r}; {nearest(str(given), FORMATS)}"
            )
        _check_head(model, given, found, own)
        return _made(model, given, engine_args, config)
    if config is None:
        return None
    if own:
        return _made(model, own[0], engine_args, config)
    if all_are(found, WRITING):
        raise ConfigError(
            f"models.{model}: {', '.join(found)} is {who_runs(found)}, and it has no head that scores; give a reward "
            f"model, or set engine_args.format: {MathShepherd.name} for one that says + or - after each step as "
            "Math-Shepherd does"
        )
    raise ConfigError(
        f"models.{model}: how a scorer of the architecture {', '.join(found) or '(config.json names none)'} "
        f"wants a response written is not known; set engine_args.format to one of {', '.join(FORMATS)}"
    )


def _check_head(model: str, given: str, found: Sequence[str], own: Sequence[str]) -> None:
    """ConfigError where a model has not the head that a format reads: it would be a random one, or another's."""
    named = f"models.{model}.engine_args.format is {given}, but the architecture is {', '.join(found)}"
    if own and given not in own:
        raise ConfigError(f"{named}, which is written to and read as {own[0]}; leave format out")
    reads_words = given == MathShepherd.name
    if all_are(found, (*SCORING, *NEITHER) if reads_words else (*WRITING, *NEITHER)) and not own:
        head = "writes + and -" if reads_words else "scores"
        raise ConfigError(
            f"{named}, {who_runs(found)}, and it has no head that {head}; give a model of that format, or, where the "
            "weights have that head all the same, its architecture in engine_args.hf_overrides: {architectures: [...]}"
        )


def _made(model: str, name: str, engine_args: Mapping[str, Any], config: Mapping[str, Any] | None) -> ScoreFormat:
    if name != Outcome.name:
        return FORMATS[name]()
    labels = labels_of(config) if config is not None else 1
    if labels not in LABELS:
        raise ConfigError(
            f"models.{model}: its config.json has {labels} labels, and which of them says that a response is good is "
            "not known; use a reward model of one label, or of two of which the second is good"
        )
    return Outcome(str(engine_args.get("step_separator", Outcome().separator)))


def labels_of(config: Mapping[str, Any]) -> int:
    """Labels of a sequence classifier, 2 where config.json says nothing, as transformers has it."""
    if config.get("num_labels") is not None:
        return int(config["num_labels"])
    return len(config.get("id2label") or (0, 1))


def local_config(model: str) -> Mapping[str, Any] | None:
    """config.json of a folder or of a hub id in the hub's local cache, None where there is none that can be read."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    file: Any = Path(model) / "config.json"
    if not file.is_file():
        try:
            file = try_to_load_from_cache(model, "config.json")
        except HFValidationError:
            return None
    if not isinstance(file, str | Path):
        return None
    try:
        config = json.loads(Path(file).read_text())
    except (OSError, ValueError):
        # Whoever loads the model says what is wrong with the file.
        return None
    return config if isinstance(config, dict) else None


def fetched_config(hub_id: str, revision: str | None) -> Mapping[str, Any] | None:
    """config.json of a model on the hub, which is then in the local cache; None where the hub does not give it."""
    from huggingface_hub import hf_hub_download

    try:
        return local_config(str(Path(hf_hub_download(hub_id, "config.json", revision=revision)).parent))
    except Exception:
        # Whatever the network or the hub says: whoever loads the model is told.
        return None


def tokenizer_of(spec: ModelSpec, form: ScoreFormat, folder: Path) -> ChatTokenizer:
    """The tokenizer a format writes with."""
    return ChatTokenizer(folder, spec.engine_args.get("chat_template")) if form.chat else PlainTokenizer(folder)
