"""What is written for people: the page, its pictures, and everything beside it."""
