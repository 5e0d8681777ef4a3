"""Measure how well few numbers describe a mask: mean IoU of outlines by basis, number of terms, kind of radius.

    python local_scripts/dev/figures/polygon_ceiling.py                                        # drawn shapes alone
    python local_scripts/dev/figures/polygon_ceiling.py --instances instances.jsonl --figure ceiling.png
    python local_scripts/dev/figures/polygon_ceiling.py --instances instances.jsonl --benchmark

Prints Markdown tables. A line of --instances holds `wh` ([width, height]) and `polygons` or `rle`, as COCO writes
them. --benchmark prints the instances that one core fits in a second at 640x480 instead.
"""

import argparse
import json
import time
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from open_r1.data.geometry.masks import Size, decode_rle, encode_rle, mask_iou_of, rasterise, read_segmentation
from open_r1.data.geometry.polygons import (
    BASES,
    REACHES,
    angles,
    ceiling,
    deepest_point,
    fit_polygon,
    outline_points,
    polygon_json,
    radii,
)
from open_r1.tasks.seg import MASK_SHAPES, draw_mask
from open_r1.tasks.task import example_rng

TERMS = (4, 8, 12, 16, 24, 32)
TABLE_TERMS = (8, 16, 24)
RAYS = "72 raw rays"
PER_SHAPE = 40
Table = dict[tuple[str, str, int], float]  # (reach, basis, terms) -> mean IoU; raw rays are (reach, RAYS, 0)


def shape_masks(per_shape: int) -> dict[str, list[np.ndarray]]:
    """Shape -> random masks of the segmentation task, 112 x 112."""
    rngs = [example_rng(0, ("train",), "train", index) for index in range(per_shape)]
    return {shape: [draw_mask(shape, rng, 112) for rng in rngs] for shape in MASK_SHAPES}


def instances(path: Path) -> list[np.ndarray]:
    """The masks of a file of instances."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    sizes: list[Size] = [(row["wh"][1], row["wh"][0]) for row in rows]
    annotations = [row.get("polygons") or row["rle"] for row in rows]
    return [decode_rle(read_segmentation(one, size)) for one, size in zip(annotations, sizes, strict=True)]


def measure(masks: list[np.ndarray]) -> Table:
    """Mean IoU of each form with the masks; numbers are rounded as in answers, raw rays are not rounded."""
    table: Table = {}
    for reach in REACHES:
        for basis in BASES:
            for terms in TERMS:
                values = [ceiling(fit_polygon(mask, basis, terms, reach=reach), mask) for mask in masks]
                table[reach, basis, terms] = float(np.mean(values))
        table[reach, RAYS, 0] = float(np.mean([raw_ray_iou(mask, reach) for mask in masks]))
    return table


def raw_ray_iou(mask: np.ndarray, reach: str) -> float:
    """IoU of the polygon through the ends of all rays."""
    centre = deepest_point(mask)
    theta, radius = angles(72), radii(mask, centre, reach=reach)
    outline = centre + radius[:, None] * np.stack([np.cos(theta), np.sin(theta)], axis=1)
    return mask_iou_of(rasterise(outline, mask.shape), encode_rle(mask))


def markdown(tables: dict[str, Table]) -> str:
    """Two Markdown tables: forms by masks, and kinds of radius by masks."""
    forms = [(basis, terms) for basis in BASES for terms in TABLE_TERMS] + [(RAYS, 0)]
    lines = ["| masks | " + " | ".join(f"{b} {t}" if t else b for b, t in forms) + " |"]
    lines.append("|---" * (len(forms) + 1) + "|")
    for name, table in tables.items():
        lines.append(f"| {name} | " + " | ".join(f"{table['area', b, t]:.3f}" for b, t in forms) + " |")
    columns = [(basis, 8) for basis in BASES] + [("fourier", 24), (RAYS, 0)]
    lines += ["", "| masks | radius | " + " | ".join(f"{b} {t}" if t else b for b, t in columns) + " |"]
    lines.append("|---" * (len(columns) + 2) + "|")
    for name, table in tables.items():
        for reach in REACHES:
            lines.append(f"| {name} | {reach} | " + " | ".join(f"{table[reach, b, t]:.3f}" for b, t in columns) + " |")
    return "\n".join(lines)


def plot(tables: dict[str, Table], path: Path) -> None:
    """Plot mean IoU by number of terms, a panel for each set of masks."""
    figure, axes = plt.subplots(1, len(tables), figsize=(4.2 * len(tables), 3.6), sharey=True, squeeze=False)
    for axis, (name, table) in zip(axes[0], tables.items(), strict=True):
        for basis, marker in zip(BASES, "os", strict=True):
            axis.plot(TERMS, [table["area", basis, terms] for terms in TERMS], marker=marker, label=basis)
        axis.axhline(table["area", RAYS, 0], color="gray", linestyle="--", label=RAYS)
        axis.set(title=name, xlabel="numbers in the outline", xticks=TERMS, ylim=(0.4, 1))
        axis.grid(alpha=0.3)
    axes[0][0].set_ylabel("mean IoU with the mask")
    axes[0][-1].legend(loc="lower right")
    figure.tight_layout()
    figure.savefig(path, dpi=110, metadata={"Software": None})


def examples(shapes: dict[str, list[np.ndarray]], path: Path, which: int = 4) -> None:
    """Draw one mask of each shape with its outline, a row for each form."""
    forms = [("chebyshev", 8), ("fourier", 8), ("fourier", 24)]
    figure, axes = plt.subplots(len(forms), len(shapes), figsize=(2 * len(shapes), 2.3 * len(forms)))
    for row, (basis, terms) in zip(axes, forms, strict=True):
        for axis, masks in zip(row, shapes.values(), strict=True):
            mask = masks[which % len(masks)]
            polygon = fit_polygon(mask, basis, terms)
            outline = outline_points(polygon)
            height, width = mask.shape
            axis.imshow(mask, cmap="gray", vmax=2, extent=(0, width, height, 0))
            axis.plot(*np.concatenate([outline, outline[:1]]).T, color="#2ecc40", linewidth=2)
            axis.plot(*polygon.centre, "+", color="#2ecc40")
            axis.set_title(f"{basis} {terms}: {ceiling(polygon, mask):.2f}", fontsize=9)
            axis.set_axis_off()
    figure.tight_layout()
    figure.savefig(path, dpi=80, metadata={"Software": None})


def benchmark(masks: list[np.ndarray], seconds: float) -> str:
    """Instances per second of processor time, from mask on a 640 x 480 picture to text and IoU."""
    pages = [np.zeros((480, 640), bool) for _ in masks]
    for page, mask in zip(pages, masks, strict=True):
        height, width = (min(a, b) for a, b in zip(mask.shape, page.shape, strict=True))
        page[:height, :width] = mask[:height, :width]
    pages = [page for page in pages if page.any()]
    count, start = 0, time.process_time()
    while time.process_time() - start < seconds:
        polygon = fit_polygon(pages[count % len(pages)])
        polygon_json(polygon), ceiling(polygon, pages[count % len(pages)])
        count += 1
    return f"{count / (time.process_time() - start):.0f} instances/s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--instances", type=Path, help="JSONL of real instances")
    parser.add_argument("--per_shape", type=int, default=PER_SHAPE, help="drawn masks of each shape")
    parser.add_argument("--figure", type=Path, help="PNG to write")
    parser.add_argument("--examples", type=Path, help="PNG of drawn shapes with their outlines to write")
    parser.add_argument("--benchmark", action="store_true", help="print the speed instead")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of the benchmark")
    args = parser.parse_args()
    shapes = shape_masks(args.per_shape)
    everything = [mask for masks in shapes.values() for mask in masks]
    real = instances(args.instances) if args.instances else []
    if args.benchmark:
        print(f"drawn shapes: {benchmark(everything, args.seconds)}")
        print(f"{args.instances}: {benchmark(real, args.seconds)}" if real else "no --instances")
        return
    if args.examples:
        examples(shapes, args.examples)
    groups = {f"COCO ({len(real)})": real} if real else {}
    groups |= {f"drawn shapes ({len(everything)})": everything}
    tables = {name: measure(masks) for name, masks in groups.items()}
    singles = {f"{shape} ({len(masks)})": measure(masks) for shape, masks in shapes.items()}
    print(markdown({**tables, **singles}))
    if args.figure:
        plot(tables, args.figure)


if __name__ == "__main__":
    main()
