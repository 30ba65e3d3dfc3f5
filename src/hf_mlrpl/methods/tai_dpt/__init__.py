"""TaI-DPT: Guo et al., "Texts as Images in Prompt Tuning for Multi-Label Image Recognition", CVPR 2023."""
