"""Serve the demo: by default to this machine only; the page loads nothing from other hosts."""

import gradio as gr
from fastapi.middleware import Middleware

from open_r1.data.images import MAX_FILE_BYTES
from open_r1.errors import UsageError
from open_r1.evaluation.demo.host_check import HostCheck
from open_r1.evaluation.demo.queueing import WAITING, share_places
from open_r1.evaluation.demo.request_limits import RequestLimits
from open_r1.evaluation.demo.ui import STYLE

SESSIONS = 32  # visitors whose last answer is kept


def theme() -> gr.themes.Base:
    """A plain theme with system fonts."""
    fonts = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}
    return gr.themes.Base(primary_hue="teal", neutral_hue="slate", radius_size="lg", **fonts).set(
        block_border_width="1px",
        block_shadow="none",
    )


def serve(page: gr.Blocks, host: str, port: int | None) -> str:
    """Serve the page in the background; returns its address. Raises UsageError for an unusable host or port."""
    try:
        page.queue(max_size=WAITING, api_open=False)  # else a direct call of an action passes by the queue
        share_places(page)
        page.launch(
            server_name=host,
            server_port=port,
            share=False,
            allowed_paths=[],
            max_file_size=MAX_FILE_BYTES,
            state_session_capacity=SESSIONS,
            footer_links=[],
            run_history=False,
            ssr_mode=False,
            css=STYLE,
            theme=theme(),
            prevent_thread_lock=True,
            quiet=True,
            app_kwargs={"middleware": [Middleware(HostCheck, host=host), Middleware(RequestLimits)]},
        )
    except OSError as error:
        raise UsageError(
            f"--host, --port: got {host}:{port}, which cannot be served ({error}), expected an address of this "
            "machine and a free port; choose another --port"
        ) from error
    return page.local_url
