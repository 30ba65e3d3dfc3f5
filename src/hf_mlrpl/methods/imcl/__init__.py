"""IMCL: Huynh and Elhamifar, "Interactive Multi-Label CNN Learning with Partial Labels", CVPR 2020."""
