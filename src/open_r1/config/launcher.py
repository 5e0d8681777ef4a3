"""Turns environment variables and a recipe's flags into the command of a run, with its global batch kept. (torch-free)

    MADE_FOR=8 NPROC=2 python -m open_r1.config.launcher src/open_r1/grpo_jsonl.py --gradient_accumulation_steps 2 ...

`run_scripts/launch.sh` starts this file and documents the variables. A recipe names the number of GPUs that its
flags are for in MADE_FOR; with another number of ranks gradient accumulation follows. Generation follows too: TRL's
`steps_per_generation` is gradient accumulation unless given, so a step samples and uses as many completions as before.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from open_r1.config.rollouts import Machine, choose_rollouts, installed_vllm, smallest_gpu
from open_r1.errors import UsageError

NEEDS_GPU = "--needs_gpu"  # in place of a script: only check, before a recipe makes its data
ACCUMULATION, BATCH = "gradient_accumulation_steps", "per_device_train_batch_size"
TRANSFORMERS_DEFAULTS = {ACCUMULATION: 1, BATCH: 8}
PORT = 29500  # of the rendezvous of several nodes, unless MASTER_PORT is set


@dataclass(frozen=True)
class Placement:
    """`nproc` ranks on each of `nnodes` machines; this one is `node_rank`; `addr` and `port` of machine 0."""

    nproc: int
    nnodes: int = 1
    node_rank: int = 0
    addr: str = "127.0.0.1"
    port: int | None = None  # None, for one node: torchrun finds a free one

    @property
    def ranks(self) -> int:
        return self.nproc * self.nnodes

    def flags(self) -> list[str]:
        """torchrun's flags for this placement."""
        ranks = [f"--nproc_per_node={self.nproc}"]
        if self.port is None:
            return ["--standalone", "--local_addr=127.0.0.1", *ranks]  # the machine's own name need not resolve
        nodes = [f"--nnodes={self.nnodes}", f"--node_rank={self.node_rank}"]
        return [*ranks, *nodes, f"--master_addr={self.addr}", f"--master_port={self.port}"]

    def __str__(self) -> str:
        """Ranks and nodes as text.

        >>> print(Placement(1), Placement(8, nnodes=2), sep=", ")
        1 rank, 16 ranks (2 nodes x 8)
        """
        return f"{self.ranks} rank{'s' * (self.ranks > 1)}" + (
            f" ({self.nnodes} nodes x {self.nproc})" if self.nnodes > 1 else ""
        )


def placement_of(env: Mapping[str, str], gpus: int) -> Placement:
    """The placement by the environment, on a machine of `gpus` GPUs. Raises UsageError with the variable to set.

    >>> [placement_of(env, gpus).ranks for env, gpus in (({"MADE_FOR": "8"}, 1), ({"MADE_FOR": "2"}, 8), ({}, 0))]
    [1, 2, 1]
    """
    nnodes = whole_number(env, "NNODES", 1)
    made_for = whole_number(env, "MADE_FOR", gpus or 1)
    nproc = whole_number(env, "NPROC", max(1, gpus if nnodes > 1 else min(gpus, made_for)))
    if nnodes > 1:
        needed = {"NODE_RANK": f"this machine's number, 0 to {nnodes - 1}", "MASTER_ADDR": "machine 0's address"}
        for name, meaning in needed.items():
            if not env.get(name):
                raise UsageError(f"{name}: got nothing, expected {meaning}, as NNODES is {nnodes}; set {name}")
    node_rank = whole_number(env, "NODE_RANK", 0, least=0)
    if node_rank >= nnodes:
        raise UsageError(
            f"NODE_RANK: got {node_rank}, expected 0 to {nnodes - 1}, as NNODES is {nnodes}; set NNODES to the number "
            f"of machines, and NODE_RANK to this one's, from 0"
        )
    port = whole_number(env, "MASTER_PORT", PORT) if nnodes > 1 or env.get("MASTER_PORT") else None
    return Placement(nproc, nnodes, node_rank, env.get("MASTER_ADDR") or "127.0.0.1", port)


def whole_number(env: Mapping[str, str], name: str, default: int, least: int = 1) -> int:
    """A variable as a whole number, `default` where it is not set or empty. Raises UsageError."""
    text = env.get(name) or str(default)
    if not text.isdecimal() or int(text) < least:
        raise UsageError(f"{name}: got {text!r}, expected a whole number from {least}; set {name}, or leave it out")
    return int(text)


def values_of(argv: Sequence[str], name: str) -> list[int]:
    """All values of a flag, in order; the last one wins. Raises UsageError for one that is no whole number.

    >>> values_of(["--a", "2", "--b", "--a=3"], "a")
    [2, 3]
    """
    pairs = [a.split("=", 1) if "=" in a else [a, word] for a, word in zip(argv, [*argv[1:], ""], strict=True)]
    values = [value for flag, value in pairs if flag.replace("-", "_") == f"__{name}"]
    return [whole_number({f"--{name}": value}, f"--{name}", 1) for value in values]


@dataclass(frozen=True)
class GlobalBatch:
    """Completions (rows, for SFT) of one step: `ranks` x `per_device` x `steps`, and a remark for the user."""

    ranks: int
    per_device: int
    steps: int
    added: tuple[str, ...] = ()  # flags to add to the run's
    remark: str = ""

    @property
    def size(self) -> int:
        return self.ranks * self.per_device * self.steps

    def __str__(self) -> str:
        return f"{self.ranks} x {self.per_device} x {self.steps} = {self.size}"


def global_batch_for(argv: Sequence[str], ranks: int, made_for: int | None) -> GlobalBatch:
    """The global batch on `ranks` ranks of a recipe for `made_for` GPUs: gradient accumulation alone is adapted.

    A second `--gradient_accumulation_steps` is the user's own, and stays. Accumulation that does not come out whole is
    rounded. Raises UsageError where one step of each rank is more than the recipe's batch.

    >>> flags = ["--per_device_train_batch_size", "8", "--gradient_accumulation_steps", "2"]
    >>> print(global_batch_for(flags, 1, made_for=8))
    1 x 8 x 16 = 128
    """
    steps_flags = values_of(argv, ACCUMULATION)
    per_device = (values_of(argv, BATCH) or [TRANSFORMERS_DEFAULTS[BATCH]])[-1]
    actual = GlobalBatch(ranks, per_device, (steps_flags or [TRANSFORMERS_DEFAULTS[ACCUMULATION]])[-1])
    if made_for is None:
        return actual
    recipe = GlobalBatch(made_for, per_device, (steps_flags or [TRANSFORMERS_DEFAULTS[ACCUMULATION]])[0])
    if len(steps_flags) > 1:
        return GlobalBatch(
            ranks, per_device, actual.steps, remark=f"--{ACCUMULATION} is your own; the recipe's batch is {recipe}"
        )
    exact = Fraction(recipe.steps * made_for, ranks)
    if exact < 1:
        raise UsageError(
            f"{ranks} ranks: one step of each is {ranks * per_device} already, the recipe's global batch is {recipe}; "
            f"take at most {recipe.steps * made_for} ranks (NPROC x NNODES), or add --{ACCUMULATION} 1 for a batch of "
            f"{ranks * per_device}"
        )
    if ranks == made_for:
        return actual
    steps = round(exact)
    remark = f"made for {made_for} GPUs with --{ACCUMULATION} {recipe.steps}; it is {steps} here, so that the batch "
    remark += (
        f"stays {recipe.size}"
        if steps == exact
        else f"comes nearest to {recipe.size} (that would take {float(exact):.3g} steps)"
    )
    return GlobalBatch(ranks, per_device, steps, (f"--{ACCUMULATION}", str(steps)), remark)


def gpus_here(env: Mapping[str, str]) -> int:
    """GPUs that a run started here sees: CUDA_VISIBLE_DEVICES where it is set, else those of nvidia-smi."""
    if "CUDA_VISIBLE_DEVICES" in env:
        names = [name.strip() for name in env["CUDA_VISIBLE_DEVICES"].split(",")]
        return next((i for i, name in enumerate(names) if name in ("", "-1")), len(names))
    if shutil.which("nvidia-smi") is None:
        return 0
    listing = subprocess.run(["nvidia-smi", "-L"], text=True, capture_output=True, check=False)  # nosec B607 # on PATH
    return sum(line.startswith("GPU ") for line in listing.stdout.splitlines())


def refuse_no_gpu(argv: Sequence[str], env: Mapping[str, str], gpus: int) -> None:
    """Raises UsageError for a recipe, which is made for GPUs, on a machine without one, unless it uses the CPU."""
    on_cpu = re.search(r"--use[_-]cpu(?:[= ](?!false)|$)", " ".join(argv)) is not None
    if env.get("MADE_FOR") and not gpus and not on_cpu and not other_accelerator(env):
        raise UsageError(
            f"got no GPU on this machine, expected {env['MADE_FOR']} for this recipe; to see it run in small here, "
            "two steps of a tiny model on the CPU, put SMOKE=1 before the same command (SMOKE=1 bash "
            "run_scripts/RECIPE.sh)"
        )


def other_accelerator(env: Mapping[str, str]) -> bool:
    """Whether torch sees an accelerator that nvidia-smi does not list; not where CUDA_VISIBLE_DEVICES hides all."""
    if "CUDA_VISIBLE_DEVICES" in env:
        return False
    import torch  # takes seconds; asked only where no GPU is listed

    return torch.accelerator.is_available()


def start_command(placement: Placement, argv: Sequence[str], gpus: int) -> list[str]:
    """The command that starts the script: `torchrun_agent`, or plain python for one rank without an engine, where DDP
    would only cost the memory of its buckets (as much as the gradients). A single process that sees `gpus` > 1 gets
    torchrun too, since transformers would use them all.

    >>> start_command(Placement(1), ["x.py"], gpus=1), start_command(Placement(2), ["x.py"], gpus=2)[:3]
    (['python'], ['python', '-m', 'open_r1.trainer.lifecycle.torchrun_agent'])
    """
    engine = any(arg.split("=")[0] in ("--deepspeed", "--fsdp") for arg in argv)
    ranked = engine or max(placement.ranks, gpus) > 1
    return ["python", "-m", "open_r1.trainer.lifecycle.torchrun_agent", *placement.flags()] if ranked else ["python"]


def main(argv: Sequence[str]) -> None:
    """Print what rollouts run on, placement and global batch on stderr; replace this process by the run's command."""
    try:
        gpus = gpus_here(os.environ)
        refuse_no_gpu(argv, os.environ, gpus)
        if list(argv[:1]) == [NEEDS_GPU]:
            return
        placement = placement_of(os.environ, gpus)
        made_for = whole_number(os.environ, "MADE_FOR", 1) if os.environ.get("MADE_FOR") else None
        batch = global_batch_for(argv, placement.ranks, made_for)
        memory = smallest_gpu() if gpus else None
        machine = Machine(placement.ranks, placement.nnodes, gpus, memory, installed_vllm())
        rollouts = choose_rollouts(argv, os.environ, machine, (batch.per_device, batch.steps))
    except UsageError as error:
        sys.exit(f"launch.sh: {error}")
    remark = f" ({batch.remark})" if batch.remark else ""
    unit = "rows" if "sft" in os.path.basename(argv[0] if argv else "") else "completions"  # noqa: PTH119
    if placement.node_rank == 0:
        if rollouts:
            print(f"launch.sh: rollouts: {rollouts.line}", file=sys.stderr)
        print(f"launch.sh: {placement}, global batch {batch} {unit}{remark}", file=sys.stderr)
    command = [*start_command(placement, argv, gpus), *argv, *batch.added, *(rollouts.added if rollouts else ())]
    os.execvp(command[0], command)  # nosec B606 # what the user typed, started as typed


if __name__ == "__main__":
    main(sys.argv[1:])
