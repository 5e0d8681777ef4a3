"""The layout and events of the demo: question on the left, answer on the right; one column on a phone."""

import html
from pathlib import Path
from typing import Any

import gradio as gr

from open_r1.evaluation.demo.controller import MOST_NUMBER, DemoController, hidden, page_error, step
from open_r1.evaluation.demo.limits import MOST_CHARACTERS, MOST_TOKENS, MOST_VIDEOS, Limits
from open_r1.evaluation.demo.queueing import leave_queue
from open_r1.evaluation.session import Answer, ModelSession
from open_r1.tasks.task import Generator

HOUR = 3600  # seconds that pictures and answers are kept
STYLE = """
.gradio-container {max-width: 1120px !important; margin: 0 auto !important}
#said textarea, #read textarea, #token {font-family: var(--font-mono)}
#pictures img {image-rendering: pixelated}
.player video {max-height: 320px}
#drawn img, #heat img, #pictures img {max-height: 320px; object-fit: contain !important}
#drawn .grid-wrap, #heat .grid-wrap, #pictures .grid-wrap {
  min-height: 0 !important; max-height: none !important; padding-top: 34px}
#drawn .thumbnail-lg, #heat .thumbnail-lg, #pictures .thumbnail-lg {aspect-ratio: auto !important; height: auto}
#token .textfield {display: block; font-size: 0}
#token .token-container, #token .token, #token .text {display: inline; margin: 0; padding: 0}
#token .text {font-size: var(--text-md); white-space: pre-wrap; overflow-wrap: anywhere}
#draw {align-self: end}
#token .highlighted {color: inherit !important}
#token .highlighted .text {padding: 3px 0; background: inherit; border-radius: 3px}
"""


class Page(gr.Blocks):
    """Blocks whose errors are always a sentence: Gradio sends `null` for what a component cannot read."""

    async def process_api(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        try:
            return await super().process_api(*args, **kwargs)
        except Exception as error:
            raise page_error(error) from error


def build(session: ModelSession, generator: Generator | None, limits: Limits = Limits()) -> gr.Blocks:  # noqa: B008
    """The page of one model; `generator` makes examples of its task where it has one."""
    controller, name = DemoController(session, generator, limits), html.escape(Path(session.settings.model).name)
    with Page(title=f"Ask {name}", analytics_enabled=False, delete_cache=(HOUR, HOUR)) as page:
        gr.Markdown(f"## Ask {name}\nTask `{session.settings.tasks[0]}`; answers are read and scored as in training.")
        with gr.Row():
            with gr.Column(min_width=340):
                question = question_column(session, generator)
            with gr.Column(min_width=340):
                answer = answer_column()
        connect_events(page, controller, question, answer)
    return page


def question_column(session: ModelSession, generator: Generator | None) -> dict[str, Any]:
    """The components of the question, by name."""
    defaults, parts = session.settings, {"extra": gr.State({}, time_to_live=HOUR)}
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
    takes_videos = session.video_form is not None
    parts["videos"] = gr.File(
        label="Videos",
        file_count="multiple",
        file_types=["video"],
        height=110,
        interactive=True,
        visible=takes_videos,
        elem_id="videos",
    )
    parts["players"] = [player(number) for number in range(1, MOST_VIDEOS + 1)]
    with gr.Row(visible=generator is not None):
        parts["draw"] = gr.Button("Draw an example", scale=3, min_width=180, elem_id="draw")
        parts["number"] = gr.Number(
            0,
            label="Example number",
            precision=0,
            minimum=0,
            maximum=MOST_NUMBER,
            scale=1,
            min_width=130,
            elem_id="number",
        )
    parts["text"] = gr.Textbox(label="Question", lines=2, max_lines=8, max_length=MOST_CHARACTERS, elem_id="question")
    parts["gold"] = gr.Textbox(
        label="Gold answer", placeholder="to score against; may be empty", max_length=MOST_CHARACTERS, elem_id="gold"
    )
    with gr.Accordion("How it is asked", open=False):
        parts["mode"] = gr.Radio(["think", "direct"], value=defaults.modes[0], label="Prompt mode")
        parts["temperature"] = gr.Slider(0, 2, defaults.temperature, step=0.05, label="Temperature; 0 is greedy")
        with gr.Row():
            most = min(defaults.max_completion_length, MOST_TOKENS)
            parts["tokens"] = gr.Number(most, label="Most tokens", precision=0, minimum=1, maximum=MOST_TOKENS)
            parts["seed"] = gr.Number(defaults.seed, label="Seed", precision=0, minimum=0, maximum=2**31 - 1)
    with gr.Row():
        parts["ask"] = gr.Button("Ask", variant="primary", scale=3, min_width=180, elem_id="ask")
        parts["stop"] = gr.Button("Stop", interactive=False, scale=1, min_width=80, elem_id="stop")
    return parts


def player(number: int) -> gr.Video:
    """A player that takes no file itself: gradio's editor of videos would be loaded from elsewhere."""
    options = {"interactive": False, "visible": False, "buttons": [], "elem_classes": "player"}
    return gr.Video(label=f"Video {number}", elem_id=f"player{number}", **options)


def answer_column() -> dict[str, Any]:
    """The components of the answer, by name."""
    parts: dict[str, Any] = {name: gr.State(None, time_to_live=HOUR) for name in ("answer", "attention")}
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
    parts["drawn"] = answer_gallery("Answered (red, dashed) and gold (green)", "drawn")
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
    parts["heat"] = answer_gallery("Where it looked", "heat")
    return parts


def answer_gallery(label: str, name: str) -> gr.Gallery:
    """A gallery of an answer's pictures, as lossless PNG."""
    return gr.Gallery(
        label=label,
        format="png",
        object_fit="contain",
        visible=False,
        interactive=False,
        buttons=["download", "fullscreen"],
        elem_id=name,
    )


def connect_events(
    page: gr.Blocks, controller: DemoController, question: dict[str, Any], answer: dict[str, Any]
) -> None:
    """Connect events to actions; the model works for one visitor at a time."""
    quiet = {"api_visibility": "private", "show_progress": "hidden"}
    model = {"api_visibility": "private", "concurrency_id": "model", "concurrency_limit": 1}
    example = [question[name] for name in ("pictures", "text", "gold", "extra")]
    for event in (question["draw"].click, question["number"].input):
        event(controller.draw, question["number"], [*example, question["videos"]], **quiet)
    for event in (
        question["pictures"].upload,
        question["pictures"].delete,
        question["videos"].upload,
        question["videos"].delete,
        question["videos"].clear,
        question["text"].input,
        question["gold"].input,
    ):
        event(dict, None, question["extra"], queue=False, **quiet)  # the question is no longer the generated example
    question["videos"].change(shown_videos, question["videos"], question["players"], **quiet)
    inputs = [*example, *(question[name] for name in ("mode", "temperature", "tokens", "seed", "videos"))]
    outputs = [answer[name] for name in ("said", "read", "length", "drawn", "rewards", "answer")]
    traces = [answer[name] for name in ("attention", "slider", "token", "heat")]
    buttons = [question["ask"], question["stop"], answer["look"]]
    begin = question["ask"].click(waiting_state, None, [*buttons, *traces], queue=False, **quiet)
    answering = begin.then(controller.ask, inputs, outputs, **model, show_progress="hidden")
    for end in (answering.success, answering.failure):  # Gradio's `then` does not run after an error
        end(ready_state, answer["answer"], buttons, queue=False, **quiet)

    async def stop(request: gr.Request) -> None:
        if not await leave_queue(page, request.session_hash):
            controller.stop(request)

    question["stop"].click(stop, queue=False, **quiet)
    page.unload(controller.stop)
    answer["look"].click(
        controller.show_attention, answer["answer"], traces, **model, show_progress_on=[answer["look"]]
    )
    answer["slider"].input(step, [answer["attention"], answer["answer"], answer["slider"]], traces[2:], **quiet)


def shown_videos(paths: list[str] | None) -> list[Any]:
    """The players with the uploaded or drawn videos; hidden without one."""
    shown = [gr.Video(path, visible=True) for path in (paths or [])[:MOST_VIDEOS]]
    return shown + [hidden()] * (MOST_VIDEOS - len(shown))


def waiting_state() -> tuple[Any, ...]:
    """The buttons Ask, Stop and Show attention, and the emptied attention, after a click on Ask."""
    return (
        gr.update(interactive=False),
        gr.update(interactive=True),
        gr.update(interactive=False),
        None,
        *[hidden()] * 3,
    )


def ready_state(answer: Answer | None) -> tuple[Any, ...]:
    """The three buttons after an answer or an error."""
    was_shown = answer is not None and answer.example.has_media
    return gr.update(interactive=True), gr.update(interactive=False), gr.update(interactive=was_shown)
