"""The pages of the service, as the log names them.

Belongs here: which pages there are, and which of them are the outcome. Does not belong here: what
is counted of them (`days.py`, `moves.py`).
"""

from __future__ import annotations

OUTCOME_PAGES = ("Cancel", "Cancellation Confirmation")

# Column -> page. NextSong is counted as `songs`.
PAGES = {
    "home": "Home",
    "thumbs_up": "Thumbs Up",
    "thumbs_down": "Thumbs Down",
    "add_to_playlist": "Add to Playlist",
    "add_friend": "Add Friend",
    "roll_advert": "Roll Advert",
    "help": "Help",
    "about": "About",
    "settings": "Settings",
    "save_settings": "Save Settings",
    "error": "Error",
    "logout": "Logout",
    "upgrade": "Upgrade",
    "submit_upgrade": "Submit Upgrade",
    "downgrade": "Downgrade",
    "submit_downgrade": "Submit Downgrade",
}
