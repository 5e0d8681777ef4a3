"""The form in which a run shows videos: the processor's own, or frames as pictures (`--video_form`)."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from transformers import ProcessorMixin

from open_r1.data.record import Record
from open_r1.errors import Problem, UsageError
from open_r1.rollout.processor_fields import PromptFields, prompt_fields
from open_r1.rollout.video_trials import why_no_native_videos

# Families that were taught videos as their frames, and where that is said.
AS_FRAMES = {
    "gemma3": "its model card: videos are read as a sequence of images",
    "gemma3n": "its model card: videos are read as a sequence of images",
}
# Families whose processor takes videos and whose model in transformers 5.17 does not.
BROKEN = {
    "kimi_k25": "transformers splits the features of its videos as if each frame had its own",
    "qwen4_exp": "transformers gives its indexer the positions of one channel",
}
NO_FORM_REMEDY = "add --video_form frames, which shows each frame as a picture, or choose a model that takes videos"


def why_no_native_form(
    processor: ProcessorMixin, family: str, template: Mapping[str, Any] | None = None
) -> str | None:
    """Why videos cannot be shown in a processor's own form, or None."""
    return BROKEN.get(family) or why_no_native_videos(processor, template)


def resolved_form(
    asked: str, processor: ProcessorMixin, family: str, template: Mapping[str, Any] | None = None
) -> tuple[str | None, str]:
    """("native" or "frames", "") for `--video_form`, or None and why there is no form for a `config.model_type`.

    Raises UsageError for "native" where the processor, its chat template or the model does not take videos.
    """
    if asked == "frames":
        return "frames", ""
    reason = why_no_native_form(processor, family, template)
    if reason and asked == "native":
        raise UsageError(f"--video_form: got native for a {family}, expected auto or frames: {reason}")
    if reason is None:
        return "native", ""
    return ("frames", "") if family in AS_FRAMES else (None, f"model_type {family!r}: {reason}")


@dataclass
class VideoRows:
    """Checks rows with videos, and counts them: `seen`, and the `most` videos of one. `form`: "native", "frames", or
    None for `reason`."""

    form: str | None
    reason: str
    fields: PromptFields
    seen: int = 0
    most: int = 0

    @classmethod
    def of_run(
        cls, asked: str, processor: ProcessorMixin, family: str, template: Mapping[str, Any] | None = None
    ) -> "VideoRows":
        """The check of a run with this `--video_form`. Raises UsageError as `resolved_form`."""
        form, reason = resolved_form(asked, processor, family, template)
        return cls(form, reason, prompt_fields(processor, None, template, form))

    @property
    def shown(self) -> str | None:
        """The form of the run's videos; None where no row that was checked has one."""
        return self.form if self.seen else None

    def problems(self, record: Record) -> Iterable[Problem]:
        """What keeps a row's videos from being shown."""
        if not record.videos:
            return
        self.seen, self.most = self.seen + 1, max(self.most, len(record.videos))
        count = f"{len(record.videos)} video(s)"
        if self.form is None:
            yield Problem(record.where, "video", count, f"none: {self.reason}", NO_FORM_REMEDY)
        elif record.images and self.fields.why_unmixed:
            got, expected = f"{count} beside pictures", f"no picture: {self.fields.why_unmixed}"
            yield Problem(record.where, "video", got, expected, "add --video_form frames")

    def beside(self, check: Callable[[Record], Iterable[Problem]]) -> Callable[[Record], Iterable[Problem]]:
        """This check and another one."""
        return lambda record: [*check(record), *self.problems(record)]
