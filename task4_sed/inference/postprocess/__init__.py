"""Post-processing of scores: median filter, sound event bounding boxes (cSEBBs), their tuning."""
