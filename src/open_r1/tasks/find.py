"""Finds a task by its name, or in a user's file as `path/to/task.py:TASK`; puts a prompt template in its place."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from open_r1.data.row_formats import IMAGE_TAG
from open_r1.errors import UsageError, nearest_hint, shorten
from open_r1.rewards.custom import load_reward, user_file
from open_r1.rewards.registry import METHODS, prepare_methods
from open_r1.rewards.sandbox.user_module import import_file
from open_r1.tasks.registry import TASKS
from open_r1.tasks.task import Task

SLOT = "{question}"
PROMPT_MODES = ("think", "direct")
TASK_HELP = f"{', '.join(TASKS)}, or path/to/task.py:TASK"


def find_task(name: str, template: str | None = None, flag: str = "task") -> Task:
    """The task of a name in TASKS, or of a user's file; with a `template` (see `read_template`) for its prompts.

    The task of a file has its path as name, so that everything that names a task finds it again. Raises UsageError for
    an unknown name, a file that cannot be imported, and a task whose prompts, rewards or method do not exist.
    """
    path, attribute = user_file(name)
    if path:
        task = user_task(name, path, attribute)
    elif name in TASKS:
        task = TASKS[name]
    else:
        hint = f"write {name}:TASK, the task's name in the file" if name.endswith(".py") else nearest_hint(name, TASKS)
        raise UsageError(f"{flag}: got {name!r}, expected one of {TASK_HELP}; {hint}")
    return replace(task, prompts=dict.fromkeys(PROMPT_MODES, template)) if template is not None else task


@lru_cache
def user_task(name: str, path: str, attribute: str) -> Task:
    """The task `attribute` of a Python file, checked. Raises UsageError as `find_task`."""
    try:
        module = import_file(path)
    except FileNotFoundError:
        raise UsageError(f"task {name}: got {path}, expected a Python file; correct the path") from None
    except (Exception, SystemExit) as error:  # whatever the user's file raises
        raise UsageError(
            f"task {name}: {path} cannot be imported: {type(error).__name__}: {error}; mend the file"
        ) from error
    task = getattr(module, attribute, None)
    if not isinstance(task, Task):
        tasks = {key: value for key, value in vars(module).items() if isinstance(value, Task)}
        got = f"{attribute}, a {type(task).__name__}" if hasattr(module, attribute) else f"no {attribute}"
        hint = f"it has {', '.join(tasks)}" if tasks else "write TASK = Task(...), see assets/docs/tasks.md"
        raise UsageError(f"task {name}: got {got} in {path}, expected a Task of open_r1.tasks.task; {hint}")
    check_task(name, task)
    return replace(task, name=name)


def check_task(name: str, task: Task) -> None:
    """Raises UsageError for a declaration that could not be used, with the nearest names."""
    if not isinstance(task.prompts, Mapping) or set(task.prompts) != set(PROMPT_MODES):
        raise UsageError(f"task {name}: prompts: got {shorten(task.prompts)}, expected texts for think and for direct")
    for mode, prompt in task.prompts.items():
        check_template(prompt, f"task {name}: prompts[{mode!r}]")
    if task.method not in METHODS:
        raise UsageError(
            f"task {name}: method: got {task.method!r}, expected one of {', '.join(METHODS)}; "
            f"{nearest_hint(str(task.method), METHODS)}"
        )
    prepare_methods([task.method])
    for part, kind in (("rewards", str), ("weights", (int, float))):
        values = getattr(task, part)
        if not isinstance(values, (tuple, list)) or not values or not all(isinstance(v, kind) for v in values):
            form = '("accuracy",)' if part == "rewards" else "(1.0,)"
            raise UsageError(f"task {name}: {part}: got {shorten(values)}, expected a tuple such as {form}")
    if len(task.rewards) != len(task.weights):
        raise UsageError(f"task {name}: weights: got {len(task.weights)}, expected one for each of {task.rewards}")
    load_rewards_of(name, task.rewards)
    for part, function in (("is_right", task.is_right), *task.measures.items()):
        if not callable(function):
            raise UsageError(f"task {name}: {part}: got {shorten(function)}, expected a function")


def load_rewards_of(name: str, rewards: Iterable[str]) -> None:
    """Load a task's rewards once, so that a wrong name is a sentence. Raises UsageError."""
    for reward in rewards:
        try:
            load_reward(reward)
        except (ValueError, OSError) as error:
            raise UsageError(f"task {name}: rewards: {error}") from error


def read_template(value: str, flag: str = "--prompt_template") -> str:
    """The prompt template of a flag: the text itself, or the content of `@FILE` without its last line's end.

    Raises UsageError for a file that cannot be read, and for a text that does not hold `{question}` once.
    """
    if not value.startswith("@"):
        return check_template(value, flag)
    path = Path(value[1:])
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"{flag}: got {value}, expected @ and a text file ({type(error).__name__}); correct the path"
        ) from None
    return check_template(text.removesuffix("\n"), f"{flag}: {path}")


def check_template(text: Any, place: str) -> str:
    """A template that holds `{question}` once; other braces stay as they are. Raises UsageError for another text.

    >>> check_template("{question} Answer as {x}.", "here")
    '{question} Answer as {x}.'
    """
    if not isinstance(text, str) or IMAGE_TAG in text:
        raise UsageError(
            f"{place}: got {shorten(text)}, expected a text without {IMAGE_TAG}: pictures stand in the rows' questions"
        )
    if (count := text.count(SLOT)) != 1:
        got = f"{SLOT} {count} times" if count else f"{shorten(text)}, without {SLOT}"
        raise UsageError(
            f"{place}: got {got}, expected it once, where a row's question goes; such as '{SLOT} Answer in a word.'"
        )
    return text
