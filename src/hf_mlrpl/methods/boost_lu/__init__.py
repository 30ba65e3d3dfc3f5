"""BoostLU: Kim et al., "Bridging the Gap between Model Explanations in Partially Annotated ...", CVPR 2023."""
