"""What DeepSpeed would not read in a `--deepspeed` file: it ignores unknown keys without a word, and a run goes on as
if they acted. Importing this module is cheap; looking at a file imports DeepSpeed, which takes seconds.
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
    """A section that notes which keys DeepSpeed asks it for; one that is taken whole is checked by what takes it."""

    def __init__(self, section: dict[str, Any]):
        super().__init__({k: KeyRecorder(v) if isinstance(v, dict) else v for k, v in section.items() if v != AUTO})
        self.names: set[str] = set()
        self.whole = False

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
        self.whole = True
        return super().__iter__()

    def keys(self) -> Any:
        self.whole = True
        return super().keys()

    def items(self) -> Any:
        self.whole = True
        return super().items()

    def __copy__(self) -> "KeyRecorder":
        return self  # DeepSpeed reads a copy


def check_engine_config(given: str | dict[str, Any]) -> None:
    """`--deepspeed`: a file, or the settings themselves. Raises ValueError that names file and key where DeepSpeed
    would ignore a key or refuse a value."""
    place = "--deepspeed" if isinstance(given, dict) or given.lstrip().startswith("{") else given
    try:
        text = Path(place).read_text(encoding="utf-8") if place is given else given
        config = text if isinstance(text, dict) else json.loads(text)
    except FileNotFoundError:
        raise ValueError(f"--deepspeed: got {given}, expected a JSON file; correct the path") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{place}:{error.lineno}: got no JSON ({error.msg}), expected DeepSpeed's settings") from None
    if not isinstance(config, dict):
        raise ValueError(f"{place}: got no JSON object ({type(config).__name__}), expected DeepSpeed's settings")
    if complaints := ignored_keys(config):
        raise ValueError("\n".join(f"{place}: {complaint}" for complaint in complaints))


def skip_inference_build() -> None:
    """On the CPU DeepSpeed would compile an all-reduce that only inference calls, which can take minutes."""
    import deepspeed

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


def ignored_keys(config: dict[str, Any]) -> list[str]:
    """One sentence for each key of `config` that DeepSpeed would not read, or a value that it refuses."""
    from deepspeed.runtime.config import DeepSpeedConfig

    models = section_models()
    found = [c for name, model in models.items() for c in unknown_fields(config.get(name, {}), model, name)]
    # transformers compares the batch sizes with its own
    rest = {k: v for k, v in config.items() if k not in (*models, "train_batch_size", "gradient_accumulation_steps")}
    asked = KeyRecorder(rest | {"train_micro_batch_size_per_gpu": 1})
    try:
        DeepSpeedConfig(asked)
        for name, model in models.items() if not found else ():
            model(**KeyRecorder(config.get(name, {})))
    except (ValueError, TypeError, AssertionError) as error:
        return [*found, f"DeepSpeed refuses it: {error}"]
    names = asked.names | set(models) | READ_ELSEWHERE
    found += [unread_key(key, names) for key in config if key not in names]
    return found + [c for key, part in rest.items() for c in unread_keys(asked.get(key), part, key)]


def unread_keys(part: Any, section: Any, where: str) -> list[str]:
    """Keys of a section that was read key by key and not asked for them."""
    if not isinstance(part, KeyRecorder) or part.whole or not part.names:
        return []
    return [unread_key(key, part.names, where) for key in section if key not in part.names]


def section_models() -> dict[str, type]:
    """Sections that DeepSpeed reads into a model of fields."""
    from deepspeed.runtime.precision_config import DeepSpeedBF16Config, DeepSpeedFP16Config
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig

    return {"zero_optimization": DeepSpeedZeroConfig, "bf16": DeepSpeedBF16Config, "fp16": DeepSpeedFP16Config}


def unknown_fields(section: dict[str, Any], model: type, where: str) -> list[str]:
    """Keys that are no field of `model`, here and in the sections inside. DeepSpeed drops those that say "auto"."""
    fields = {name: field for field_name, field in model.model_fields.items() for name in (field_name, field.alias)}
    found = []
    for key, value in section.items():
        if key not in fields:
            found.append(unread_key(key, set(fields) - {None}, where))
        elif isinstance(value, dict) and (inner := field_model(fields[key].annotation)):
            found += unknown_fields(value, inner, f"{where}.{key}")
    return found


def field_model(annotation: Any) -> type | None:
    """The model of fields in an annotation such as `Optional[Model]`."""
    options = [annotation, *get_args(annotation)]
    return next((option for option in options if hasattr(option, "model_fields")), None)


def unread_key(key: str, names: set[str], where: str = "") -> str:
    near = difflib.get_close_matches(key, sorted(names), n=1)
    place = f"{where}.{key}" if where else key
    return f"{place}: no setting of DeepSpeed, which would ignore it; " + (
        f"did you mean {near[0]}?" if near else "remove it"
    )
