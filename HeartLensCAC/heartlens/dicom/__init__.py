"""DICOM in and out: series, read, seg, sr, codes."""
