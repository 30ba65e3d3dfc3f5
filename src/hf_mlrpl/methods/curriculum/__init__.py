"""Curriculum labeling (Durand et al., CVPR 2019)."""
