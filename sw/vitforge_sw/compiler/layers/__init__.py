"""The integer graph as layers that chunks can take, with the rules of a configuration."""
