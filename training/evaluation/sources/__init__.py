"""Where patients of an evaluation come from: phantoms, folders and shards, real scans, arms of an experiment."""
