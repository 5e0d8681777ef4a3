"""Views of a row, of the same sizes: its own pictures and videos, blank ones, another row's, frames out of order."""

from dataclasses import dataclass

from open_r1.data.images import load_images
from open_r1.data.media_views import BLANK, OTHER, SHUFFLED, STILL
from open_r1.data.record import Record
from open_r1.data.video.files import load_videos
from open_r1.data.video.frame_cache import FrameCache
from open_r1.data.video.types import FrameSampling
from open_r1.rollout.other_pictures import Rgb, blank_pictures, fitted_pictures
from open_r1.rollout.other_videos import blank_videos, fitted_videos, shuffled_videos, still_videos
from open_r1.rollout.prompts import RowMedia


@dataclass(frozen=True)
class OtherMedia:
    """Makes views of rows: `color` of blank ones; `frames`: how a donor's videos are sampled; `seed`: of orders;
    `frame_cache`: what keeps sampled frames on disk."""

    color: Rgb
    frames: FrameSampling
    seed: int
    frame_cache: FrameCache | None = None

    def shown(self, view: str, record: Record, own: RowMedia, donor: Record | None) -> RowMedia:
        """What a row that has this view is shown in place of its `own`; `donor`: the row that others come from.

        Raises DataError for a donor's file that is damaged.
        """
        pictures, videos = own
        if view == BLANK:
            return RowMedia(blank_pictures(pictures, self.color), blank_videos(videos, self.color))
        if view == OTHER:
            return self._of_donor(donor, own)
        if view == SHUFFLED:
            return RowMedia(pictures, shuffled_videos(record, videos, self.seed))
        return RowMedia(pictures, still_videos(videos)) if view == STILL else own

    def _of_donor(self, donor: Record, own: RowMedia) -> RowMedia:
        """The pictures and videos of another row, in the sizes of the row's own."""
        pictures = fitted_pictures(load_images([donor])[0], own.pictures) if own.pictures else []
        if not own.videos:
            return RowMedia(pictures, [])
        (videos,) = load_videos([donor], self.frames, cache=self.frame_cache)
        return RowMedia(pictures, fitted_videos(videos, own.videos))
