"""`recipe.json` in a checkpoint: the task, prompt and limits it was trained with, so that others use it alike.

A model that was trained to answer in 40 tokens about pictures of 400,000 pixels behaves differently at 4,000 tokens
and another size. The processor's own file holds the pixel limits. (torch-free)
"""

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from open_r1.data.geometry.coordinates import SPACES
from open_r1.data.model_place import refuse_no_model
from open_r1.data.video.types import FRAME_FACTOR
from open_r1.errors import DataError, Problem, UsageError, shorten
from open_r1.rewards.custom import user_file
from open_r1.rewards.registry import METHODS
from open_r1.tasks.find import SLOT
from open_r1.tasks.registry import TASKS

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
    prompt_template: str | None = None
    box_space: str | None = None
    video_fps: float | None = None
    video_max_frames: int | None = None
    video_max_pixels: int | None = None
    video_form: str | None = None

    def save(self, folder: Path) -> None:
        (folder / FILE).write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")


def read_recipe(model: str) -> Recipe:
    """The recipe of a local folder, or of a hub model (also from the hub's cache); empty where it has none.

    Raises UsageError for what is no model and a file that cannot be read, DataError for values that no run writes.
    """
    path = Path(model) / FILE
    if not Path(model).is_dir():
        refuse_no_model(model)
        path = _from_hub(model)
    if path is None or not path.is_file():
        return Recipe()
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError, OSError) as error:
        raise UsageError(f"{path}: got {error}, expected the JSON that a run writes; remove the file") from error
    if not isinstance(settings, dict):
        raise UsageError(f"{path}: got {shorten(settings)}, expected a JSON object, as a run writes; remove the file")
    problems = [problem for name in VALUES if (problem := _problem(path, name, settings.get(name)))]
    if problems:
        raise DataError(problems)
    return Recipe(**{name: settings.get(name) for name in VALUES})


def _problem(path: Path, name: str, value: Any) -> Problem | None:
    """The problem of a value in the file, or None."""
    expected, fits = VALUES[name]
    remedy = "correct the value, or remove the file"
    return None if value is None or fits(value) else Problem(str(path), name, shorten(value), expected, remedy)


def _is_method(value: Any) -> bool:
    return isinstance(value, str) and all(name in METHODS for name in value.split(":"))


def _is_task(value: Any) -> bool:
    """Whether a value names a task, or one in a file of the user who trained."""
    return isinstance(value, str) and (value in TASKS or bool(user_file(value)[0]))


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 < value < 2**31


# Each field of a recipe: what is expected, and whether a value other than null is that.
VALUES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "task_type": ("the name of a task", _is_task),
    "prompt_mode": ("think or direct", lambda value: value in ("think", "direct")),
    "reward_method": ("names of accuracy methods, separated by colons", _is_method),
    "max_completion_length": ("a number of tokens", _is_count),
    "max_anyres_num": ("a number of tiles", _is_count),
    "base_model": ("a hub name or a folder", lambda value: isinstance(value, str)),
    "prompt_template": ("a text with {question} once", lambda value: str(value).count(SLOT) == 1),
    "box_space": (f"one of {', '.join(SPACES)}", lambda value: value in SPACES),
    "video_fps": ("frames a second", lambda value: type(value) in (int, float) and 0 < value < math.inf),
    "video_max_frames": ("an even number of frames", lambda value: _is_count(value) and value % FRAME_FACTOR == 0),
    "video_max_pixels": ("an area in pixels", _is_count),
    "video_form": ("auto, native or frames", lambda value: value in ("auto", "native", "frames")),
}


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
