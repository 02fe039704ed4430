"""torchvision's networks for images and clips."""
