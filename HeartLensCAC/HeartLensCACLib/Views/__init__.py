"""What the views show of a case beside its segmentation, and how they are laid out for reading."""
