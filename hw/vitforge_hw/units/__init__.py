"""Stream-in, stream-out arithmetic blocks without a program."""
