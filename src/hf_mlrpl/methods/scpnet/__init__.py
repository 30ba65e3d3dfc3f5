"""SCPNet: Ding, Wang, Chen, Zhang, Liu, Bao, Yan and Han, "Exploring Structured Semantic Prior for Multi Label
Recognition with Incomplete Labels", CVPR 2023."""
