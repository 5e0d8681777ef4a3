"""The table of foreign formats by name, and telling which one a source has. (torch-free)

To add one, write a reader in a file of this folder and a line in FOREIGN_FORMATS. The name is what users give to
`--from`.
"""

from functools import partial
from pathlib import Path

from open_r1.data.file_kinds import file_problem
from open_r1.errors import data_error, look_up
from open_r1.tasks.importers.annotations.box_tables import is_box_table, is_createml, read_box_table, read_createml
from open_r1.tasks.importers.annotations.coco_instances import is_coco, read_coco
from open_r1.tasks.importers.annotations.cvat import is_cvat, read_cvat
from open_r1.tasks.importers.annotations.label_studio import (
    is_label_studio,
    is_label_studio_min,
    read_label_studio,
    read_label_studio_min,
)
from open_r1.tasks.importers.annotations.labelme import is_labelme, read_labelme
from open_r1.tasks.importers.annotations.object_columns import has_object_column, read_object_columns
from open_r1.tasks.importers.annotations.refcoco_rows import is_refcoco, read_refcoco
from open_r1.tasks.importers.annotations.supervisely import is_supervisely, read_supervisely
from open_r1.tasks.importers.annotations.via import is_via, read_via
from open_r1.tasks.importers.annotations.voc import is_voc, read_voc
from open_r1.tasks.importers.annotations.yolo import is_yolo, read_yolo
from open_r1.tasks.importers.image_folders import (
    is_class_folder,
    is_metadata_folder,
    read_class_folder,
    read_metadata_folder,
)
from open_r1.tasks.importers.items import ForeignFormat, ImportOptions
from open_r1.tasks.importers.questions.conversations import is_chat, is_conversation, read_conversations
from open_r1.tasks.importers.questions.gui import is_gui_set, read_gui_set
from open_r1.tasks.importers.questions.question_rows import QUESTION_FORMS, question_form, read_questions
from open_r1.tasks.importers.questions.visual_search import is_visual_search, read_visual_search
from open_r1.tasks.importers.questions.vqa_files import (
    is_vqa_annotations,
    is_vqa_questions,
    read_vqa_annotations,
    read_vqa_questions,
)
from open_r1.tasks.importers.sources import PACKED, Source
from open_r1.tasks.importers.table import read_table


def _has_form(source: Source, name: str) -> bool:
    """Whether rows are questions of this form, and of no more special format."""
    special = (is_conversation, is_chat, is_gui_set, is_refcoco, is_visual_search)
    return question_form(source) == name and not any(matches(source) for matches in special)


FOREIGN_FORMATS: dict[str, ForeignFormat] = {
    "llava": ForeignFormat("LLaVA / ShareGPT conversations", is_conversation, read_conversations),
    "qwen_vl": ForeignFormat(
        "Qwen-VL conversations", partial(is_conversation, with_named_pictures=True), read_conversations
    ),
    **{
        name: ForeignFormat(form.title, partial(_has_form, name=name), partial(read_questions, form=form))
        for name, form in QUESTION_FORMS.items()
    },
    "vqa_questions": ForeignFormat("VQAv2 questions", is_vqa_questions, read_vqa_questions),
    "vqa_annotations": ForeignFormat("VQAv2 annotations", is_vqa_annotations, read_vqa_annotations),
    "gui": ForeignFormat("GUI clicks (ScreenSpot, OS-Atlas)", is_gui_set, read_gui_set),
    "visual_search": ForeignFormat("visual search (V* bench)", is_visual_search, read_visual_search),
    "imagefolder": ForeignFormat("folder of pictures with metadata", is_metadata_folder, read_metadata_folder),
    "classfolder": ForeignFormat("folder of pictures for each label", is_class_folder, read_class_folder),
    "table": ForeignFormat("rows by --fields", lambda source: False, read_table),
    "messages": ForeignFormat("chat messages (OpenAI, ms-swift, ShareGPT)", is_chat, read_conversations),
    "coco": ForeignFormat("COCO instances", is_coco, read_coco),
    "labelme": ForeignFormat("LabelMe", is_labelme, read_labelme),
    "label_studio": ForeignFormat("Label Studio, JSON", is_label_studio, read_label_studio),
    "label_studio_min": ForeignFormat("Label Studio, JSON-MIN", is_label_studio_min, read_label_studio_min),
    "cvat": ForeignFormat("CVAT for images 1.1 (XML)", is_cvat, read_cvat),
    "voc": ForeignFormat("Pascal VOC (XML)", is_voc, read_voc),
    "yolo": ForeignFormat("YOLO's text files", is_yolo, read_yolo),
    "via": ForeignFormat("VGG Image Annotator (JSON)", is_via, read_via),
    "createml": ForeignFormat("CreateML (JSON)", is_createml, read_createml),
    "box_table": ForeignFormat("a table of boxes (CSV)", is_box_table, read_box_table),
    "supervisely": ForeignFormat("Supervisely", is_supervisely, read_supervisely),
    "objects": ForeignFormat("rows with a column of objects (hub)", has_object_column, read_object_columns),
    "refcoco": ForeignFormat("RefCOCO (refs pickle, parquet, VLM-R1's JSON)", is_refcoco, read_refcoco),
}


def format_of(source: Source, named: str = "", with_fields: bool = False) -> str:
    """The name of a source's format, `named` where the user gives it, "table" for rows of which the user names the
    fields. Raises DataError where none or several fit, and ValueError for an unknown name."""
    if named:
        look_up(named, FOREIGN_FORMATS, "--from")
        return named
    if with_fields and source.kind != "folder":
        return "table"
    fitting = [name for name, known in FOREIGN_FORMATS.items() if known.matches(source)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        words = " or ".join(f"{FOREIGN_FORMATS[name].title} (--from {name})" for name in fitting)
        raise data_error(str(source.path), "format", f"a file that may be {words}", "one format", "give --from")
    _refuse_no_data(source.path)
    if source.kind in PACKED:
        raise data_error(str(source.path), "file", f"a {source.kind} file", "what is in it", PACKED[source.kind])
    remedy = f"give --from with one of {', '.join(FOREIGN_FORMATS)}, or --fields problem=...,solution=...,image=..."
    raise data_error(str(source.path), "format", shape_of(source), "a known format", remedy)


def _refuse_no_data(path: Path) -> None:
    """Raises DataError for a file without data: an empty one, `[]`, a web page, a pointer."""
    if not path.is_file():
        return
    with path.open("rb") as file:
        head = file.read(512).removeprefix(b"\xef\xbb\xbf").strip()
    again = "download it again, or export it again"
    if not head or head in (b"[]", b"{}", b"null"):
        got = f"a file that holds only {head.decode()}" if head else "an empty file"
        raise data_error(str(path), "file", got, "a file with rows", again)
    problem = file_problem(str(path))
    if problem and problem.got.startswith(("a web page", "a Git LFS pointer")):
        raise data_error(str(path), "file", problem.got, "a file with rows", problem.remedy)
    if path.suffix == ".parquet" and not head.startswith(b"PAR1"):
        raise data_error(str(path), "file", "a file named .parquet that is no parquet", "parquet", again)


def shape_of(source: Source) -> str:
    """What a source holds, for a message."""
    if fields := ", ".join(map(str, list(source.first)[:12])):
        return f"{source.kind} of rows with the fields {fields}"
    return f"a file of kind {source.kind}" if source.kind != "folder" else "a folder"


ANNOTATED = frozenset(  # formats of pictures with objects, about which --task asks
    {
        "coco",
        "labelme",
        "label_studio",
        "label_studio_min",
        "cvat",
        "voc",
        "yolo",
        "via",
        "createml",
        "box_table",
        "objects",
        "supervisely",
        "refcoco",
    }
)
OF_CONVERSATIONS = frozenset({"llava", "qwen_vl", "messages", "table", "imagefolder"})
OF_ROWS = (".json", ".jsonl", ".csv", ".tsv", ".parquet")


def sources_of(source: Source, named: str = "") -> list[Source]:
    """The source; or the files of rows in a folder that has no format as a whole, such as the shards of a data set."""
    if source.kind != "folder" or named or any(known.matches(source) for known in FOREIGN_FORMATS.values()):
        return [source]
    folders = (source.path, source.path / "data")
    files = sorted(
        path for folder in folders if folder.is_dir() for path in folder.iterdir() if path.suffix in OF_ROWS
    )
    return [Source(path) for path in files] or [source]


# Of these the form of the numbers is not open: all other annotated pictures name it.
OPEN_BOXES = frozenset({"coco", "box_table", "objects"})


def refuse_idle_options(name: str, options: ImportOptions) -> None:
    """Raises DataError for what the user says that cannot act on a format."""
    title = FOREIGN_FORMATS[name].title
    if name in ANNOTATED and (options.task == "vqa" or options.keep):
        said = "--task vqa" if options.task == "vqa" else "--keep"
        raise data_error(said, "value", title, "a source of questions", f"leave {said} out")
    if name == "refcoco" and options.task not in ("", "rec"):
        raise data_error("--task", options.task, title, "rec, one box a sentence", "leave --task out")
    if options.boxes and name in ANNOTATED - OPEN_BOXES:
        expected = f"no --boxes, as {title} names what its numbers are"
        raise data_error("--boxes", options.boxes, title, expected, "leave --boxes out")
    if name not in ANNOTATED and options.task in ("seg", "counting", "point"):
        raise data_error("--task", options.task, title, "a source of annotated pictures", "leave --task out")
    if options.fields and name not in ("table", "imagefolder"):
        raise data_error("--fields", "value", title, "rows whose fields are named", "leave --fields or --from out")
    if options.all_turns and name not in OF_CONVERSATIONS:
        raise data_error("--turns", "all", title, "a source of conversations", "leave --turns out")
