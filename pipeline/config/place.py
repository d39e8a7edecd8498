"""Where the project's own files are: beside the package in a checkout, inside of it where it was installed."""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
ROOT = PACKAGE.parent if (PACKAGE.parent / "dvc.yaml").is_file() else PACKAGE / "project"
CONF = ROOT / "conf"
