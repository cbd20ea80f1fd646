"""The slice classifier: linear probe on frozen features, fine-tuning, and its files."""
