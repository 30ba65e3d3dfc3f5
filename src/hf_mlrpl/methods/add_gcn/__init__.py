"""Attention-Driven Dynamic Graph Convolutional Network for Multi-Label Image Recognition (Ye et al., ECCV 2020)."""
