"""Post-processing of scores: sound event bounding boxes (cSEBBs), their tuning. The median filter: metrics/filters."""
