"""The networks, and how a scan is laid before them. Files with torch are imported at the moment of use."""
