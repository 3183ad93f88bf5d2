"""What is stored about each turn, and which stored turn answers a cell."""
