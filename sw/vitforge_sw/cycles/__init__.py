"""The cycle model: when every row of the real program starts and ends; what estimates say."""
