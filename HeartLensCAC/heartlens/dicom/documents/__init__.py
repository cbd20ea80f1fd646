"""Documents about a result that any viewer shows: Secondary Capture and Encapsulated PDF."""
