"""Tiny random models of many families with their real processors, and prompts that those make of synthetic pictures.

Nothing is read from disk or a hub. A family is a function that returns its configuration and its processor; the
files beside this one hold them by kin, `table.py` names them all.
"""

from helpers.families.folders import save
from helpers.families.parts import BOS, EOS, IMAGE, PAD, SIDE, TEXT, VOCABULARY
from helpers.families.prompts import (
    CLIP_GROUPS,
    GROUPS,
    chat,
    completions,
    fields_of,
    group_prompts,
    prompt,
    rules_of,
    scored,
)
from helpers.families.table import PROCESSORS
from helpers.families.tiny import FAMILIES, NAMES, config_of, processor_of, ready, tiny

__all__ = [
    "BOS",
    "CLIP_GROUPS",
    "EOS",
    "FAMILIES",
    "GROUPS",
    "IMAGE",
    "NAMES",
    "PAD",
    "PROCESSORS",
    "SIDE",
    "TEXT",
    "VOCABULARY",
    "chat",
    "completions",
    "config_of",
    "fields_of",
    "group_prompts",
    "processor_of",
    "prompt",
    "ready",
    "rules_of",
    "save",
    "scored",
    "tiny",
]
