"""Flags of tools that completions may call."""

from dataclasses import dataclass, field


@dataclass
class ToolArguments:
    """Flags of tools, for GRPO's arguments."""

    tools: list[str] | None = field(
        default=None,
        metadata={
            "help": "Tools that completions may call: zoom, or path/to/file.py:function. The answer, with its "
            "pictures, stands behind the call, and the completion goes on."
        },
    )
    environment: str | None = field(
        default=None,
        metadata={
            "help": "Environment of each completion: path/to/file.py:Class with reset(record). Its public methods are "
            "tools with a state between calls; its own reward is `environment` in --reward_funcs."
        },
    )
    max_tool_turns: int = field(default=4, metadata={"help": "Most calls that a completion gets an answer to."})
    max_tool_images: int = field(default=4, metadata={"help": "Most pictures that tools give to a completion."})
    max_tool_pixels: int | None = field(
        default=None,
        metadata={"help": "Largest area of a tool's picture in pixels; larger ones are made smaller. Default: none."},
    )
    tool_seconds: float = field(
        default=30.0,
        metadata={"help": "Deadline of one call; of what exceeds it, or ends its process, the model is told."},
    )
    tool_memory_gb: float = field(
        default=4.0, metadata={"help": "Memory that a process of a tool may take beyond what loading its file took."}
    )
    tool_workers: int | None = field(
        default=None,
        metadata={
            "help": "Completions whose calls are answered at once, each by a process. More pay where tools wait, as "
            "for a network. Default: 4, or as many as there are cores."
        },
    )
    tool_errors: str = field(
        default="tell",
        metadata={
            "help": "Where a tool raises: tell the model the message as the answer, or stop the run.",
            "choices": ["tell", "stop"],
        },
    )
