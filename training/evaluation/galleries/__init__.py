"""Slices with what was labeled on them: reference beside prediction, and one network beside another."""
