"""The worklist: scans and cases, scoring many of them, the next one, the prior, and a second reading."""
