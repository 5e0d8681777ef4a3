"""A page to ask a model about pictures and videos: tokens as they come, what is read, boxes, rewards, attention.

    python eval/demo.py --model assets/tiny-vlm --task digits          # then open http://127.0.0.1:7860

Upload pictures and a video, or draw an example of the task, which brings its question and gold answer. The page is
served to this machine alone unless `--host` says otherwise, keeps what it was shown for an hour, and loads nothing
from elsewhere. Needs `bash setup.sh --demo`.
"""

import argparse
import os
import sys
from importlib.util import find_spec

from open_r1.evaluation.flags import add_answer_flags, add_tool_flags
from open_r1.evaluation.session import ModelSession, printable, session_settings
from open_r1.tasks.find import find_task


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 serves everybody who reaches this machine")
    parser.add_argument("--port", type=int, default=7860)
    parser.add_argument("--answer_seconds", type=float, default=60, help="longest generation of one answer")
    parser.add_argument("--most_tokens", type=int, default=16_384, help="of prompt, pictures included, and answer")
    add_answer_flags(parser)
    add_tool_flags(parser)
    args = parser.parse_args()
    if find_spec("gradio") is None:
        sys.exit("eval/demo.py: gradio is not installed; run bash setup.sh --demo")
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    from open_r1.evaluation.demo.limits import Limits
    from open_r1.evaluation.demo.server import serve
    from open_r1.evaluation.demo.ui import build

    try:
        limits = Limits(args.answer_seconds, args.most_tokens).check()
        session = ModelSession(session_settings(args))
        generator = find_task(session.settings.tasks[0]).generator
        page = build(session, generator and generator(), limits)
        print(f"{serve(page, args.host, args.port)} (Ctrl-C ends it)", flush=True)
    except (ValueError, OSError) as error:  # UsageError is a ValueError
        sys.exit(printable(str(error)))
    page.block_thread()


if __name__ == "__main__":
    main()
