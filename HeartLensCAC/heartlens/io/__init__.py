"""Volume and label files: NRRD, NIfTI, MetaImage and segmentations; no other part but `dicom` reads a format."""
