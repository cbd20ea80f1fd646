"""Labels that other programs train on: corrected in HeartLens, written in the formats that the field uses.

nnunet   a raw dataset of nnU-Net v2: imagesTr/, labelsTr/, dataset.json
nifti    one CT and one label map a case
coco     one PNG a slice, and annotations with run-length masks
coca     outlines in the shape of COCA's property lists, for the DICOM images they were drawn on

Each carries where its labels come from: who, when, with which version, automatic or edited.
"""

from training.datasets.labels.export import FORMATS, export_labels

__all__ = ["FORMATS", "export_labels"]
