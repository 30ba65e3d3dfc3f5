"""SARB: Pu, Chen, Wu and Lin, "Semantic-Aware Representation Blending for Multi-Label Image Recognition with Partial
Labels", AAAI 2022."""
