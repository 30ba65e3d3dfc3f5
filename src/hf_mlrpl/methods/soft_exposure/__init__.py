"""Exploiting Weakly Supervised Visual Patterns to Learn from Partial Annotations (Kundu and Tighe, NeurIPS 2020)."""
