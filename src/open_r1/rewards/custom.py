"""Loads rewards: built-in ones by name, users' own as `path/to/file.py:function`, in one of two signatures."""

import inspect
from collections.abc import Callable
from typing import Any

from open_r1.errors import look_up, shorten
from open_r1.rewards.registry import REWARDS
from open_r1.rewards.sandbox.user_module import import_file

SIGNATURES = (
    "(completion: str, record: Record[, images][, trajectory]) -> float | None for one completion, "
    "or TRL's (completions, **columns) -> list of float | None"
)
MAX_REWARD = 1e6  # in size: squares and sums of a batch stay far below the largest float32
TRAINER_ARGUMENTS = {"trainer_state", "log_metric", "log_extra"}  # from TRL; they exist in the training process only


def load_reward(name_or_path: str) -> Callable[..., Any]:
    """The reward of a name, or the user's function of `path/to/file.py:function`.

    Raises ValueError for an unknown name, a file without the function, a function of another signature (see
    SIGNATURES) or with a `minimum` that is no number, and FileNotFoundError.

    >>> load_reward("format").__name__
    'format_reward'
    """
    path, function = user_file(name_or_path)
    if not path:
        if name_or_path.endswith(".py"):
            raise ValueError(f"reward: got {name_or_path!r}, expected {name_or_path}:function")
        return look_up(name_or_path, REWARDS, "reward")
    fn = getattr(import_file(path), function, None)
    if not callable(fn):
        raise ValueError(f"reward {name_or_path}: {path} has no function {function!r}")
    parameters = parameter_names(fn)
    if "completions" not in parameters and not {"completion", "record"} <= parameters:
        raise ValueError(f"reward {name_or_path}: got {function}{inspect.signature(fn)}, expected {SIGNATURES}")
    if inspect.iscoroutinefunction(fn):
        raise ValueError(f"reward {name_or_path}: got an async function, expected a plain one; remove async")
    lowest = getattr(fn, "minimum", 0.0)
    if not isinstance(lowest, (int, float)) or not abs(lowest) <= MAX_REWARD:
        expected = f"a finite number from {-MAX_REWARD:g} to {MAX_REWARD:g}"
        raise ValueError(f"reward {name_or_path}: minimum: got {shorten(lowest)}, expected {expected}")
    return fn


def check_reward(name_or_path: str) -> None:
    """Raises what `load_reward` raises; unlike it, it returns nothing, which a worker can send of any function."""
    load_reward(name_or_path)


def user_file(name: str) -> tuple[str, str]:
    """(path, function) of a user's reward; ("", "") of a built-in one.

    >>> user_file("my/rewards.py:bright"), user_file("format")
    (('my/rewards.py', 'bright'), ('', ''))
    """
    path, colon, function = name.rpartition(":")
    return (path, function) if colon and path.endswith(".py") else ("", "")


def wants_pictures(fn: Callable[..., Any]) -> bool:
    """Whether a reward takes the pictures of its rows."""
    names = parameter_names(fn)
    return "images" in names or {"completions", "**"} <= names


def parameter_names(fn: Callable[..., Any]) -> set[str]:
    """The parameter names of a function, with "**" where it takes any keyword."""
    parameters = inspect.signature(fn).parameters.values()
    return {"**" if parameter.kind is parameter.VAR_KEYWORD else parameter.name for parameter in parameters}
