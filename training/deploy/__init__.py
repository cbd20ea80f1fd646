"""From trained weights to a bundle: writing, calibration, ONNX files, and the proof that both forms agree."""
