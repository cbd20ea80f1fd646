"""Other programs on our labels: what they are given, how they are run, and where their label maps are judged."""
