"""DSRB: Pu et al., "Dual-Perspective Semantic-Aware Representation Blending for Multi-Label Image Recognition with
Partial Labels", 2022."""
