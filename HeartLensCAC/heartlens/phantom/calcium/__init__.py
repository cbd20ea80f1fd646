"""What is bright: coronary plaques, decoys of them, and traps."""
