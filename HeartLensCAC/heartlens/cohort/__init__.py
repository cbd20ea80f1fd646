"""Many scans: plan them, score them on as many workers as there are, and make tables and a page of the results.

All state is files in one folder: killed anywhere, the next run loses at most the scans that were in work.
"""
