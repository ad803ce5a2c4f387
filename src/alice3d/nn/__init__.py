"""Networks: backbones, decoders and heads."""
