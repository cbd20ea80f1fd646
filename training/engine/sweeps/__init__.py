"""A sweep: one training loop with many settings. Which cells there are, how each is run, and what came of it."""
