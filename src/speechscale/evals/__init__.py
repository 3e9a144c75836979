"""Zero-shot scores by likelihood: pairs from explicit labels, per-item scores, accuracies with intervals."""
