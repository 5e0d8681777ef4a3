"""What a rehearsal prints: memory of each phase beside the planner's, operations, seconds, the bill."""

from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from open_r1.plan.gpus import KNOWN_GPUS
from open_r1.plan.memory import GIB, rollout_bytes, total_bytes, training_bytes
from open_r1.rehearse.flags import Rehearsed
from open_r1.rehearse.step import Step
from open_r1.rehearse.times import ASSUMED_TIMES, phase_seconds

NAMES = {
    "prompts": "rollout: prompts",
    "tokens": "rollout: tokens",
    "old": "old log-probs",
    "reference": "reference log-probs",
    "rewards": "advantages",
    "policy": "policy: forward, backward",
    "optimizer": "optimizer step",
}
SHOWN_WAITS = 8


def show(console: Console, asked: Rehearsed, step: Step) -> None:
    """Print the whole report."""
    console.print(
        f"The step runs. {step.parameters / 1e9:.2f} B parameters, {step.trained / 1e9:.3g} B trained; prompts up to "
        f"{step.run.prompt_tokens:,} tokens, completions of {step.run.completion_tokens:,}; "
        f"{'; '.join(step.optimizations)}",
        highlight=False,
    )
    console.print(memory_table(step))
    for line in memory_notes(asked, step):
        console.print(line, highlight=False, soft_wrap=True)
    console.print(work_table(asked, step))
    if asked.own.gpu:
        for line in bill(asked, step):
            console.print(line, highlight=False, soft_wrap=True)
    waits = step.books.synchronisations.by_line(["policy"])
    named = ", ".join(f"{line} {count}" for line, count in waits.most_common(SHOWN_WAITS))
    console.print(f"Waits of the host in {step.done} micro-batches: {waits.total()} ({named})", highlight=False)


def memory_table(step: Step) -> Table:
    """Peaks by phase."""
    plans = {"tokens": rollout_bytes(step.dims, step.run), "policy": training_bytes(step.dims, step.run)}
    table = Table(title="GiB of a GPU, without CUDA's own context")
    for name in ("phase", "rehearsed", "planned"):
        table.add_column(name, justify="left" if name == "phase" else "right")
    for name, size in step.states().items():
        table.add_row(name, f"{size / GIB:.2f}", "")
    for phase in step.phases():
        plan = plans.get(phase)
        planned = "" if plan is None else f"{(total_bytes(plan) - plan['base']) / GIB:.2f}"
        table.add_row(f"peak, {NAMES[phase]}", f"{step.peak(phase) / GIB:.2f}", planned)
    return table


def memory_notes(asked: Rehearsed, step: Step) -> list[str]:
    """What the table's figures rest on, and whether they fit the card."""
    notes = []
    if asked.engine.deepspeed:
        notes.append(
            f"{asked.engine.name} on {asked.own.nproc} GPUs: states and gathered layers by the planner's arithmetic "
            "for this stage, all else rehearsed on one rank; ZeRO's own code and messages are not rehearsed"
        )
    elif asked.own.nproc > 1:
        notes.append(f"{asked.own.nproc} GPUs: one rank rehearsed; DDP's buckets and messages are not")
    if asked.vllm:
        notes.append("rollouts: by vLLM, which is not rehearsed: neither its memory nor its time is in these figures")
    if asked.own.gpu:
        card = KNOWN_GPUS[asked.own.gpu]
        verdict = "fits" if fits_card(asked, step) else "DOES NOT FIT"
        notes.append(
            f"{asked.own.gpu}: {card.memory:g} GiB; the largest peak {verdict} beside 5 % "
            "for CUDA's context and fragments"
        )
        if not card.bfloat16:
            notes.append(f"{asked.own.gpu} has no bfloat16: a run there needs --fp16 true, of as many bytes")
    return notes


def work_table(asked: Rehearsed, step: Step) -> Table:
    """Operations by phase, and seconds on the card."""
    own = asked.own
    times = phase_seconds(step, KNOWN_GPUS[own.gpu], own.utilisation) if own.gpu else {}
    table = Table(
        title="a step of one GPU" + (f"; seconds on {own.gpu} at {own.utilisation:.0%} utilisation" if times else "")
    )
    for name in ("phase", "TFLOP", "kernels", *(("seconds",) if times else ())):
        table.add_column(name, justify="left" if name == "phase" else "right")
    for phase in step.phases():
        times_run = step.repeats.get(phase, 1.0)
        cells = [NAMES[phase], f"{step.books.work.operations(phase) * times_run / 1e12:,.2f}"]
        cells.append(f"{step.books.work.launches(phase) * times_run:,.0f}")
        table.add_row(*cells, *([f"{times[phase]:.2f}"] if times else []))
    return table


@dataclass(frozen=True)
class RunTime:
    """Seconds of a step and of its `phases`, steps and hours of the run on its GPUs, its price (None without one)."""

    step_seconds: float
    phases: dict[str, float]
    completions: int  # of a step, on all GPUs
    steps: int
    hours: float
    price: float | None
    fits: bool  # the largest peak into the card, beside 5 %


def run_time(asked: Rehearsed, step: Step) -> RunTime:
    """The times of the run on the card of --gpu."""
    own, args = asked.own, asked.training
    phases = phase_seconds(step, KNOWN_GPUS[own.gpu], own.utilisation)
    a_step = sum(phases.values())
    hours = step.steps_of_run * a_step / 3600
    return RunTime(
        step_seconds=a_step,
        phases=phases,
        completions=args.per_device_train_batch_size * args.gradient_accumulation_steps * own.nproc,
        steps=step.steps_of_run,
        hours=hours,
        price=hours * own.nproc * own.gpu_price if own.gpu_price else None,
        fits=fits_card(asked, step),
    )


def fits_card(asked: Rehearsed, step: Step) -> bool:
    """Whether the largest peak fits the card of --gpu beside 5 % for CUDA's context and fragments."""
    most = max(step.peak(phase) for phase in step.phases())
    return most <= 0.95 * KNOWN_GPUS[asked.own.gpu].memory * GIB


def bill(asked: Rehearsed, step: Step) -> list[str]:
    """Step time, completions an hour and, with a price, what run and first checkpoint cost."""
    own, args, run = asked.own, asked.training, run_time(asked, step)
    a_step = run.step_seconds
    an_hour = f"{run.completions * 3600 / a_step:,.0f} completions an hour"
    lines = [f"A step takes {a_step:.1f} s: {an_hour} on {own.nproc} x {own.gpu}"]
    if run.price is not None:
        a_second = own.gpu_price * own.nproc / 3600
        first = min(int(args.save_steps) if args.save_steps >= 1 else step.steps_of_run, step.steps_of_run)
        lines.append(
            f"The run: {step.steps_of_run:,} steps, {run.hours:.1f} h, "
            f"{run.price:,.2f}; its first checkpoint, step {first:,}: "
            f"{first * a_step * a_second:,.2f} (at {own.gpu_price:g} a GPU and hour)"
        )
    return [*lines, f"Assumed: {ASSUMED_TIMES}"]
