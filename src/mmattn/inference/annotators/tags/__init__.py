"""Tags of fixed lists: AudioSet by YAMNet, ImageNet by EfficientNet-Lite."""
