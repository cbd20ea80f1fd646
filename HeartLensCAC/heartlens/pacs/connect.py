"""From a profile of pacs.toml to its archive."""

from __future__ import annotations

from heartlens.core.errors import InputRefused
from heartlens.pacs.archive import Archive
from heartlens.pacs.profiles import DicomWebProfile, DimseProfile, Profile


def open_archive(profile: Profile) -> Archive:
    """The archive of a profile.

    Raises
    ------
    InputRefused
        ``input``: its library is not installed, or a credential is not set.
    """
    try:
        if isinstance(profile, DicomWebProfile):
            from heartlens.pacs.dicomweb import DicomWeb

            return DicomWeb(profile)
        assert isinstance(profile, DimseProfile)
        from heartlens.pacs.dimse import Dimse

        return Dimse(profile)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("heartlens"):
            raise
        raise InputRefused(
            "input", f"archives need {error.name}; pip install 'heartlens[pacs]', then run again"
        ) from None
