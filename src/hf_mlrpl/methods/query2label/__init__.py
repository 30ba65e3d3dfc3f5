"""Query2Label: A Simple Transformer Way to Multi-Label Classification (Liu et al., 2021)."""
