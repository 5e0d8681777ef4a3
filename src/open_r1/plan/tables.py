"""The planner's output for a terminal: a table of all engines, a stacked bar for each moment of a run."""

from dataclasses import replace
from typing import Any

from rich.table import Table
from rich.text import Text

from open_r1.plan.dims import Dims
from open_r1.plan.memory import GIB, total_bytes
from open_r1.plan.propose import SPARE, plan_memory, with_vllm
from open_r1.plan.settings import ENGINES, PlannedRun

WIDTH = 60  # columns of a bar that is a device's whole memory
COLOURS = ("blue", "cyan", "green", "magenta", "yellow", "red", "bright_blue", "bright_cyan", "bright_black", "white")


def engine_table(dims: Dims, base: PlannedRun, options: dict[str, Any]) -> Table:
    """Every engine with `base`'s batch: peaks with gradient checkpointing and without."""
    table = Table(title=f"GiB a GPU; batch {base.batch_completions}, accumulation {base.accumulation_steps}")
    for name in ("engine", "rollout", "training, checkpointing", "training, without", "host memory of a node"):
        table.add_column(name, justify="left" if name == "engine" else "right")
    for engine in (engine for engine in ENGINES.values() if engine.stage < 3 or not base.refuses_zero3):
        bytes_per_weight = base.bytes_per_computed_number if engine.deepspeed else base.bytes_per_weight
        setting = replace(base, engine=engine, bytes_per_weight=bytes_per_weight)
        runs = [replace(setting, gradient_checkpointing=checkpointing) for checkpointing in (True, False)]
        checkpointed, plain = (
            plan_memory(dims, with_vllm(dims, run, options["tensor_parallel"], options["vllm_share"])) for run in runs
        )
        peaks = map(total_bytes, (checkpointed.rollout, checkpointed.training, plain.training))
        limit = (1 - SPARE) * base.device_bytes
        cells = [Text(f"{peak / GIB:.1f}", "green" if peak <= limit else "red") for peak in peaks]
        table.add_row(engine.name, *cells, f"{total_bytes(checkpointed.host) / GIB:.0f}")
    return table


def memory_bar(name: str, parts: dict[str, float], limit: float, unit: str) -> Text:
    """One moment of a run as a stacked bar (`limit` bytes are `WIDTH` columns), and its parts in GiB."""
    visible = [(part, size) for part, size in parts.items() if size >= limit / 1000]
    text = Text(f"{name:<9}{total_bytes(parts) / GIB:8.1f} of {limit / GIB:.0f} GiB {unit}  ")
    colours = dict(zip(parts, COLOURS * 2, strict=False))
    for part, size in visible:
        text.append("█" * round(min(1.5, size / limit) * WIDTH), colours[part])
    text.append("\n         ")
    for part, size in visible:
        text.append(f" {part} ", colours[part]).append(f"{size / GIB:.1f}")
    return text
