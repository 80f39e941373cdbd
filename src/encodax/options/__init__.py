"""Options of training and of losses, declared once: the commands are built from them."""
