"""What a checkpoint was trained to do, beside its weights: `recipe.json`, so that others ask it the same way.

A model that was taught to answer in 40 tokens about pictures of 400,000 pixels is another model at 4,000 tokens and
another size. Pixel limits live in the processor's own file; the rest is here. (torch-free)
"""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from open_r1.errors import UsageError

FILE = "recipe.json"


@dataclass(frozen=True)
class Recipe:
    """How the model was asked: None for what is not known."""

    task_type: str | None = None
    prompt_mode: str | None = None
    reward_method: str | None = None
    max_completion_length: int | None = None
    max_anyres_num: int | None = None
    base_model: str | None = None

    def save(self, folder: Path) -> None:
        (folder / FILE).write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")


def read_recipe(model: str) -> Recipe:
    """The recipe of a local folder, or of a hub model (which may lie in the hub's cache); empty where it has none.

    Raises UsageError where the file is there and cannot be read.
    """
    path = Path(model) / FILE
    if not Path(model).is_dir():
        path = _from_hub(model)
    if path is None or not path.is_file():
        return Recipe()
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return Recipe(**{field.name: found.get(field.name) for field in fields(Recipe)})
    except (ValueError, AttributeError) as error:
        raise UsageError(f"{path}: got {error}, expected the JSON that a run writes; remove the file") from error


def copy_recipe(model: str, folder: Path) -> None:
    """A model's recipe for what is made of it, where it has one."""
    recipe = read_recipe(model)
    if recipe != Recipe():
        recipe.save(folder)


def _from_hub(model: str) -> Path | None:
    from transformers.utils import cached_file

    found = cached_file(
        model,
        FILE,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
        _raise_exceptions_for_gated_repo=False,
    )
    return Path(found) if found else None
