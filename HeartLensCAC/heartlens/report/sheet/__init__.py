"""The page as pixels and as PDF, set from report.html itself: no word and no picture is made a second time."""
