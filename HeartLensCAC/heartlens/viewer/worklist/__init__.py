"""The list of cases: how far each of them is, and labels of the reviewed ones for training."""
