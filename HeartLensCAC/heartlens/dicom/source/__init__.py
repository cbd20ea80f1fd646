"""What SEG and SR take from the images that a CT was read from, and how they refer to them."""
