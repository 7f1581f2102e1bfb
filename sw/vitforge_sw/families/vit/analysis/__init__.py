"""Why a quantized ViT is as good as it is: ranges, errors of each tensor, sensitivities, attention maps."""
