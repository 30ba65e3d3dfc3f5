"""DualCoOp: Sun, Hu and Saenko, "DualCoOp: Fast Adaptation to Multi-Label Recognition with Limited Annotations",
NeurIPS 2022."""
