"""What a structured report says, in the shape in which viewers show it."""
