"""`recipe.json` in a checkpoint: the task, prompt and limits it was trained with, so that others use it alike.

A model that was trained to answer in 40 tokens about pictures of 400,000 pixels behaves differently at 4,000 tokens
and another size. The processor's own file holds the pixel limits. (torch-free)
"""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from open_r1.errors import UsageError

FILE = "recipe.json"


@dataclass(frozen=True)
class Recipe:
    """The settings of the model's training prompts; None for unknown ones."""

    task_type: str | None = None
    prompt_mode: str | None = None
    reward_method: str | None = None
    max_completion_length: int | None = None
    max_anyres_num: int | None = None
    base_model: str | None = None

    def save(self, folder: Path) -> None:
        (folder / FILE).write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")


def read_recipe(model: str) -> Recipe:
    """The recipe of a local folder, or of a hub model (also from the hub's cache); empty where it has none.

    Raises UsageError for a file that cannot be read.
    """
    path = Path(model) / FILE
    if not Path(model).is_dir():
        path = _from_hub(model)
    if path is None or not path.is_file():
        return Recipe()
    try:
        settings: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return Recipe(**{field.name: settings.get(field.name) for field in fields(Recipe)})
    except (ValueError, AttributeError) as error:
        raise UsageError(f"{path}: got {error}, expected the JSON that a run writes; remove the file") from error


def copy_recipe(model: str, folder: Path) -> None:
    """Copies a model's recipe, if it has one, into the folder of a model made from it."""
    recipe = read_recipe(model)
    if recipe != Recipe():
        recipe.save(folder)


def _from_hub(model: str) -> Path | None:
    from transformers.utils import cached_file

    path = cached_file(
        model,
        FILE,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
        _raise_exceptions_for_gated_repo=False,
    )
    return Path(path) if path else None
