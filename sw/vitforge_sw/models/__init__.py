"""Models: names and hub-form JSON to timm models, checkpoints, images to input bytes."""
