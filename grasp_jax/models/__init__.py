"""Gates, item encoders, sequence backbones, the model made of them, and the methods that name one. Knows no file."""
