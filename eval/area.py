"""Areas after VLM Area: within 10 % of the true area, and the mean relative error of the answers that were read.

    python eval/area.py --model output/area/checkpoint --output_dir output/area-eval
    python eval/area.py --model M --data_file_paths data/area/heldout.jsonl --image_folders data/area \\
        --output_dir OUT --by shape

Without files, 256 held-out pictures are made (`local_scripts/make_dataset.py area` has options for other kinds). VLM
Area itself has no evaluation; its logs say relative errors of .43 -> .12 (turned shapes) and .49 -> .24 (a wide
range).
"""

from open_r1.evaluation.cli import main, parser_of
from open_r1.evaluation.generated_rows import add_generator_flags, generated_rows

if __name__ == "__main__":
    parser = parser_of(__doc__, task="area")
    add_generator_flags(parser)
    main(parser, find_rows=generated_rows)
