"""Real chests without coronary calcium, marked courses of their arteries, and plaques laid along them."""
