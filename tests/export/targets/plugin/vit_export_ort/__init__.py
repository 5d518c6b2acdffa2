"""An example of a package that adds a target: `.ort`, ONNX Runtime's own file format. docs/adding-a-target.md."""
