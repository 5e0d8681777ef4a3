"""Checks a `--deepspeed` file: refuses keys that DeepSpeed would ignore without a word.

Importing this module is cheap; checking a file imports DeepSpeed, which takes seconds.
"""

import difflib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

AUTO = "auto"  # transformers fills these in from its own flags
# Read outside of DeepSpeed's configuration class, by its engine, by transformers or by accelerate.
READ_ELSEWHERE = {"curriculum_learning", "compression_training", "nebula"}


class KeyRecorder(dict):
    """A section that records in `names` the keys DeepSpeed reads, and whether it `iterated` over all of them."""

    def __init__(self, section: dict[str, Any]):
        super().__init__({k: KeyRecorder(v) if isinstance(v, dict) else v for k, v in section.items() if v != AUTO})
        self.names: set[str] = set()
        self.iterated = False

    def get(self, key: str, default: Any = None) -> Any:
        self.names.add(key)
        return super().get(key, default)

    def __getitem__(self, key: str) -> Any:
        self.names.add(key)
        return super().__getitem__(key)

    def __contains__(self, key: object) -> bool:
        self.names.add(str(key))
        return super().__contains__(key)

    def __iter__(self) -> Iterator[str]:
        self.iterated = True
        return super().__iter__()

    def keys(self) -> Any:
        self.iterated = True
        return super().keys()

    def items(self) -> Any:
        self.iterated = True
        return super().items()

    def __copy__(self) -> "KeyRecorder":
        return self  # DeepSpeed reads a copy


def check_engine_config(source: str | dict[str, Any]) -> None:
    """Check `--deepspeed`: a file, or the settings themselves. Raises ValueError with file and key where DeepSpeed
    would ignore a key or refuse a value."""
    place = "--deepspeed" if isinstance(source, dict) or source.lstrip().startswith("{") else source
    try:
        text = Path(place).read_text(encoding="utf-8") if place is source else source
        config = text if isinstance(text, dict) else json.loads(text)
    except FileNotFoundError:
        raise ValueError(f"--deepspeed: got {source}, expected a JSON file; correct the path") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{place}:{error.lineno}: got no JSON ({error.msg}), expected DeepSpeed's settings") from None
    if not isinstance(config, dict):
        raise ValueError(f"{place}: got no JSON object ({type(config).__name__}), expected DeepSpeed's settings")
    if complaints := ignored_keys(config):
        raise ValueError("\n".join(f"{place}: {complaint}" for complaint in complaints))


def skip_inference_build() -> None:
    """Keep DeepSpeed from compiling an all-reduce for the CPU that only inference calls: it can take minutes."""
    import deepspeed

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


def ignored_keys(config: dict[str, Any]) -> list[str]:
    """One sentence for each key of `config` that DeepSpeed would ignore, or for a value that it refuses."""
    from deepspeed.runtime.config import DeepSpeedConfig

    models = section_models()
    complaints = [c for name, model in models.items() for c in unknown_fields(config.get(name, {}), model, name)]
    # transformers compares the batch sizes with its own
    others = {k: v for k, v in config.items() if k not in (*models, "train_batch_size", "gradient_accumulation_steps")}
    recorder = KeyRecorder(others | {"train_micro_batch_size_per_gpu": 1})
    try:
        DeepSpeedConfig(recorder)
        for name, model in models.items() if not complaints else ():
            model(**KeyRecorder(config.get(name, {})))
    except (ValueError, TypeError, AssertionError) as error:
        return [*complaints, f"DeepSpeed refuses it: {error}"]
    names = recorder.names | set(models) | READ_ELSEWHERE
    complaints += [unread_key(key, names) for key in config if key not in names]
    return complaints + [c for key, part in others.items() for c in unread_keys(recorder.get(key), part, key)]


def unread_keys(part: Any, section: Any, place: str) -> list[str]:
    """A complaint for each key that DeepSpeed left unread in a section that it reads key by key."""
    if not isinstance(part, KeyRecorder) or part.iterated or not part.names:
        return []
    return [unread_key(key, part.names, place) for key in section if key not in part.names]


def section_models() -> dict[str, type]:
    """Section -> the pydantic model into which DeepSpeed parses it."""
    from deepspeed.runtime.precision_config import DeepSpeedBF16Config, DeepSpeedFP16Config
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig

    return {"zero_optimization": DeepSpeedZeroConfig, "bf16": DeepSpeedBF16Config, "fp16": DeepSpeedFP16Config}


def unknown_fields(section: dict[str, Any], model: type, place: str) -> list[str]:
    """A complaint for each key that is no field of `model`, nested ones too. DeepSpeed drops those set to "auto"."""
    fields = {name: field for field_name, field in model.model_fields.items() for name in (field_name, field.alias)}
    complaints = []
    for key, value in section.items():
        if key not in fields:
            complaints.append(unread_key(key, set(fields) - {None}, place))
        elif isinstance(value, dict) and (inner := field_model(fields[key].annotation)):
            complaints += unknown_fields(value, inner, f"{place}.{key}")
    return complaints


def field_model(annotation: Any) -> type | None:
    """The pydantic model in an annotation such as `Optional[Model]`, or None."""
    options = [annotation, *get_args(annotation)]
    return next((option for option in options if hasattr(option, "model_fields")), None)


def unread_key(key: str, names: set[str], section: str = "") -> str:
    """The complaint about a key that DeepSpeed would ignore, with the closest of `names`."""
    near = difflib.get_close_matches(key, sorted(names), n=1)
    place = f"{section}.{key}" if section else key
    return f"{place}: no setting of DeepSpeed, which would ignore it; " + (
        f"did you mean {near[0]}?" if near else "remove it"
    )
