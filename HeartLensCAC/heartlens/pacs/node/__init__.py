"""The node: receives CT images, waits until a series is whole, has it scored and sends the result back."""
