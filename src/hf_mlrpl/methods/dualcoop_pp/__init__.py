"""DualCoOp++: Hu, Sun, Sclaroff and Saenko, "DualCoOp++: Fast and Effective Adaptation to Multi-Label Recognition with
Limited Annotations", TPAMI 2024."""
