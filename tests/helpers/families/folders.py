"""Model folders of tiny families, for runs through the scripts."""

from pathlib import Path

from helpers.families.tiny import processor_of, tiny


def save(name: str, folder: Path) -> Path:
    """Write the family's model and processor as a model folder; returns the folder."""
    model = tiny(name)
    model.config.name_or_path = ""
    model.save_pretrained(folder)
    processor_of(name).save_pretrained(folder)
    return folder
