"""What pyproject.toml cannot say: the wheel takes the bundles from beside the library and puts them inside it."""

import sys
from pathlib import Path

from setuptools import find_namespace_packages, setup

MODELS = Path("HeartLensCAC/Resources/Models")
BUNDLES = {f"heartlens.bundles.{path.parent.name}": str(path.parent) for path in MODELS.glob("*/manifest.json")}
if "editable_wheel" in sys.argv:  # the library then lies in the checkout, and finds them beside itself
    BUNDLES = {}

setup(
    packages=[*find_namespace_packages("HeartLensCAC", include=["heartlens", "heartlens.*"]), *BUNDLES],
    package_dir={"": "HeartLensCAC", **BUNDLES},
    package_data={
        "heartlens": [
            "risk/tables/*.csv",
            "report/**/*.html.jinja",
            "report/*.css",
            "report/**/*.json",
            "report/catalogs/*",
            "report/sheet/fonts/*",
            "cohort/page/*.html.jinja",
            "viewer/static/*",
            "viewer/static/*/*",
            "viewer/copied/*.js",
            "py.typed",
        ],
        **{name: ["*"] for name in BUNDLES},
    },
)
