"""Post-processing of scores: median filter, sound event bounding boxes (cSEBBs), their tuning."""

from task4_sed.postprocess.csebbs import (
    Boxes,
    CsebbsParameters,
    boxes_to_scores,
    combine_with_second_means,
    csebbs,
    read_boxes,
    read_parameters,
    write_boxes,
    write_parameters,
)
from task4_sed.postprocess.filters import median_filter
from task4_sed.postprocess.tuning import GRIDS, CsebbsGrid, Tuning, describe, grid, tune_csebbs

__all__ = [
    "GRIDS",
    "Boxes",
    "CsebbsGrid",
    "CsebbsParameters",
    "Tuning",
    "boxes_to_scores",
    "combine_with_second_means",
    "csebbs",
    "describe",
    "grid",
    "median_filter",
    "read_boxes",
    "read_parameters",
    "tune_csebbs",
    "write_boxes",
    "write_parameters",
]
