"""Shares the queue among visitors, and takes a visitor out of it."""

from typing import Any

import gradio as gr
from gradio.queueing import Event, Queue
from gradio.server_messages import ProcessCompletedMessage

WAITING = 16  # requests in the queue, of all visitors
PLACES = {"model": 2}  # of one visitor, waiting or at work, by concurrency id
OTHER_PLACES = 6  # of one visitor, for what does not need the model
LOCAL = ("127.0.0.1", "::1")


def visitor_of(request: Any) -> str:
    """The address that a request comes from; behind a proxy on this machine, the one that it forwards.

    Sessions do not tell visitors apart, since anybody may name as many as they like.
    """
    address = request.client.host if request.client else ""
    forwarded = request.headers.get("x-forwarded-for", "").rpartition(",")[2].strip()
    return forwarded if address in LOCAL and forwarded else address


def events_of(queue: Queue) -> list[Event]:
    """All requests that wait or are at work."""
    waiting = [event for line in queue.event_queue_per_concurrency_id.values() for event in line.queue]
    return waiting + [event for jobs in queue.active_jobs for event in jobs or ()]


def share_places(page: gr.Blocks) -> None:
    """Refuse a visitor's requests beyond `PLACES`, so that one who asks without end leaves the queue to others."""
    queue = page._queue
    push = queue.push

    async def push_within_places(body: Any, request: Any, username: str | None) -> tuple[bool, Any, str]:
        fn = page.fns.get(body.fn_index)
        if fn is None:
            return False, f"fn_index: got {body.fn_index!r}, expected an action of this page; reload it", "error"
        visitor, places = visitor_of(request), PLACES.get(fn.concurrency_id, OTHER_PLACES)
        held = sum(
            visitor_of(event.request) == visitor and event.concurrency_id == fn.concurrency_id
            for event in events_of(queue)
        )
        if held >= places:
            return False, f"You wait for {held} answers already; ask again when one of them is there.", "queue_full"
        return await push(body=body, request=request, username=username)

    queue.push = push_within_places


async def leave_queue(page: gr.Blocks, session: str | None) -> bool:
    """Take a session's question out of the queue if it waits there; returns whether it did."""
    queue = page._queue
    line = queue.event_queue_per_concurrency_id.get("model")
    for event in [event for event in (line.queue if line else ()) if event.session_hash == session]:
        await queue.remove_from_queue(event._id)
        output = {"error": "Stopped before its turn.", "title": "Stopped", "visible": True, "duration": 5}
        queue.send_message(event, ProcessCompletedMessage(output=output, title="Stopped", success=False))
        return True
    return False
