"""Digit recognition after r1_vlm: the sorted list, or the sum, of one to three digits; exact answers, for each
question.

    python eval/digits.py --model output/digits/checkpoint --output_dir output/digits-eval
    python eval/digits.py --model M --data_file_paths heldout.jsonl --image_folders data/digits --output_dir OUT

Without files, 256 held-out rows of UCI's handwritten digits are made.
"""

from open_r1.evaluation.cli import main, parser_of
from open_r1.evaluation.generated_rows import add_generator_flags, generated_rows

if __name__ == "__main__":
    parser = parser_of(__doc__, task="digits")
    parser.set_defaults(by=["kind"])
    add_generator_flags(parser)
    main(parser, find_rows=generated_rows)
