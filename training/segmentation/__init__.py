"""The vessel network: architectures, losses, mining of hard negatives, and the best weights."""
