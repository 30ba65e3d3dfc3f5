"""ML-Decoder: Scalable and Versatile Classification Head (Ridnik et al., WACV 2023)."""
