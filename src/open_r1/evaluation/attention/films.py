"""Where the pictures and the videos of a prompt lie among its tokens, in whichever form videos are shown."""

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedModel, ProcessorMixin

from open_r1.data.video.types import VideoFrames
from open_r1.errors import UsageError
from open_r1.evaluation.attention.grids import Fields, PictureSize
from open_r1.evaluation.attention.layout import locate
from open_r1.evaluation.attention.tiles import Tile
from open_r1.evaluation.attention.video_layout import Steps, locate_videos
from open_r1.models.model_parts import image_token_of


@dataclass(frozen=True)
class Films:
    """The `videos` of a prompt, and the `tokens` that stand for native ones.

    `order`: where videos are shown as frames, what each picture of the prompt is: the number of its video, or None for
    a picture of the row's own. Pictures of tools come behind it.
    """

    videos: Sequence[VideoFrames] = ()
    tokens: frozenset[int] = frozenset()
    order: Sequence[int | None] | None = None

    def places(
        self, model: PreTrainedModel, fields: Fields, shapes: Sequence[PictureSize], processor: ProcessorMixin | None
    ) -> tuple[list[list[Tile]], list[Steps]]:
        """(tiles of each picture, steps of each video); `shapes`: the sizes of the row's own pictures and of tools'.

        Raises UsageError where tokens and what is shown do not match, or do not say where they lie.
        """
        if self.order is None:
            return self._native(model, fields, shapes, processor)
        of_tools = len(shapes) - sum(number is None for number in self.order)
        order, own = [*self.order, *[None] * of_tools], iter(shapes)
        frames = [video.pixels.shape[2:0:-1] for video in self.videos]  # (width, height)
        tiles = locate(model, fields, [next(own) if n is None else frames[n] for n in order], processor)
        parts = [
            [tile for tile, of in zip(tiles, order, strict=True) if of == n] for n in (None, *range(len(self.videos)))
        ]
        return parts[0], parts[1:]

    def _native(
        self, model: PreTrainedModel, fields: Fields, shapes: Sequence[PictureSize], processor: ProcessorMixin | None
    ) -> tuple[list[list[Tile]], list[Steps]]:
        """As `places`, of videos with tokens of their own."""
        videos = locate_videos(model, fields, self.tokens, self.videos)
        if videos and shapes and image_token_of(model.config) in self.tokens:
            raise UsageError(
                f"attention: got pictures and videos in one prompt of {model.config.model_type}, which have the same "
                "tokens; ask about one of the two"
            )
        return locate(model, fields, shapes, processor), videos


NO_FILMS = Films()
