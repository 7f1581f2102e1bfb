"""P2-ViT's attention: softmax, shifter array, key loader, and the code ring between them."""
