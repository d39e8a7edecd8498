"""Names that reach a shell and a path: of models, and of runs. Imports nothing slow."""

import re

from pipeline.errors import UserError

LONGEST = 100
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")
LABEL = re.compile(r"[A-Za-z0-9_]+(-[A-Za-z0-9_.=+-]+)?")
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def require_name(kind: str, name: str) -> str:
    """The name itself. Raises UserError for what is no plain identifier; of a hub's id it says how to add the model."""
    if kind == "model" and HUB_ID.fullmatch(name) and len(name) <= LONGEST:
        raise UserError(
            f"model '{name}' is a hub's id, not a file in conf/model/: copy one there that has `kind: hub`, set repo "
            "to it and revision to its commit, and name the file here"
        )
    if not NAME.fullmatch(name) or ".." in name or len(name) > LONGEST:
        raise UserError(f"{kind} {shown(name)} is no name: use letters, digits and _ . + -, at most {LONGEST} of them")
    return name


def require_label(label: str) -> str:
    """The label itself. Raises UserError for what is no profile, nor a profile with a name behind a dash."""
    if not LABEL.fullmatch(label) or ".." in label or len(label) > LONGEST:
        raise UserError(
            f"profile {shown(label)} is no name: use a file of conf/profile/, or PROFILE-NAME for a run by name"
        )
    return label


def shown(text: str, longest: int = 60) -> str:
    """Text in quotes, short and printable, whatever it holds."""
    text = text if len(text) <= longest else f"{text[:longest]}..."
    return f"'{text}'" if text.isprintable() else repr(text)
