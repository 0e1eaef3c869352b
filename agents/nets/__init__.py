"""Networks that several agents share: image and text encoders, a resampler of tokens, image augmentation."""
