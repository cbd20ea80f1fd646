"""The person without calcium: chest wall, lungs, heart and great vessels."""
