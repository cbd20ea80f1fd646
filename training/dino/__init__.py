"""DINO and label-guided DINO: views, distillation, features, attention, and the reference form of each."""
