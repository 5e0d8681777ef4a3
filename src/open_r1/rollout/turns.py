"""Rollouts with tool turns: a row whose turn calls a tool goes on behind the tool's answer, its pictures in place.

A turn ends at the ordinary end token. The tool's tokens are what the chat template writes between two turns of the
model, pictures expanded by the processor; what was sampled is never tokenized again. The budget of tokens counts all
tokens of a completion; an answer for which tokens, turns or pictures do not suffice is left out as a whole, and the
completion ends with the call.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, as_completed
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol

from transformers import ProcessorMixin

from open_r1.data.control_tokens import ControlTokens, control_tokens
from open_r1.rollout.processing import Values
from open_r1.rollout.processor_fields import PromptFields
from open_r1.rollout.prompt_loader import Opening
from open_r1.rollout.prompts import Example, Prompt
from open_r1.rollout.row_in_progress import Row
from open_r1.rollout.tool_turns import processed_answer, tool_turns_of
from open_r1.rollout.trajectory import Segment, ToolTurns, Trajectory
from open_r1.tools.answering import Answers, Ask, answering
from open_r1.tools.between import text_between
from open_r1.tools.environment_state import Earned
from open_r1.tools.episodes import opened
from open_r1.tools.listing import OfferedChat, offer_tools
from open_r1.tools.messages import ModelTurn
from open_r1.tools.toolbox import ToolAnswer, Toolbox

THOUGHT_TAG = "<think>"  # with which some templates begin the model's turn


@dataclass(frozen=True)
class TurnRollout:
    """A completion: its tokens, what tools put into it as tensors (None where none acted), and its `turns` as text, of
    which the last has calls without answers where `limit`, a flag with its value, left these out; what it `earned` by
    its environment, None without one."""

    trajectory: Trajectory
    tensors: ToolTurns | None
    turns: Sequence[ModelTurn]
    limit: str | None
    earned: Earned | None = None


class Sample(Protocol):
    """Samples the next turn of each of these rows, up to and with its end token, and ends it; what is over the row's
    budget is cut off. A turn may be ended while others are sampled, and a row that then goes on (`going_on`) may be
    sampled again at once. Without rows it steps with ranks that sample together."""

    def __call__(self, turns: "OpenTurns") -> None: ...


def prefilled(sample: Callable[[Sequence[Prompt], Sequence[int], int], list[list[int]]]) -> Sample:
    """A `Sample` by a function that reads the prompts of these turns anew, for rows of these numbers and at most so
    many tokens."""

    def sample_turns(turns: "OpenTurns") -> None:
        ids = sample([row.continued for row in turns.rows], turns.numbers, max(turns.budgets, default=1))
        turns.end_others(ids)

    return sample_turns


RowsGoingOn = Callable[[], Iterable[int]]  # answers the calls of a round: the rows that go on


def by_itself(answer: RowsGoingOn) -> tuple[list[int], bool]:
    """What `answer` gives, sorted, and whether there is another round: where no rank waits for another.

    >>> by_itself(lambda: [2, 1]), by_itself(list)
    (([1, 2], True), ([], False))
    """
    rows = sorted(answer())
    return rows, bool(rows)


@dataclass(frozen=True)
class TurnSampler:
    """How completions with tools are sampled.

    `template` holds options of the chat template; `ends` are the end tokens; `tokens` is the most of a completion;
    `place` brings a completion's tool turns to the device, with features of a frozen vision tower where prompts have
    them. `in_step`, as `by_itself`, agrees with ranks that sample together on another round; a rank whose rows have
    all ended then samples for no rows.
    """

    sample: Sample
    toolbox: Toolbox
    processor: ProcessorMixin
    fields: PromptFields
    template: Mapping[str, Any]
    ends: Sequence[int]
    tokens: int
    place: Callable[[ToolTurns], ToolTurns]
    in_step: Callable[[RowsGoingOn], tuple[list[int], bool]] = by_itself

    def rollouts(self, examples: Sequence[Example], prompts: Sequence[Prompt]) -> list[TurnRollout]:
        """One completion for each row; rows of a group hold the same Prompt, which their first turns share."""
        shown = [(example.record, example.own_pictures, example.opening) for example in examples]
        with opened(self.toolbox.arena, shown) as episodes, answering(self.toolbox) as ask:
            given = zip(examples, prompts, episodes, strict=True)
            rows = [Row(example, prompt, self.tensors_of, self.place, episode) for example, prompt, episode in given]
            running, another = list(range(len(rows))), True
            while another:
                turns = OpenTurns(self, ask, running, [rows[i] for i in running])
                self.sample(turns)
                running, another = self.in_step(turns.concluded)
            return [self.ended(row) for row in rows]

    def ended(self, row: Row) -> TurnRollout:
        """The completion of a row that has ended."""
        earned = row.episode and row.episode.earned
        turns = (*row.turns[:-1], replace(row.turns[-1], limit=row.limit))
        return TurnRollout(row.trajectory, row.tensors, turns, row.limit, earned)

    def end_turn(self, row: Row, segment: Segment, budget: int, ask: Ask) -> bool:
        """Append a turn of the model to a row; whether its calls are being answered."""
        pictures = row.pictures
        row.segments.append(segment.cut(budget))
        row.turns.append(self.read(row.prompt, row.segments[-1].ids))
        calls, row.answers = row.turns[-1].calls, None
        if calls:
            row.limit = self.toolbox.limits.reached(len(row.made), len(row.trajectory.pictures), 0)
        if calls and row.limit is None:
            row.answers = ask(calls, pictures, row.example.record, row.episode)
        return row.answers is not None

    def read(self, prompt: Prompt, ids: Sequence[int]) -> ModelTurn:
        """A turn as text, with its calls; one that came to no end calls nothing."""
        ended = bool(ids) and ids[-1] in self.ends
        text = self.processor.tokenizer.decode(list(ids[:-1] if ended else ids), skip_special_tokens=False)
        begun = self.processor.tokenizer.decode(prompt.ids[-2 * len(THOUGHT_TAG) :].tolist())
        return ModelTurn(text, self.toolbox.read(text, begun.rstrip().endswith(THOUGHT_TAG)) if ended else ())

    def append(self, row: Row, answers: Sequence[ToolAnswer]) -> bool:
        """Append answers to a row, unless they leave no token for the model, or have too many pictures. Of those that
        end its episode the model sees nothing: nothing is sampled behind them."""
        last, end = row.turns[-1], row.segments[-1].ids[-1]
        if answers[-1].over:
            row.turns[-1] = ModelTurn(last.text, last.calls, answers)
            return False
        ended_by = self.processor.tokenizer.decode([end])
        text, pictures = text_between(self.processor, answers, self.template, self.control, ended_by)
        values, so_far = processed_answer(self.processor, text, pictures), row.trajectory
        segment = Segment(values["input_ids"][0].tolist(), sampled=False, pictures=tuple(pictures), text=text)
        row.limit = self.toolbox.limits.reached(len(row.made), len(so_far.pictures), len(pictures))
        if row.limit is None and len(so_far.ids) + len(segment.ids) >= self.tokens:
            row.limit = f"max_completion_length {self.tokens}"
        if row.limit is None:
            row.segments.append(segment)
            row.made.append(values)
            row.turns[-1] = ModelTurn(last.text, last.calls, answers)
        return row.limit is None

    @cached_property
    def control(self) -> ControlTokens:
        """What must not stand in a tool's text."""
        return control_tokens(self.processor, self.template)

    def tensors_of(self, trajectory: Trajectory, made: Sequence[Values]) -> ToolTurns:
        """A row's tool turns, on the CPU."""
        return tool_turns_of(trajectory, self.fields, made)


@dataclass(frozen=True)
class OpenTurns:
    """The turns of `rows` that a `Sample` samples; `numbers` are the rows' places in the batch."""

    sampler: TurnSampler
    ask: Ask
    numbers: Sequence[int]
    rows: Sequence[Row]
    ended: set[int] = field(default_factory=set)  # places, here, of rows whose turn has ended

    @property
    def budgets(self) -> list[int]:
        """The most tokens of the next turn of each row."""
        return [self.budget(place) for place in range(len(self.rows))]

    def budget(self, place: int) -> int:
        """The most tokens of the next turn of a row."""
        return self.sampler.tokens - len(self.rows[place].trajectory.ids)

    def end(self, place: int, segment: Segment) -> bool:
        """Append a turn to a row and begin to answer its calls; whether there are any to answer."""
        self.ended.add(place)
        answered = self.sampler.end_turn(self.rows[place], segment, self.budget(place), self.ask)
        return self.conclude_unless(place, answered)

    def conclude_unless(self, place: int, goes_on: bool) -> bool:
        """Begin to ask what a row earned by its environment, whose process then ends, unless it `goes_on`."""
        row = self.rows[place]
        if row.episode is not None and not goes_on:
            row.earned = self.ask.conclude(row.episode)
        return goes_on

    def end_others(self, ids: Sequence[Sequence[int]]) -> None:
        """End the turns that have not ended, each with its tokens of `ids`."""
        for place, each in zip(range(len(self.rows)), ids, strict=bool(self.rows)):
            if place not in self.ended:
                self.end(place, Segment(each, sampled=True))

    @property
    def awaited(self) -> dict[Future[Answers], int]:
        """The answers that have not been appended -> the places of their rows."""
        return {row.answers: place for place, row in enumerate(self.rows) if row.answers is not None}

    def going_on(self) -> list[int]:
        """Append the answers that have come; the places of the rows that go on, whose next turns begin."""
        going_on = [place for answers, place in self.awaited.items() if answers.done() and self.append(place)]
        self.ended.difference_update(going_on)
        return going_on

    def append(self, place: int) -> bool:
        """Append a row's answers, waiting for them; whether the row goes on."""
        row = self.rows[place]
        answers, row.answers = row.answers.result(), None
        return self.conclude_unless(place, self.sampler.append(row, answers))

    def concluded(self) -> list[int]:
        """Append all answers, as they come, and wait for what rows that have ended earned; the numbers of rows that go
        on. Raises what a tool or an environment raised."""
        awaited = self.awaited
        going_on = {awaited[answers] for answers in as_completed(awaited) if self.append(awaited[answers])}
        earned = [row.earned for row in self.rows if row.earned is not None]
        for each in as_completed(earned):
            each.result()
        return [self.numbers[place] for place in going_on]


def with_tool_list(chat: OfferedChat, toolbox: Toolbox | None) -> OfferedChat:
    """A prompt's messages, with the list of tools where the chat template does not write it."""
    return chat if toolbox is None else offer_tools(chat, toolbox)[0]


def with_tool_options(template: Mapping[str, Any], toolbox: Toolbox | None) -> dict[str, Any]:
    """Options of the chat template, with the tools where it lists them."""
    return dict(template) | ({} if toolbox is None else offer_tools([{"role": "system", "content": []}], toolbox)[1])


def opening_of(toolbox: Toolbox | None) -> Opening | None:
    """What puts the beginning of the run's environment at the end of a prompt; None without one."""
    return toolbox.arena.opening if toolbox is not None and toolbox.arena is not None else None
