"""The tables of other projects' names by project, and the answer to a name.

A table maps a name there to an answer. An answer that is a flag here, alone, takes the value that stands behind the
name; any other says in words what to set. Tests hold that each flag of an answer exists and no name is one of ours.
"""

from open_r1.config.other_projects.common import COMMON
from open_r1.config.other_projects.easyr1 import EASYR1
from open_r1.config.other_projects.llama_factory import LLAMA_FACTORY
from open_r1.config.other_projects.openrlhf import OPENRLHF
from open_r1.config.other_projects.swift import SWIFT
from open_r1.config.other_projects.trl_before import TRL_BEFORE
from open_r1.config.other_projects.unsloth import UNSLOTH
from open_r1.config.other_projects.verl import VERL

PROJECTS: dict[str, dict[str, str]] = {
    "verl": VERL,
    "EasyR1": EASYR1,
    "ms-swift": SWIFT,
    "OpenRLHF": OPENRLHF,
    "unsloth": UNSLOTH,
    "LLaMA-Factory": LLAMA_FACTORY,
    "TRL or transformers before": TRL_BEFORE,
    "several projects": COMMON,
}
# Sections of other projects' files: what lies below them and is in no table has no counterpart.
SECTIONS = ("actor_rollout_ref", "algorithm", "critic", "custom_reward_function", "data", "reward_model", "trainer")
SECTIONS += ("worker", "ray_init", "reward", "actor", "rollout", "ref")


def answer_to(name: str) -> tuple[str, str] | None:
    """(project, answer) of a name that is another project's; None for a name of no table.

    >>> answer_to("worker.rollout.n")
    ('EasyR1', '--num_generations')
    """
    return next(((project, table[name]) for project, table in PROJECTS.items() if name in table), None)
