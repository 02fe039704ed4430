"""torchvision's networks for pictures and clips."""
