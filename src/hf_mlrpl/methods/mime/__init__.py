"""MIME: Liu et al., "Revisiting Pseudo-Label for Single-Positive Multi-Label Learning", ICML 2023."""
