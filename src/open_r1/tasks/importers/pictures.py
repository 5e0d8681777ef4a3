"""Finds the pictures that a source names, keeps those inside it, and brings all of one output below one folder.

Nothing is fetched: of a URL only the file's name counts. A name must mean one file below the search folders, as in
training, where paths never leave their folder. (torch-free)
"""

import hashlib
import io
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from PIL import Image

from open_r1.data.images import FORMATS, original_size
from open_r1.data.video.decoding.kinds import PROBED_BYTES, video_ending
from open_r1.data.video.types import VIDEO_ENDINGS
from open_r1.errors import DataError, UsageError, shorten
from open_r1.tasks.importers.picture_names import name_ends, of_a_machine, relative_parts
from open_r1.tasks.importers.picture_values import SourcePicture
from open_r1.tasks.importers.sources import Unusable
from open_r1.tasks.importers.splits import split_folders

SUBFOLDERS = ("", "images", "image", "imgs", "img", "pictures", "JPEGImages")  # beside a source
SUBFOLDERS += ("videos", "video", "clips")
SUBFOLDERS += ("../images", "../JPEGImages", "../img", "../videos")  # and beside its folder
ANNOTATION_FOLDERS = frozenset({"annotations", "annotation", "annos", "anns", "ann", "labels", "json", "jsons"})
ENDINGS = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
MOST_FILES = 2_000_000  # that are listed to find a picture by its name alone
ELSEWHERE = (
    "a picture that is not there: a file of its name lies in another folder than the source names; --image_folder DIR "
    "takes the files that lie directly in DIR by their names"
)
CONTESTED = "a picture that is not there: a file of this name lies elsewhere, and others mean it too"


class Pictures:
    """The pictures of the sources of one command: `folders` are searched, `out` gets those inside the sources.

    In folders that the user has `chosen` a file is taken by its name, whatever folder the source names. `contested`
    are files that several names would mean so.
    """

    def __init__(self, folders: Sequence[Path], out: Path, chosen: bool = False):
        self.folders = tuple(dict.fromkeys(folder.resolve() for folder in folders if folder.is_dir()))
        self.out, self.chosen = out, chosen
        self.contested: set[Path] = set()
        self._agreeing: set[Path] = set()  # files whose folder is the one named
        self._by_choice: set[Path] = set()  # and those of another folder's name, as the user has chosen
        self.by_name_alone: dict[Path, str] = {}  # files whose folder is not the one named, and the name
        self._found: dict[str, Path | Unusable] = {}
        self._sizes: dict[Path, tuple[int, int]] = {}

    def find(self, picture: SourcePicture) -> Path:
        """The file of a picture, written to `out` where its bytes are inside the source. Raises Unusable."""
        if isinstance(picture, bytes):
            return self._stored(picture)
        if picture not in self._found:
            try:
                self._found[picture] = self._search(picture)
            except Unusable as error:
                self._found[picture] = error
        if isinstance(found := self._found[picture], Unusable):
            raise found
        return found

    def stored_name(self, picture: SourcePicture) -> str:
        """A name that means the picture to `find`: its own, or that of the file of its bytes, which need not be kept.
        Raises Unusable."""
        if isinstance(picture, str):
            return picture
        path = self._stored(picture)
        self._found[str(path)] = path
        return str(path)

    def has(self, picture: SourcePicture) -> bool:
        """Whether a picture is there."""
        try:
            return bool(picture and self.find(picture))
        except Unusable:
            return False

    def size_wh(self, picture: SourcePicture) -> tuple[int, int]:
        """(width, height) in pixels of the upright picture. Raises Unusable where it cannot be found or opened."""
        return self.size_of(self.find(picture))

    def size_of(self, path: Path) -> tuple[int, int]:
        """`size_wh` of a file."""
        if path not in self._sizes:
            try:
                self._sizes[path] = original_size(str(path.parent), path.name)
            except DataError as error:
                raise Unusable(f"a picture that cannot be opened: {error.problems[0].got}") from error
        return self._sizes[path]

    def _stored(self, data: bytes) -> Path:
        path = self.out / f"{hashlib.sha256(data).hexdigest()[:20]}{_ending(data)}"
        if not path.exists():
            self.out.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return path.resolve()

    def _search(self, name: str) -> Path:
        """The one file that a name means: its whole path first, then shorter ends of it, then the name anywhere."""
        if "\0" in name:
            raise Unusable("a picture's name with a NUL")
        ends = list(name_ends(name))
        whole, parent = relative_parts(name)
        loose = not parent or of_a_machine(name)
        for end in ends:
            found = {path for folder in self.folders if (path := _inside(folder, end)) is not None}
            agreeing = {path for path in found if end in (name, whole) or path.parent.name == parent}
            if agreeing or (found and loose):
                return self._noted(_only(agreeing or found, name), name, bool(agreeing), bool(parent))
            if self.chosen and found and "/" not in end:
                return self._chosen(_only(found, name), name)
        elsewhere = False
        for last in dict.fromkeys(Path(end).name for end in ends):
            found = set(self._by_name.get(last) or (not Path(last).suffix and self._by_stem.get(last)) or ())
            agreeing = {path for path in found if path.parent.name == parent}
            if agreeing or (found and loose):
                return self._noted(_only(agreeing or found, name), name, bool(agreeing), bool(parent))
            elsewhere = elsewhere or bool(found)
        raise Unusable(ELSEWHERE if elsewhere else "a picture that is not there")

    def _noted(self, path: Path, name: str, agrees: bool, has_folder: bool = True) -> Path:
        """The file of a name; where the folders differ, one name alone may mean it. Raises Unusable."""
        if agrees and has_folder:
            self._agreeing.add(path)
            if path in self._by_choice:
                self.contested.add(path)
        if not agrees and has_folder and self.by_name_alone.setdefault(path, name) != name:
            self.contested.add(path)
            raise Unusable(CONTESTED)
        return path

    def _chosen(self, path: Path, name: str) -> Path:
        """The file in a folder of the user's that another folder's name means, which no name with its own folder may
        mean. Raises Unusable."""
        self._by_choice.add(path)
        if path in self._agreeing:
            self.contested.add(path)
            raise Unusable(CONTESTED)
        return self._noted(path, name, False)

    @cached_property
    def _by_name(self) -> Mapping[str, list[Path]]:
        """All pictures and videos below the search folders by their file name."""
        names: dict[str, list[Path]] = defaultdict(list)
        for path in at_most_files(self._files()):
            names[path.name].append(path)
        return names

    @cached_property
    def _by_stem(self) -> Mapping[str, list[Path]]:
        stems: dict[str, list[Path]] = defaultdict(list)
        for paths in self._by_name.values():
            for path in paths:
                if path.suffix.lower() in ENDINGS:  # a number names a picture
                    stems[path.stem].append(path)
        return stems

    def _files(self) -> Iterator[Path]:
        outermost = [
            f for f in self.folders if not any(f != other and f.is_relative_to(other) for other in self.folders)
        ]
        for folder in outermost:
            for directory, _, names in os.walk(folder):
                for name in names:
                    if Path(name).suffix.lower() in ENDINGS | VIDEO_ENDINGS and (
                        path := _inside(folder, f"{directory}/{name}")
                    ):
                        yield path


def at_most_files(files: Iterator[Path]) -> Iterator[Path]:
    """The files, up to MOST_FILES; raises UsageError beyond."""
    for number, path in enumerate(files):
        if number >= MOST_FILES:
            raise UsageError(
                f"--image_folder: got over {MOST_FILES:,} pictures to search, expected fewer; name the folder of the "
                "pictures"
            )
        yield path


def _inside(folder: Path, end: str) -> Path | None:
    """The real path of a regular file at `end`, relative or absolute, that lies below the folder, else None."""
    try:
        path = (folder / end).resolve()
        return path if path.is_relative_to(folder) and path.is_file() else None
    except OSError:  # a name too long for a file
        return None


def _only(files: set[Path], name: str) -> Path:
    if len(files) == 1:
        return next(iter(files))
    shown = " and ".join(sorted(map(str, files))[:2])
    raise Unusable(f"a picture's name that means several files, as {shorten(name)}: {shown}")


def _ending(data: bytes) -> str:
    """The usual ending of an encoded picture or video. Raises Unusable for bytes that are none."""
    if ending := video_ending(data[:PROBED_BYTES]):
        return f".{ending}"
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            return {"JPEG": ".jpg"}.get(str(image.format), f".{str(image.format).lower()}")
    except (OSError, Image.DecompressionBombError, SyntaxError, ValueError) as error:
        raise Unusable("bytes inside the source that are no picture") from error


def search_folders(sources: Iterable[Path], image_folder: Path | None) -> list[Path]:
    """The folders where pictures are looked for: the user's, or those beside the sources."""
    if image_folder is not None:
        return [image_folder]
    sources = list(sources)
    beside = list(dict.fromkeys(path if path.is_dir() else path.parent for path in sources))
    files = [file for path in sources for file in (sorted(path.glob("*.json")) if path.is_dir() else [path])]
    splits = [folder for file in files for folder in split_folders(file, places_of_splits(file.parent))]
    above = [folder / ".." for folder in beside if folder.resolve().name.lower() in ANNOTATION_FOLDERS]
    return [*(folder / name for folder in beside for name in SUBFOLDERS), *splits, *above]


def places_of_splits(beside: Path) -> tuple[Path, ...]:
    """The folders that may hold the pictures' folders, one a split, of a source in `beside`."""
    above = [beside.resolve().parent] if beside.resolve().name.lower() in ANNOTATION_FOLDERS else []
    return tuple(root / name for root in (beside, *above) for name in ("", "images"))
