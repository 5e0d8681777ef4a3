"""Segmentation by polynomials after VLM-R1's fork: gIoU (mean IoU), cIoU (summed intersections over summed unions),
ceiling.

    python eval/segmentation.py --model output/seg/checkpoint --data_file_paths data/coco/val.jsonl \\
        --image_folders data/coco --output_dir output/seg-eval
    python eval/draw_polygons.py data/coco/val.jsonl --image-root data/coco --output vis \\
        --predictions output/seg-eval/predictions.jsonl

An answer without a polygon has IoU 0, and its true mask counts in the union. The ceiling is the mean IoU of the gold
polygons with the masks: no answer of this form earns more. Without files, 256 held-out shapes are made.
"""

from open_r1.evaluation.cli import main, parser_of
from open_r1.evaluation.generated_rows import add_generator_flags, generated_rows

if __name__ == "__main__":
    parser = parser_of(__doc__, task="seg")
    add_generator_flags(parser)
    main(parser, find_rows=generated_rows)
