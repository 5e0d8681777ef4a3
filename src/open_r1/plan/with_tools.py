"""Tools in a plan: their flags, named as training's, and the pictures that they give to a completion."""

import argparse
from typing import Any

from transformers import PreTrainedConfig

from open_r1.config.tool_arguments import ToolArguments
from open_r1.errors import UsageError
from open_r1.plan.config_numbers import patches_of_token
from open_r1.plan.media import TILES, per_image

LEAST_LIMITS = {"max_tool_turns": 1, "max_tool_images": 0, "max_tool_pixels": 1}


def add_planned_tools(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of tools to the planner's; None where one is not given."""
    defaults, number = ToolArguments(), {"type": int}
    parser.add_argument("--tools", nargs="+", help="tools that completions call, as in training; they are not loaded")
    parser.add_argument("--environment", help="environment of each completion, as in training; it is not loaded")
    turns, images = defaults.max_tool_turns, defaults.max_tool_images
    parser.add_argument("--max_tool_turns", **number, help=f"most answered calls of a completion (default {turns})")
    parser.add_argument("--max_tool_images", **number, help=f"most pictures of tools in a completion ({images})")
    parser.add_argument("--max_tool_pixels", **number, help="largest area of a tool's picture (default: --max_pixels)")


def check_tool_flags(args: argparse.Namespace) -> None:
    """Raises UsageError for limits without a meaning, or without tools."""
    given = {name: getattr(args, name) for name in LEAST_LIMITS if getattr(args, name) is not None}
    if given and not has_tools(args):
        name, value = next(iter(given.items()))
        raise UsageError(f"--{name}: got {value} without tools, which it limits; add --tools or --environment")
    for name, value in given.items():
        if value < LEAST_LIMITS[name]:
            raise UsageError(f"--{name}: got {value}, expected at least {LEAST_LIMITS[name]}")


def limit_of(args: argparse.Namespace, name: str) -> int | None:
    """A limit that is given, else training's default."""
    given: int | None = getattr(args, name)
    return getattr(ToolArguments, name) if given is None else given


def has_tools(args: argparse.Namespace) -> bool:
    """Whether completions of the planned run call tools."""
    return bool(args.tools or args.environment)


def tool_words(args: argparse.Namespace) -> str:
    """The flags of a training script for the tools; "" without them."""
    if not has_tools(args):
        return ""
    known: dict[str, Any] = {"tools": " ".join(args.tools or ()), "environment": args.environment}
    known |= {name: limit_of(args, name) for name in LEAST_LIMITS}
    return " ".join(f"--{name} {value}" for name, value in known.items() if value not in (None, ""))


def tool_patches(
    config: PreTrainedConfig,
    completion: int,
    images: int,
    area: int,
    tokens: int | None = None,
    tiles: int = TILES,
    name: str | None = None,
) -> int:
    """The most patches of tools' pictures in a completion of `completion` tokens, theirs included: of `images`, each
    of at most `area` pixels; the rest as `per_image` takes it, which raises UsageError."""
    if not images:
        return 0
    patches, _ = per_image(config, area, tokens, tiles, name)
    return min(images * patches, completion * patches_of_token(config))
