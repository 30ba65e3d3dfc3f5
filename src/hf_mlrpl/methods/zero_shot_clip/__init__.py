"""Zero-shot CLIP: Radford et al., "Learning Transferable Visual Models From Natural Language
Supervision", ICML 2021."""
