"""The dual encoder, and the systems that it is compared with."""
