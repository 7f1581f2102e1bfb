"""What the hardware did with its time: timeline by chunk and layer, the cycle model beside it."""
