"""What a process keeps from one test to the next, begun anew for each: which files run before depends on chance."""

import random
import sys

# module -> what it has counted, told once, or made for the settings of a test
COUNTED = {
    "open_r1.rewards.sandbox.worker_pool": "_counts",
    "open_r1.rewards.trl_adapter": "_warned",
    "open_r1.tools.toolbox": "_warned",
    "open_r1.tools.episodes": "_warned",
    "open_r1.rewards.judge.tally": "TALLY",
    "open_r1.evaluation.grading_counts_file": "_written",
}
REMEMBERED = {"open_r1.models.generation_defaults": "tell", "open_r1.rewards.judge.method": "_judge_of"}


def forget() -> None:
    """Clear counts, warnings that were given once, the judge, and DeepSpeed's file by which transformers loads models,
    of the modules that are imported."""
    for module, name in COUNTED.items():
        if module in sys.modules:
            getattr(sys.modules[module], name).clear()
    for module, name in REMEMBERED.items():
        if module in sys.modules:
            getattr(sys.modules[module], name).cache_clear()
    if engine := sys.modules.get("transformers.integrations.deepspeed"):
        engine.unset_hf_deepspeed_config()  # it lasts as long as arguments that a traceback may hold


def seed() -> None:
    """Seed the generators that are shared, of the libraries that are imported."""
    random.seed(0)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(0)
    if torch := sys.modules.get("torch"):
        torch.default_generator.manual_seed(0)
