"""Write the table of model families in README.md: what trains, how its boxes are read, who says so.

python local_scripts/dev/readme/families_table.py            # rewrites the page between its markers
python local_scripts/dev/readme/families_table.py --check    # exit status 1 when the page is not up to date
"""

from readme_sections import Section

from open_r1.families import family_rows, markdown


def section() -> Section:
    script = "local_scripts/dev/readme/families_table.py"
    return Section("families", "README.md", script, lambda: markdown(family_rows()))


if __name__ == "__main__":
    section().run(__doc__)
