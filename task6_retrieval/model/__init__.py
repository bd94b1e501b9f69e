"""The dual encoder: audio and text towers, their heads, fusion with metadata."""
