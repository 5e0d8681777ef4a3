"""How the demo looks: what is asked at the left, what is answered at the right, one column on a phone."""

import html
from pathlib import Path
from typing import Any

import gradio as gr

from open_r1.evaluation.demo.controller import Desk, hidden, step
from open_r1.evaluation.session import Answer, ModelSession
from open_r1.tasks.task import Generator

MOST_TOKENS, MOST_CHARACTERS = 16_384, 20_000
HOUR = 3600  # seconds that pictures and answers are kept
STYLE = """
.gradio-container {max-width: 1120px !important; margin: 0 auto !important}
#said textarea, #read textarea, #token {font-family: var(--font-mono)}
#pictures img {image-rendering: pixelated}
#drawn img, #heat img, #pictures img {max-height: 320px; object-fit: contain !important}
#drawn .grid-wrap, #heat .grid-wrap, #pictures .grid-wrap {
  min-height: 0 !important; max-height: none !important; padding-top: 34px}
#drawn .thumbnail-lg, #heat .thumbnail-lg, #pictures .thumbnail-lg {aspect-ratio: auto !important; height: auto}
#token .textfield {display: block; font-size: 0}
#token .token-container, #token .token, #token .text {display: inline; margin: 0; padding: 0}
#token .text {font-size: var(--text-md); white-space: pre-wrap}
#token .highlighted {color: inherit !important}
#token .highlighted .text {padding: 3px 0; background: inherit; border-radius: 3px}
"""


def build(asker: ModelSession, generator: Generator | None) -> gr.Blocks:
    """The page of one model; `generator` draws examples of its task where it has one."""
    desk, name = Desk(asker, generator), html.escape(Path(asker.settings.model).name)
    with gr.Blocks(title=f"Ask {name}", analytics_enabled=False, delete_cache=(HOUR, HOUR)) as page:
        gr.Markdown(f"## Ask {name}\nTask `{asker.settings.tasks[0]}`; answers are read and scored as in training.")
        with gr.Row():
            with gr.Column(min_width=340):
                question = left(asker, generator)
            with gr.Column(min_width=340):
                answer = right()
        connect(page, desk, question, answer)
    return page


def left(asker: ModelSession, generator: Generator | None) -> dict[str, Any]:
    """What is asked."""
    given, parts = asker.settings, {"extra": gr.State({}, time_to_live=HOUR)}
    parts["pictures"] = gr.Gallery(
        label="Pictures",
        file_types=["image"],
        format="png",
        columns=2,
        object_fit="contain",
        interactive=True,
        sources=["upload", "clipboard"],
        buttons=[],
        elem_id="pictures",
    )
    with gr.Row(visible=generator is not None):
        parts["draw"] = gr.Button("Draw an example", scale=3, min_width=180)
        parts["number"] = gr.Number(
            0,
            label="Number of the example",
            container=False,
            precision=0,
            minimum=0,
            maximum=10**6,
            scale=1,
            min_width=80,
        )
    parts["text"] = gr.Textbox(label="Question", lines=2, max_lines=8, max_length=MOST_CHARACTERS, elem_id="question")
    parts["gold"] = gr.Textbox(
        label="Gold answer", placeholder="to score against; may be empty", max_length=MOST_CHARACTERS, elem_id="gold"
    )
    with gr.Accordion("How it is asked", open=False):
        parts["mode"] = gr.Radio(["think", "direct"], value=given.modes[0], label="Prompt mode")
        parts["temperature"] = gr.Slider(0, 2, given.temperature, step=0.05, label="Temperature; 0 is greedy")
        with gr.Row():
            most = min(given.max_completion_length, MOST_TOKENS)
            parts["tokens"] = gr.Number(most, label="Most tokens", precision=0, minimum=1, maximum=MOST_TOKENS)
            parts["seed"] = gr.Number(given.seed, label="Seed", precision=0, minimum=0, maximum=2**31 - 1)
    with gr.Row():
        parts["ask"] = gr.Button("Ask", variant="primary", scale=3, min_width=180, elem_id="ask")
        parts["stop"] = gr.Button("Stop", interactive=False, scale=1, min_width=80, elem_id="stop")
    return parts


def right() -> dict[str, Any]:
    """What is answered."""
    parts: dict[str, Any] = {name: gr.State(None, time_to_live=HOUR) for name in ("answer", "seen")}
    parts["said"] = gr.Textbox(label="The model says", lines=4, max_lines=16, interactive=False, elem_id="said")
    with gr.Row():
        parts["read"] = gr.Textbox(label="Read as the answer", interactive=False, min_width=150, elem_id="read")
        parts["length"] = gr.Textbox(label="Length", interactive=False, min_width=150, elem_id="length")
    parts["rewards"] = gr.Dataframe(
        headers=["reward", "weight", "value"],
        label="Against the gold answer",
        visible=False,
        interactive=False,
        buttons=[],
        elem_id="rewards",
    )
    parts["drawn"] = pictures("Answered (red, dashed) and gold (green)", "drawn")
    parts["look"] = gr.Button("Show attention", interactive=False, elem_id="look")
    parts["token"] = gr.HighlightedText(
        label="Token",
        visible=False,
        show_legend=False,
        show_inline_category=False,
        color_map={"token": "#14b8a6"},
        elem_id="token",
    )
    parts["slider"] = gr.Slider(1, 2, 1, step=1, label="Token", visible=False, elem_id="slider")
    parts["heat"] = pictures("Where it looked", "heat")
    return parts


def pictures(label: str, name: str) -> gr.Gallery:
    """Pictures of an answer, exact ones."""
    return gr.Gallery(
        label=label,
        format="png",
        object_fit="contain",
        visible=False,
        interactive=False,
        buttons=["download", "fullscreen"],
        elem_id=name,
    )


def connect(page: gr.Blocks, desk: Desk, asked: dict[str, Any], said: dict[str, Any]) -> None:
    """What happens on which event; the model works for one visitor at a time."""
    quiet = {"api_visibility": "private", "show_progress": "hidden"}
    model = {"api_visibility": "private", "concurrency_id": "model", "concurrency_limit": 1}
    example = [asked[name] for name in ("pictures", "text", "gold", "extra")]
    for event in (asked["draw"].click, asked["number"].input):
        event(desk.draw, asked["number"], example, **quiet)
    for event in (asked["pictures"].upload, asked["pictures"].delete, asked["text"].input, asked["gold"].input):
        event(dict, None, asked["extra"], queue=False, **quiet)  # no longer the example that was drawn
    inputs = [*example, *(asked[name] for name in ("mode", "temperature", "tokens", "seed"))]
    outputs = [said[name] for name in ("said", "read", "length", "drawn", "rewards", "answer")]
    traces = [said[name] for name in ("seen", "slider", "token", "heat")]
    buttons = [asked["ask"], asked["stop"], said["look"]]
    begin = asked["ask"].click(begun, None, [*buttons, *traces], queue=False, **quiet)
    answered = begin.then(desk.ask, inputs, outputs, **model, show_progress="hidden")
    for end in (answered.success, answered.failure):  # Gradio's `then` does not run after an error
        end(ended, said["answer"], buttons, queue=False, **quiet)
    asked["stop"].click(desk.stop, queue=False, **quiet)
    page.unload(desk.stop)
    said["look"].click(desk.look, said["answer"], traces, **model, show_progress_on=[said["look"]])
    said["slider"].input(step, [said["seen"], said["answer"], said["slider"]], traces[2:], **quiet)


def begun() -> tuple[Any, ...]:
    """The buttons Ask, Stop and Show attention, and an older answer's attention, when a question is asked."""
    return (
        gr.update(interactive=False),
        gr.update(interactive=True),
        gr.update(interactive=False),
        None,
        *[hidden()] * 3,
    )


def ended(answer: Answer | None) -> tuple[Any, ...]:
    """The three buttons when it was answered, or refused."""
    seen = answer is not None and bool(answer.example.pictures)
    return gr.update(interactive=True), gr.update(interactive=False), gr.update(interactive=seen)
