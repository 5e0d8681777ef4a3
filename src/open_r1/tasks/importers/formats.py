"""The table of foreign formats by name, and telling which one a source has. (torch-free)

To add one, write a reader in a file of this folder and a line in FOREIGN_FORMATS. The name is what users give to
`--from`.
"""

from functools import partial

from open_r1.errors import data_error, look_up
from open_r1.tasks.importers.conversations import is_chat, is_conversation, read_conversations
from open_r1.tasks.importers.sources import Source
from open_r1.tasks.importers.types import ForeignFormat

FOREIGN_FORMATS: dict[str, ForeignFormat] = {
    "llava": ForeignFormat("LLaVA / ShareGPT conversations", is_conversation, read_conversations),
    "qwen_vl": ForeignFormat(
        "Qwen-VL conversations", partial(is_conversation, with_named_pictures=True), read_conversations
    ),
    "messages": ForeignFormat("chat messages (OpenAI, ms-swift, ShareGPT)", is_chat, read_conversations),
}


def format_of(source: Source, named: str = "") -> str:
    """The name of a source's format, `named` where the user gives it. Raises DataError where none or several fit, and
    ValueError for an unknown name."""
    if named:
        look_up(named, FOREIGN_FORMATS, "--from")
        return named
    fitting = [name for name, known in FOREIGN_FORMATS.items() if known.matches(source)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        words = " or ".join(f"{FOREIGN_FORMATS[name].title} (--from {name})" for name in fitting)
        raise data_error(str(source.path), "format", f"a file that may be {words}", "one format", "give --from")
    remedy = f"give --from with one of {', '.join(FOREIGN_FORMATS)}, or --fields problem=...,solution=...,image=..."
    raise data_error(str(source.path), "format", shape_of(source), "a known format", remedy)


def shape_of(source: Source) -> str:
    """What a source holds, for a message."""
    if fields := ", ".join(map(str, list(source.first)[:12])):
        return f"{source.kind} of rows with the fields {fields}"
    return f"a file of kind {source.kind}" if source.kind != "folder" else "a folder"
