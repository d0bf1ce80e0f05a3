"""What TensorFlow's formats have in common: how an operand is read, windows, slices and blocks, over values with channels last."""
