"""The panel of the module HeartLensCAC, one file a section; only these files and HeartLensCAC.py know Qt."""
