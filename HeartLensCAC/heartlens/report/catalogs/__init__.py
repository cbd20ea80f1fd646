"""Languages of the page: XX.po is where people translate, XX.mo is made of it by scripts/catalogs.py."""
