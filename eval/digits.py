"""Digit recognition after r1_vlm: the sorted list, or the sum, of one to three digits; exact answers, for each
question.

    python eval/digits.py --model output/digits/checkpoint --output_dir output/digits-eval
    python eval/digits.py --model M --data_file_paths heldout.jsonl --image_folders data/digits --output_dir OUT

Without files, 256 held-out rows of UCI's handwritten digits are made.
"""

from open_r1.evaluation.made import add_made_rows, made_rows
from open_r1.evaluation.script import main, parser_of

if __name__ == "__main__":
    parser = parser_of(__doc__, task="digits")
    parser.set_defaults(by=["kind"])
    add_made_rows(parser)
    main(parser, find=made_rows)
