"""From trained weights to a bundle: cut-offs, ONNX files, and the proof that both forms agree."""
