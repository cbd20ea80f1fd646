"""A second family of phantoms, which judges alone: hearts from anatomy, images by projection and back-projection."""
