"""Gates, item encoders, sequence backbones, the models built from them, and the methods. Nothing in this package reads files."""
