"""The scan: grid, planes, rendering, noise and artifacts."""
