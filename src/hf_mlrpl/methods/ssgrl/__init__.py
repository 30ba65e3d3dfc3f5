"""Learning Semantic-Specific Graph Representation for Multi-Label Image Recognition (Chen et al., ICCV 2019)."""
