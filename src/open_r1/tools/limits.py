"""The limits of the tool turns of one completion. (torch-free)"""

import math
from dataclasses import dataclass

from open_r1.errors import UsageError

MAX_TOOL_TEXT = 20_000  # characters of one answer
MAX_ANSWER_PICTURES = 16  # of one answer
# what helps a tool whose calls are lost, by the reason
REMEDIES = {
    "timeouts": "A larger --tool_seconds gives a call more time",
    "crashes": "A larger --tool_memory_gb gives its process more memory",
}


@dataclass(frozen=True)
class ToolLimits:
    """What one completion may take: `turns` with tools, `images` that tools return, and the largest area `pixels` of
    each, to which a larger one is scaled down (None: the processor's own limit alone)."""

    turns: int = 4
    images: int = 4
    pixels: int | None = None

    def reached(self, turns: int, images: int, new_images: int) -> str | None:
        """The flag, with its value, that keeps an answer of `new_images` out of a completion that has `turns` and
        `images` already; None where it fits. A turn is kept out as a whole, and the completion ends with its call.

        >>> ToolLimits().reached(4, 0, 0), ToolLimits().reached(1, 4, 1), ToolLimits().reached(1, 4, 0)
        ('max_tool_turns 4', 'max_tool_images 4', None)
        """
        if turns >= self.turns:
            return f"max_tool_turns {self.turns}"
        return f"max_tool_images {self.images}" if images + new_images > self.images else None


DEFAULT_LIMITS = ToolLimits()


def check_bounds(limits: ToolLimits, seconds: float, memory_gb: float, workers: int | None) -> None:
    """Raises UsageError, by the flag's name, for bounds of tools without a meaning."""
    least = {"max_tool_turns": (limits.turns, 1), "max_tool_images": (limits.images, 0)}
    least |= {"max_tool_pixels": (limits.pixels, 1), "tool_workers": (workers, 1)}
    for name, (value, lowest) in least.items():
        if value is not None and value < lowest:
            raise UsageError(f"--{name}: got {value}, expected at least {lowest}")
    for name, value in {"tool_seconds": seconds, "tool_memory_gb": memory_gb}.items():
        if not 0 < value < math.inf:
            raise UsageError(f"--{name}: got {value:g}, expected a positive number")
