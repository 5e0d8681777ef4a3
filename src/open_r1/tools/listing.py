"""Offers tools to a model: by its chat template where that lists tools, else as text. (torch-free)"""

import json
from collections.abc import Sequence
from typing import Any

from open_r1.data.control_tokens import control_tokens
from open_r1.errors import UsageError
from open_r1.tools.signature import Schema
from open_r1.tools.toolbox import Toolbox

OfferedChat = list[dict[str, Any]]  # messages of role and content parts

# What Qwen2.5's and Qwen3-VL's templates write for tools.
_HERMES = """# Tools

You may call one or more functions to assist with the user query.

You are provided with function signatures within <tools></tools> XML tags:
<tools>
{schemas}
</tools>

For each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:
<tool_call>
{{"name": <function-name>, "arguments": <args-json-object>}}
</tool_call>"""


def hermes_listing(schemas: Sequence[Schema]) -> str:
    """The list of tools as Qwen's chat templates write it."""
    return _HERMES.format(schemas="\n".join(json.dumps(schema, ensure_ascii=False) for schema in schemas))


def refuse_control_tokens(toolbox: Toolbox, processor: Any) -> None:
    """Raises UsageError for a tool whose docstring or choices hold a control token of the model, which would end a
    turn or stand for a picture in every prompt."""
    control = control_tokens(processor)
    for tool in toolbox.tools.values():
        if found := control.found(json.dumps(tool.schema, ensure_ascii=False)):
            token = found[0]
            got = f"text with {token!r}, which is a control token of {control.model}"
            remedy = f"write it otherwise, such as {token[0] + ' ' + token[1:]!r}"
            raise UsageError(f"tool {tool.label}: docstring: got {got}, expected plain text; {remedy}")


def offer_tools(chat: OfferedChat, toolbox: Toolbox) -> tuple[OfferedChat, dict[str, Any]]:
    """(the chat, further options of the chat template); the tools are in one of the two."""
    if toolbox.native:
        return chat, {"tools": toolbox.schemas}
    listing = hermes_listing(toolbox.schemas)
    if chat[0]["role"] == "system":
        content = [*chat[0]["content"], {"type": "text", "text": f"\n\n{listing}"}]
        return [{**chat[0], "content": content}, *chat[1:]], {}
    opening = f"{toolbox.system}\n\n" if toolbox.system else ""
    return [{"role": "system", "content": [{"type": "text", "text": opening + listing}]}, *chat], {}
