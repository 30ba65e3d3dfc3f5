"""SST: Chen et al., "Structured Semantic Transfer for Multi-Label Recognition with Partial Labels", AAAI 2022."""
