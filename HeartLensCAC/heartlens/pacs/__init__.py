"""Archives of DICOM: asking, fetching and sending by DICOMweb and DIMSE, and a node that scores what it is sent."""
