"""HeartLens: find, name and score coronary artery calcium on CT.

Research software; not a medical device (see `heartlens.core.protocol.NOTICE`).
Importing this package costs nothing: every part is imported where it is used.
"""

__version__ = "0.1.0"
