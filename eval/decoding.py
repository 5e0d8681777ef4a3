"""Message decoding after r1_vlm: exact messages, and the similarity of the letters that were spelled out.

    python eval/decoding.py --model output/decode/checkpoint --output_dir output/decode-eval
    python eval/decoding.py --model M --task decode_sequences --data_file_paths data/decode/heldout.jsonl \\
        --image_folders data/decode --output_dir OUT

Without files, 256 held-out messages are made. r1_vlm reports 96 % of held-out messages.
"""

from open_r1.evaluation.cli import main, parser_of
from open_r1.evaluation.generated_rows import add_generator_flags, generated_rows

if __name__ == "__main__":
    parser = parser_of(__doc__)
    parser.set_defaults(task="decode_words")
    add_generator_flags(parser)
    main(parser, find_rows=generated_rows)
