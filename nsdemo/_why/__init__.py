"""Why a step failed: causes that are proven on this machine before they are named."""
