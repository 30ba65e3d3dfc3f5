"""HST: Chen et al., "Heterogeneous Semantic Transfer for Multi-label Recognition with Partial Labels", IJCV 2024."""
