"""HeartLens: find, name and score coronary artery calcium on CT.

Research software; not a medical device (see `heartlens.core.protocol.NOTICE`).
Importing this package costs nothing: every part is imported where it is used.
"""

import os

__version__ = "0.1.0"

# ONNX Runtime sends usage data by default from 1.29 on, and keeps an id of the device for it. It reads this when it is
# loaded, and whoever loads it through HeartLens has imported this package before. Child processes inherit it.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
