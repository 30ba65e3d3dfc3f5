"""The vision-only baseline of Rawlekar, Bhatnagar and Ahuja, "PositiveCoOp: Rethinking Prompting Strategies for
Multi-Label Recognition with Partial Annotations", WACV 2025."""
