"""ULX3S (LFE5U-85F): the digits ViT in on-chip memory, images in over UART, logits and cycle count out."""
